"""Whom an image shows, as files of many images say it: a name, a number, or a one-hot vector.

What a label means must be clear from the label itself. Whatever could mean two things is refused: a wrong reading would
train on wrong people without a sign of it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from facesim.data.layouts import natural_key, some
from facesim.util.errors import InputError
from facesim.util.unused import printable

#: float32 holds every whole number up to this one.
_MOST_IN_FLOAT = 1 << 24
_MOST_IN_INT = (1 << 63) - 1

_NUMBER, _NEGATIVE = re.compile(r"[+-]?\d+(\.0*)?"), re.compile(r"-0*[1-9]\d*(\.0*)?")

#: Of Latin, Greek and Cyrillic letters; other scripts' marks are vowels.
_ACCENTS = re.compile("[\u0300-\u036f]")

_REMEDY = "A label must be a name, a whole number from 0 on, or a one-hot vector."


class Label(NamedTuple):
    """A label as it was found: a name or a number, and how long the one-hot vector was that it stood in, 0 if none."""

    value: int | str
    one_hot: int = 0


class People(NamedTuple):
    """labels: one an image, 0..len(names)-1. names: in natural order. notes: how the labels were read."""

    labels: list[int]
    names: list[str]
    notes: list[str]


def label_of_value(value: object, where: str) -> Label:
    """The label that one value is, of a table's cell or of JSON: a text, a whole number, or a one-hot vector.

    Raises:
        InputError: it is something else; the message begins with `where` and says what.
    """
    if isinstance(value, bytes):  # a text, as some programs write it
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{where} has a label that is no UTF-8: {error}. {_REMEDY}") from None
    if isinstance(value, str):
        return Label(value)
    if isinstance(value, (int, float)):
        return Label(whole(value, where))
    if isinstance(value, list) and value and all(isinstance(one, (int, float)) for one in value):
        return label_of_numbers(value, where)
    raise InputError(f"{where} has a label of type {type(value).__name__}. {_REMEDY}")


def label_of_numbers(values: Sequence[float], where: str) -> Label:
    """The label that one image's numbers are: a single whole number, or the place of the 1 in a one-hot vector.

    Raises:
        InputError: they are something else; the message begins with `where` and says what.
    """
    if len(values) == 1:
        return Label(whole(values[0], where))
    place = one_hot_place(values)
    if place is None:
        shown = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
        raise InputError(
            f"{where} has {len(values):,} numbers as its label ({shown}), which are not one-hot (a single 1, and else "
            f"0). {_REMEDY}"
        )
    return Label(place, len(values))


def whole(value: float, where: str) -> int:
    """A single number as a label.

    Raises:
        InputError: it is no whole number from 0 on.
    """
    is_float = isinstance(value, float)
    if not math.isfinite(value) or value < 0 or value != math.floor(value):
        raise InputError(f"{where} has the label {value}; it must be a whole number from 0 on. {_REMEDY}")
    if value > (_MOST_IN_FLOAT if is_float else _MOST_IN_INT):
        why = f"; above {_MOST_IN_FLOAT:,} a float32 does not hold every whole number" if is_float else ""
        raise InputError(f"{where} has the label {value:g}, too large to number people{why}. {_REMEDY}")
    return int(value)


def check_numbers(written: Iterable[str], source: str) -> None:
    """Refuse labels that are texts, all of them whole numbers, where some are negative and others not: -1 marks what
    is nobody's in data sets that have it, and would become one person.

    Raises:
        InputError: there is one.
    """
    written = set(written)
    negative = sorted(text for text in written if _NEGATIVE.fullmatch(text))
    if 0 < len(negative) < len(written) and all(_NUMBER.fullmatch(text) for text in written):
        raise InputError(
            f"{source} has the label {negative[0]} among numbers; it must be a whole number from 0 on. {_REMEDY} "
            f"Remove what is nobody's."
        )


def one_hot_place(values: Sequence[float]) -> int | None:
    """Where the 1 is if all others are 0, else None."""
    counted = Counter(values)
    if len(values) > 1 and counted[1] == 1 and counted[0] == len(values) - 1:
        return list(values).index(1)
    return None


def people_of(labels: Sequence[Label], source: str) -> People:
    """Who is who. Names that are the same text, composed or decomposed Unicode, are one person.

    Raises:
        InputError: labels of different kinds are mixed, so that they could mean different things.
    """
    kinds = {f"a one-hot vector of {label.one_hot}" if label.one_hot else _kind(label.value) for label in labels}
    if len(kinds) > 1:
        raise InputError(f"{source} has labels of different kinds: {' and '.join(sorted(kinds))}. {_REMEDY}")
    notes = []
    if labels and labels[0].one_hot:
        length = labels[0].one_hot
        notes.append(f"The labels are one-hot vectors of {length}; the place of the 1, from 0, is the label.")
    written = [str(label.value) for label in labels]
    check_numbers(written, source)
    if not all(map(str.strip, written)):
        raise InputError(f"{source} has an image whose label is an empty text. {_REMEDY}")
    same = same_names(written)
    names = sorted(set(same.values()), key=natural_key)
    number_of = {name: number for number, name in enumerate(names)}
    return People([number_of[same[text]] for text in written], names, notes + notes_on_names(written))


def same_names(written: Iterable[str]) -> dict[str, str]:
    """Each name as it is written, to the composed Unicode (NFC), safe to print, that is the person's name."""
    return {text: printable(unicodedata.normalize("NFC", text)) for text in set(written)}


def notes_on_names(written: Iterable[str]) -> list[str]:
    """Notes on names that are written in several ways and are one person's."""
    spellings = Counter(same_names(written).values())
    several = sorted((name for name, count in spellings.items() if count > 1), key=natural_key)
    if not several:
        return []
    shown = some([printable(name) for name in several])
    return [f"{shown}: written in composed and in decomposed Unicode, and taken as one person each."]


def notes_on_alike(names: Iterable[str]) -> list[str]:
    """A note on names that differ in nothing but capitals, accents, blanks, dashes or a number's zeros, and are people
    of their own.
    """
    alike: dict[str, list[str]] = {}
    for name in names:
        plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", name))
        plain = re.sub(r"[\s\u200b-\u200f\u2060\ufeff_-]+", " ", plain).strip().casefold()
        plain = plain.partition(".")[0] if _NUMBER.fullmatch(plain) else plain
        alike.setdefault(plain.lstrip("0") or "0" if plain.isdecimal() else plain, []).append(name)
    several = [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]
    if not several:
        return []
    return [
        f"{some(several)}: names that differ in capitals, accents, blanks, dashes or a number's zeros alone are "
        f"people of their own. Rename them if they are not."
    ]


def _kind(value: int | str) -> str:
    return "a text" if isinstance(value, str) else "a number"

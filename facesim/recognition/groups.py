"""Error rates by group of people, with what so few people allow one to say about them.

An interval is Wilson's for as many trials (images, pairs). Trials of one person are alike, so with few people the true
uncertainty is larger than that, however many images there are: hence the warning, which goes by people.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facesim.data.layouts import some
from facesim.data.prepared import PreparedData
from facesim.data.tables import read_rows
from facesim.runs.evaluations import GroupErrors
from facesim.util.errors import InputError
from facesim.util.files import open_regular
from facesim.util.unused import printable
from facesim.util.words import count_text

#: With fewer people than this a group's error rate says something about these people, and not about a group.
MIN_PEOPLE = 30


class GroupRate(NamedTuple):
    """`errors` in `trials` of `people`; the rate and the bounds of its 95 % interval, 0-1."""

    group: str
    people: int
    trials: int
    errors: int
    rate: float
    low: float
    high: float


def error_rates(groups: Sequence[str | None], people: np.ndarray, wrong: np.ndarray) -> list[GroupRate]:
    """The error rate of each group; people without a group, None, are left out.

    groups: by person. people: who was tried, integers (n,) or, for pairs, (n, 2), both of one group. wrong: bool (n,).
    """
    from scipy.stats import binomtest

    tried = people.reshape(len(wrong), -1)
    rates = []
    for group in dict.fromkeys(group for group in groups if group is not None):
        in_group = np.isin(tried, [person for person, name in enumerate(groups) if name == group]).all(axis=1)
        trials, errors = int(in_group.sum()), int(wrong[in_group].sum())
        if trials:
            interval = binomtest(errors, trials).proportion_ci(method="wilson")
            count = len(np.unique(tried[in_group]))
            bounds = (float(interval.low), float(interval.high))
            rates.append(GroupRate(group, count, trials, errors, errors / trials, *bounds))
    return rates


def warning(rates: Sequence[GroupRate]) -> str | None:
    """What not to conclude from `rates`, of several kinds perhaps; None where every group has people enough in each."""
    fewest: dict[str, int] = {}
    for rate in rates:
        fewest[rate.group] = min(rate.people, fewest.get(rate.group, rate.people))
    few = [f"{group} {people}" for group, people in fewest.items() if people < MIN_PEOPLE]
    if not few:
        return None
    return (
        f"Too few people for a conclusion about groups ({some(few)}; {MIN_PEOPLE} or more are needed of each): these "
        f"are error rates of these people. Intervals count images, and one person's are alike: they are too narrow."
    )


def in_words(rate: dict[str, Any] | GroupErrors) -> str:
    """A rate of `evaluation.json` in words: `2.1 % (1.0 to 4.3), 12 of 560 trials, 40 people`."""
    bounds = f"{rate['low']:.1%} to {rate['high']:.1%}"
    return (
        f"{rate['rate']:.1%} ({bounds}): {rate['errors']} of {rate['trials']}, {count_text(rate['people'], 'person')}"
    )


def with_groups(data: PreparedData, path: Path) -> PreparedData:
    """`data` with the groups of a CSV file with the columns `label` and `group`, one line an identity.

    Identities that it does not list have none; those that it lists and `data` lacks do not matter.

    Raises:
        InputError: the file is not that, or names nobody of the data.
    """
    try:
        open_regular(path).close()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as CSV in UTF-8: {error}; it has the columns label,group") from None
    columns, rows = read_rows(path, ("label", "group"))
    if not {"label", "group"} <= set(columns):
        listed = printable(", ".join(columns)) or "nothing"
        raise InputError(f"{path} holds {listed}; the columns label and group are needed, one line an identity")
    group_of: dict[str, str | None] = {}
    for line, row in rows:
        label = printable(unicodedata.normalize("NFC", row.get("label", "")))
        group = printable(unicodedata.normalize("NFC", row.get("group", ""))) or None
        if not label:
            raise InputError(f"{path} line {line}: label is empty; write whose group the line says, or remove it")
        if group_of.setdefault(label, group) != group:
            raise InputError(f"{path} line {line}: {label} has two groups; give each identity one")
    if not group_of.keys() & set(data.names):
        raise InputError(
            f"{path} names none of the people of {data.name} ({some(data.names)}); it has {some(list(group_of))}"
        )
    return replace(data, groups=tuple(group_of.get(name) for name in data.names))

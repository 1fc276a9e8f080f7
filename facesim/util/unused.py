"""What of a source is not used, and why: counted by reason by whatever reads it, and shown wherever the data is.

Every reader fills a `Tally`; `PreparedData.unused` keeps what it counted, so that `data describe`, the message before
training, `result.json` and the report all tell the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facesim.util.words import count_text

#: So many examples of each reason are kept.
EXAMPLES = 5

#: So many examples of each reason are named in a sentence.
_NAMED = 3


@dataclass(frozen=True)
class Unused:
    """One reason for which something is not used: of how many, in what unit, with the first few examples.

    unit: what is counted, singular: file, folder, link, row, record, image. examples: where these are in the source,
    at most `EXAMPLES`, safe to print.
    """

    reason: str
    count: int
    examples: tuple[str, ...]
    unit: str = "file"

    def __str__(self) -> str:
        """`12 files: no permission to read (Ana/1.jpg, Bo/2.jpg, Bo/3.jpg, ...)`."""
        shown = ", ".join(self.examples[:_NAMED]) + (", ..." if len(self.examples) > _NAMED else "")
        return f"{count_text(self.count, self.unit)}: {self.reason}{f' ({shown})' if shown else ''}"


class Tally:
    """Counts what is not used while a source is read. Not for several threads at the same time."""

    def __init__(self, counted: Iterable[Unused] = ()):
        self._counts: dict[tuple[str, str], int] = {}
        self._examples: dict[tuple[str, str], list[str]] = {}
        self.extend(counted)

    def add(self, reason: str, example: str | None = None, unit: str = "file", count: int = 1) -> None:
        """Count `count` more for `reason`, which has no detail of a single file in it: equal texts are one reason."""
        self._counts[reason, unit] = self._counts.get((reason, unit), 0) + count
        examples = self._examples.setdefault((reason, unit), [])
        if example is not None and len(examples) < EXAMPLES:
            examples.append(printable(example))

    def extend(self, counted: Iterable[Unused]) -> None:
        """Count what another reader counted."""
        for one in counted:
            self.add(one.reason, None, one.unit, one.count)
            examples = self._examples[one.reason, one.unit]
            examples += one.examples[: EXAMPLES - len(examples)]

    @property
    def counted(self) -> tuple[Unused, ...]:
        """Every reason, the most frequent first, equally frequent ones in the order in which they were met."""
        counts = [
            Unused(reason, count, tuple(self._examples[reason, unit]), unit)
            for (reason, unit), count in self._counts.items()
        ]
        return tuple(sorted(counts, key=lambda one: -one.count))


def in_words(counted: Sequence[Unused], most: int = 5) -> str:
    """The most frequent reasons in one line."""
    rest = len(counted) - most
    return "; ".join(map(str, counted[:most])) + (f"; and {count_text(rest, 'more reason')}" if rest > 0 else "")


def printable(text: str) -> str:
    r"""`text` as any terminal, JSON file and page can show it: what is no text, or would move the cursor, is escaped.

    A byte of a file name that is no UTF-8 (a lone surrogate in Python) becomes `\xff`, a line break `\n`. Letters of
    every script stay.
    """
    return "".join(map(_shown, text)) if any(map(_hidden, text)) else text


def _hidden(letter: str) -> bool:
    category = unicodedata.category(letter)
    turns = "\u202a" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"
    return category in ("Cc", "Cs", "Zl", "Zp") or turns or ord(letter) & 0xFFFE == 0xFFFE  # the last: not in XML


def _shown(letter: str) -> str:
    if not _hidden(letter):
        return letter
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")

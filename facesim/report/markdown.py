"""Texts and tables as Markdown shows them, whatever is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from facesim.util.unused import printable

#: What Markdown, or the HTML in it, would not show as it is.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!&~])")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """The lines of a table; its cells are escaped."""
    lines = [f"| {' | '.join(escaped(str(cell)) for cell in cells)} |" for cells in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def escaped(text: str) -> str:
    """A text in one line, as it is."""
    return _SPECIAL.sub(lambda match: "&lt;" if match[0] == "<" else f"\\{match[0]}", printable(text))

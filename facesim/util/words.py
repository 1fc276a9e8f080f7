"""Counts in sentences."""

from __future__ import annotations

_PLURALS = {"identity": "identities", "person": "people"}


def count_text(count: int, one: str, more: str | None = None) -> str:
    """`1 image`, `2,000 people`; `more` is what several are called where an s at the end of `one` does not make it.

    `one` may have words that agree with the count: `count_text(n, "image is", "images are")`.
    """
    return f"{count:,} {one if count == 1 else more or _PLURALS.get(one, f'{one}s')}"

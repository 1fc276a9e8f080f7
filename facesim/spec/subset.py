"""How much of a data set is used: `--subset identities=N,images=M`. Which images that are is `facesim.data.subsets`."""

from __future__ import annotations

import re
from typing import NamedTuple

from facesim.util.errors import InputError

#: On the command line, where a subset may be one of several: no subset.
EVERYTHING = "all"

_PART = re.compile(r"\s*(identities|images)\s*=\s*(\d+)\s*")


class Subset(NamedTuple):
    """At most so many identities, and at most so many images of each; None is all of them."""

    identities: int | None
    images: int | None

    @classmethod
    def parse(cls, text: str) -> Subset:
        """From `identities=20,images=5`, either part of it, or `all`.

        Raises:
            InputError: the text is not that, or there would be nothing to learn or nothing to test.
        """
        if text.strip() == EVERYTHING:
            return cls(None, None)
        parts = [_PART.fullmatch(part) for part in text.split(",")]
        named = {part[1]: int(part[2]) for part in parts if part}
        if not all(parts) or len(named) < len(parts):
            raise InputError(f"must be identities=N,images=M, one of the two, or {EVERYTHING}")
        for name, number in named.items():
            if number < 2:
                why = "to tell one from another" if name == "identities" else "one to train on and one to test on"
                raise InputError(f"{name}={number} is too few: two or more, {why}")
        return cls(named.get("identities"), named.get("images"))

    def __str__(self) -> str:
        given = {name: number for name, number in self._asdict().items() if number is not None}
        return ",".join(f"{name}={number}" for name, number in given.items()) or EVERYTHING

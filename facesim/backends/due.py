"""What is done again and again while a job is followed, each thing in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable


class Due:
    """Says whether it is time again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._next: dict[str, float] = {}

    def __call__(self, what: str, every_s: float) -> bool:
        now = self._clock()
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_s
        return True

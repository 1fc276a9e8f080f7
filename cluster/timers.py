"""What is to be done when: for a loop that waits for other things, too."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable


class Timers:
    """Actions, each with its time; those of equal time in the order in which they were added."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def add(self, in_s: float, action: Callable[[], object]) -> None:
        """Have `action` done in `in_s` seconds."""
        heapq.heappush(self._entries, (time.monotonic() + in_s, next(self._order), action))

    def wait_s(self) -> float | None:
        """Seconds until the next action is due; None when there is none."""
        return max(0.0, self._entries[0][0] - time.monotonic()) if self._entries else None

    def run_due(self) -> None:
        """Do every action whose time has come; what it adds is done the next time."""
        now, due = time.monotonic(), []
        while self._entries and self._entries[0][0] <= now:
            due.append(heapq.heappop(self._entries)[2])
        for action in due:
            action()

    def clear(self) -> None:
        self._entries.clear()

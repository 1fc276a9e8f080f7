"""Seconds that a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def timed(part: Callable[[], object], for_s: float, least: int = 5, most: int = 200) -> list[float]:
    """Seconds of each call, for about `for_s` seconds."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < least or (len(times) < most and time.perf_counter() - begin < for_s):
        started = time.perf_counter()
        part()
        times.append(time.perf_counter() - started)
    return times


def median_s(part: Callable[[], object], for_s: float, warm_up: int = 3) -> float:
    """The median of the seconds that a call takes, once it has been called some times."""
    for _ in range(warm_up):
        part()
    return statistics.median(timed(part, for_s))

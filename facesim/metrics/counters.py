"""What a counter came to that was not counted by the same process all the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from facesim.metrics.schema import MONITOR
from facesim.metrics.table import Points
from facesim.runs.accounting import starts_unix_s
from facesim.runs.events import Event


def counted(points: Points, name: str, role: str, index: int, events: Sequence[Event]) -> np.ndarray:
    """What the counter `name` of a task, or host, had come to at each of its `points`: `running_total` over the run's
    `events`.
    """
    counting = MONITOR if name == "collector_errors" else role  # whose process it is that counts
    return running_total(points, starts_unix_s(events, counting, index), starts_unix_s(events, MONITOR))


def running_total(points: Points, processes_unix_s: Iterable[float], monitors_unix_s: Iterable[float]) -> np.ndarray:
    """What a task's counter had come to at each of its `points`, over all the processes that the task had.

    A new process, one from each of `processes_unix_s` on, counts from 0 again. A new monitor does not know what earlier
    ones had counted of connections that have been closed: what its count has grown by since its first sample is added.
    Between two such moments the highest value counts, for several may have read the counter.
    """
    begins = np.sort(np.array([*processes_unix_s, *monitors_unix_s]))
    part = np.searchsorted(begins, points.time_unix_s, side="right")
    process = np.searchsorted(np.sort(np.array([*processes_unix_s])), points.time_unix_s, side="right")
    totals = np.empty(len(points.value))
    before, highest, of_process = 0.0, 0.0, -1
    for number in np.unique(part):
        here = part == number
        values = np.fmax.accumulate(points.value[here])
        known = min(values[0], highest) if process[here][0] == of_process else 0.0
        totals[here] = before + values - known
        before, highest, of_process = totals[here][-1], values[-1], process[here][0]
    return totals

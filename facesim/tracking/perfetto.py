"""Runs as a trace for ui.perfetto.dev: what ran when, what happened, what was measured, on one time line.

Trace Event Format (Google, "Trace Event Format", 2016): X is a slice, C a counter, i an instant, M a name. A process of
the trace is a run, or a host of it; a thread is a task. Times are microseconds since the run's launch, so that several
runs begin together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from facesim.metrics.files import samples_in
from facesim.metrics.schema import DURATION, METRICS, Sample
from facesim.runs.directory import Run
from facesim.runs.events import Checkpoint, Event, StateEntered, TaskEnded, TaskStarted

#: Of a run, not of one of its hosts.
_RUN = "run"


def write_trace(runs: Sequence[Run], output: Path) -> None:
    places = _Places()
    content = [event for run in runs for event in _of_run(run, places)]
    trace = {"displayTimeUnit": "ms", "traceEvents": [*places.names(), *content]}
    output.write_text(json.dumps(trace), encoding="utf-8")


class _Places:
    """Numbers for processes (run, host) and threads in them, and their names."""

    def __init__(self) -> None:
        self._pids: dict[tuple[str, str], int] = {}
        self._tids: dict[tuple[int, str], int] = {}

    def process(self, run: Run, host: str) -> int:
        return self._pids.setdefault((run.id, host), len(self._pids) + 1)

    def thread(self, run: Run, host: str, name: str) -> dict[str, int]:
        pid = self.process(run, host)
        return {"pid": pid, "tid": self._tids.setdefault((pid, name), len(self._tids) + 1)}

    def names(self) -> Iterator[dict[str, Any]]:
        for (run, host), pid in self._pids.items():
            name = run if host == _RUN else f"{run} {host}"
            yield {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "ts": 0, "args": {"name": name}}
        for (pid, name), tid in self._tids.items():
            yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}


def _of_run(run: Run, places: _Places) -> Iterator[dict[str, Any]]:
    events, samples = run.events(), [Sample(*row) for row in samples_in(run.metrics).itertuples(index=False)]
    times = [*(event.time_unix_s for event in events), *(sample.time_unix_s for sample in samples)]
    if not times:
        return
    first = events[0].time_unix_s if events else min(times)

    def at(moment_unix_s: float) -> int:
        return max(0, round(1e6 * (moment_unix_s - first)))

    hosts = {f"{one.role}-{one.task_index}": one.host for one in samples if one.role != "host"}
    for name, begin, end, thread in _slices(events, max(times)):
        place = places.thread(run, hosts.get(thread, _RUN), thread)
        yield {"ph": "X", "name": name, "cat": "run", "ts": at(begin), "dur": max(0, at(end) - at(begin)), **place}
    for event in events:
        task = getattr(event, "task", None) or getattr(event, "target", None) or "events"
        place = places.thread(run, hosts.get(task, _RUN), task)
        moment, about = at(event.time_unix_s), event.details()
        yield {"ph": "i", "s": "t", "name": event.event, "cat": "event", "ts": moment, "args": about, **place}
    for one in samples:
        metric = METRICS[one.name]
        if metric.kind == DURATION or not math.isfinite(one.value):  # JSON has no NaN
            continue
        task = "" if one.role == "host" else f"{one.role}-{one.task_index} "
        name = f"{task}{one.source} {one.name} [{metric.unit}]"
        place = {"pid": places.process(run, one.host), "tid": 0}
        yield {"ph": "C", "name": name, "ts": at(one.time_unix_s), "args": {one.name: one.value}, **place}


def _slices(events: Sequence[Event], end_unix_s: float) -> Iterator[tuple[str, float, float, str]]:
    """(name, begin, end, thread) of states, of the lives of tasks and of checkpoints; what has not ended ends last."""
    open_: dict[str, tuple[str, float]] = {}

    def closed(thread: str, moment_unix_s: float) -> Iterator[tuple[str, float, float, str]]:
        if thread in open_:
            name, begin = open_.pop(thread)
            yield name, begin, moment_unix_s, thread

    for event in events:
        if isinstance(event, StateEntered):
            yield from closed("state", event.time_unix_s)
            if not event.state.terminal:
                open_["state"] = (str(event.state), event.time_unix_s)
        elif isinstance(event, (TaskStarted, TaskEnded)):
            yield from closed(event.task, event.time_unix_s)
            if isinstance(event, TaskStarted):
                open_[event.task] = ("runs", event.time_unix_s)
        elif isinstance(event, Checkpoint):
            yield "checkpoint", event.time_unix_s - event.seconds, event.time_unix_s, "checkpoints"
    for thread in list(open_):
        yield from closed(thread, end_unix_s)

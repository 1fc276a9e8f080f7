"""Samples as tools for looking at runs take them: by the host and task that they are of, each with a step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from facesim.metrics.schema import Sample


class Point(NamedTuple):
    """A sample as such a tool takes it.

    Attributes:
        node: the host and task that it is of, `algo-1/worker-0`; the host alone, `algo-1`, of what concerns all of it;
            empty for the course of the training.
        metric: what measured it and its name in the schema, `psutil/cpu_percent`.
        step: updates applied by then for the course of the training, else milliseconds since the run was launched.
    """

    node: str
    metric: str
    value: float
    time_unix_s: float
    since_launch_s: float
    step: int

    @property
    def name(self) -> str:
        """Node and metric in one."""
        return f"{self.node}/{self.metric}" if self.node else self.metric


class Points:
    """Makes points of the samples of a run that was launched then, as they come."""

    def __init__(self, launched_unix_s: float):
        self._launched_unix_s = launched_unix_s
        self._updates = 0

    def of(self, samples: Iterable[Sample]) -> Iterator[Point]:
        ordered = sorted(samples, key=lambda sample: sample.time_unix_s)
        updates = {one.time_unix_s: int(one.value) for one in ordered if _of_training(one) and one.name == "updates"}
        for one in ordered:
            since_launch_s = one.time_unix_s - self._launched_unix_s
            if _of_training(one):
                node, step = "", updates.get(one.time_unix_s, self._updates)
                self._updates = step
            else:
                task = "" if one.role == "host" else f"/{one.role}-{one.task_index}"
                node, step = f"{one.host}{task}", round(1000 * since_launch_s)
            yield Point(node, f"{one.source}/{one.name}", float(one.value), one.time_unix_s, since_launch_s, step)


def _of_training(sample: Sample) -> bool:
    return sample.source == "training" and sample.role == "chief"

"""How training scales with workers: speed-up, efficiency, and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from facesim.report.images import unlike
from facesim.report.rows import Row
from facesim.report.statistics import MIN_SEEDS, Ratio, paired_ratio

#: Processors that are busy for more than this share, in percent, bound a training.
BUSY_PERCENT = 85.0


class ScalePoint(NamedTuple):
    """A number of workers: how many times as fast as the reference it trains, and what bounds it, in words.

    disturbed: all its runs, or the reference's, were, so that the speed-up says little.
    """

    workers: int
    row: Row
    speed_up: Ratio
    bound: str
    disturbed: bool

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the speed-up, shown from as many seeds on as allow a statement."""
        low, high = self.speed_up.low, self.speed_up.high
        return None if low is None or high is None or self.speed_up.n < MIN_SEEDS else (low, high)

    @property
    def efficiency(self) -> float:
        """The speed-up of a worker, 1 where each makes the training as much faster as the first did."""
        return self.speed_up.ratio / self.workers


class Scale(NamedTuple):
    """Rows that differ in nothing but the number of their workers, against `reference`."""

    label: str
    reference: Row
    points: tuple[ScalePoint, ...]


def scales(rows: Sequence[Row], labels: Mapping[Row, str]) -> tuple[Scale, ...]:
    """Every set of rows with two or more numbers of workers. `labels` names each row without that number.

    The reference is one process that was tested on the same images, if there is one, else the fewest workers.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if row.replicated and row.values("training_s"):
            groups.setdefault(labels[row], []).append(row)
    alone = [row for row in rows if not row.replicated and row.values("training_s")]
    sets = []
    for label, group in groups.items():
        group.sort(key=_workers)
        if len({_workers(row) for row in group}) < 2:
            continue
        reference = next((row for row in alone if _alike(row, group[0])), group[0])
        points = [point for row in group if (point := _point(row, reference))]
        sets.append(Scale(label, reference, tuple(points)))
    return tuple(sets)


def _workers(row: Row) -> int:
    return int(row.records[0].job.shape.get("workers") or 1)


def _alike(row: Row, other: Row) -> bool:
    """Whether two rows trained the same, but for their strategy, on the same images."""
    return row.backend == other.backend and row.experiment == other.experiment and unlike(row, other) is None


def _point(row: Row, reference: Row) -> ScalePoint | None:
    calm = [side.undisturbed("training_s") for side in (row, reference)]
    disturbed = not set(calm[0]) & set(calm[1])
    sides = [side.values("training_s") for side in (row, reference)] if disturbed else calm
    ratio = paired_ratio(*sides)
    return ratio and ScalePoint(_workers(row), row, ratio, bound_of(row), disturbed)


def bound_of(row: Row) -> str:
    """What bounds a row's training: what its forecast says, or what was measured of its processors and roles.

    Where the processors are not busy, tasks wait for messages or for input: nothing that is recorded tells these apart.
    """
    if row.is_forecast and (record := row.records[0].forecast):
        return record.bound
    if row.counted and len(row.disturbed) == len(row.counted):
        return "disturbed"
    busy = row.estimate("host_cpu_percent") or row.estimate("cpu_percent")
    if busy is None:
        return "not known"
    if busy.mean < BUSY_PERCENT:
        return f"waiting for the network or input (CPUs {busy.mean:.0f} % busy)"
    used = row.counted[0].result.resources
    cpu = {role: use.cpu_percent_mean or 0.0 for role, use in used.items() if role != "host"}
    return "server" if cpu.get("ps", 0.0) > sum(cpu.values()) / 2 else "compute"

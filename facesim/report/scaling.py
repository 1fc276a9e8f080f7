"""How training scales with workers: speed-up, efficiency, and what bounds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from facesim.report.images import unlike
from facesim.report.rows import Row, unlike_hosts
from facesim.report.statistics import MIN_SEEDS, Ratio, paired_ratio

#: Processors that are busy for more than this share, in percent, bound a training.
BUSY_PERCENT = 85.0


#: What only a strategy of several workers has.
_OF_SEVERAL = frozenset({"workers", "ps", "workers_per_host", "ps_instance_type", "began"})


class ScalePoint(NamedTuple):
    """A number of workers: how many times as fast as the reference, of `reference_workers`, it trains, and what bounds
    it, in words.

    disturbed: all its runs, or the reference's, were, so that the speed-up says little.
    """

    workers: int
    reference_workers: int
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
        """The speed-up, of what as many times the reference's workers could have at the most, 1."""
        return self.speed_up.ratio / self.ideal

    @property
    def ideal(self) -> float:
        """The speed-up if each worker made the training as much faster as one of the reference's."""
        return self.workers / self.reference_workers


class Scale(NamedTuple):
    """Rows that differ in nothing but the number of their workers, against `reference`."""

    label: str
    reference: Row
    points: tuple[ScalePoint, ...]


def scales(
    rows: Sequence[Row], labels: Mapping[Row, str], facets: Mapping[Row, Mapping[str, Any]]
) -> tuple[Scale, ...]:
    """Every set of rows with two or more numbers of workers, and hosts of one size. `labels` names each row without
    that number, `facets` is what was run.

    The reference is one process that is like them in all else and was tested on the same images, if there is one, else
    the fewest workers.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        if row.replicated and row.values("training_s"):
            groups.setdefault((labels[row], row.cpu_factors), []).append(row)
    alone = [row for row in rows if not row.replicated and row.values("training_s")]
    sets = []
    for (label, _), group in groups.items():
        group.sort(key=_workers)
        if len({_workers(row) for row in group}) < 2:
            continue
        alike = (
            row
            for row in alone
            if _alike(facets[row], facets[group[0]])
            and not unlike_hosts([row, group[0]])
            and unlike(row, group[0]) is None
        )
        reference = next(alike, group[0])
        if points := tuple(point for row in group if (point := _point(row, reference))):
            sets.append(Scale(label, reference, points))
    return tuple(sets)


def _workers(row: Row) -> int:
    return int(row.records[0].job.shape.get("workers") or 1)


def _alike(alone: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether what one process ran is what others ran, but for their number and what only their strategy has."""
    return all(other[name] == alone[name] for name in alone.keys() & other.keys() - _OF_SEVERAL)


def _point(row: Row, reference: Row) -> ScalePoint | None:
    calm = [side.undisturbed("training_s") for side in (row, reference)]
    disturbed = not set(calm[0]) & set(calm[1])
    sides = [side.values("training_s") for side in (row, reference)] if disturbed else calm
    ratio = paired_ratio(*sides)
    if ratio is None:
        return None
    reference_workers = _workers(reference) if reference.replicated else 1
    return ScalePoint(_workers(row), reference_workers, row, ratio, bound_of(row), disturbed)


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

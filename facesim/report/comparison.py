"""From the records of runs to a `Comparison`: one row a strategy (on one backend and shape), seeds taken together.

Only completed runs count, one a seed. Runs whose experiments differ never share a row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facesim.report.classical import Classical, classical
from facesim.report.curves import Curve, by_size, learning_curves, parse, subset_of
from facesim.report.fairness import warnings
from facesim.report.load import RunRecord
from facesim.report.measures import Measure, measures
from facesim.report.rows import Row
from facesim.report.statistics import Difference, Ratio, mean_interval, paired_difference, paired_ratio
from facesim.report.verdict import Finding, findings, headlines
from facesim.training import STRATEGIES, STRATEGY_OPTIONS

#: The default target of time-to-accuracy: this share of the lowest mean final accuracy, so that every row can reach it.
TARGET_SHARE = 0.95

#: Where experiments differ in one of these, rows were tested on different images: their accuracies are not compared.
TEST_FIELDS = ("data", "held_out", "subset")


@dataclass(frozen=True)
class Contrast:
    """One row against the reference row, paired by seed. Ratios are row over reference; a missing one is None."""

    row: Row
    reference: Row
    training: Ratio | None
    total: Ratio | None
    time_to_accuracy: Ratio | None
    instance_s: Ratio | None
    accuracy: Difference | None  # None: not tested on the same images


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that a report says, as data.

    `headlines` are the verdict in one sentence a contrast, `findings` the same at length, `warnings` what makes rows
    unlike each other apart from their strategy, or was left out, `baselines` what needs no network. With `curves`, of
    runs on several subsets of the data, rows are compared with those of their own size, and `baselines` are of the
    largest.
    """

    rows: tuple[Row, ...]
    measures: dict[str, Measure]
    target_accuracy: float | None
    target_origin: str
    contrasts: tuple[Contrast, ...]
    headlines: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]
    baselines: tuple[Classical, ...]
    curves: tuple[Curve, ...]

    @property
    def records(self) -> list[RunRecord]:
        """Every run, counted or not, in the order of the rows."""
        return [record for row in self.rows for record in row.records]


def compare_records(records: Sequence[RunRecord], target_accuracy: float | None = None) -> Comparison:
    """Group `records`, estimate, test and put into words.

    Args:
        target_accuracy: the held-out accuracy of time-to-accuracy, in percent; left out, `TARGET_SHARE` says which.
    """
    grouped = _grouped(records)
    finals = [
        mean_interval(accuracies).mean
        for group in grouped.values()
        if (
            accuracies := [
                100 * r.result.held_out_accuracy for r in _counted(group) if r.result.held_out_accuracy is not None
            ]
        )
    ]
    origin = "chosen"
    if target_accuracy is None and finals:
        target_accuracy = TARGET_SHARE * min(finals)
        origin = f"{TARGET_SHARE * 100:.0f} % of the lowest mean final accuracy, {min(finals):.1f} %"
    lines = measures(target_accuracy)
    rows = tuple(
        Row(label, tuple(group), _counted(group), lines)
        for label, group in zip(_labels(grouped), grouped.values(), strict=True)
    )
    curves = learning_curves(rows, dict(zip(rows, _labels(grouped, without={"subset"}), strict=True)))
    sizes = _by_size(rows) if curves else [list(rows)]
    pairs = [(row, of_size[0]) for size in sizes for of_size in [[r for r in size if r.counted]] for row in of_size[1:]]
    contrasts = tuple(_contrast(row, reference, len(pairs)) for row, reference in pairs)
    baselines = classical(sizes[-1]) if sizes else ()
    return Comparison(
        rows=rows,
        measures=lines,
        target_accuracy=target_accuracy,
        target_origin=origin,
        contrasts=contrasts,
        headlines=headlines(rows, contrasts, curves),
        findings=findings(rows, contrasts, target_accuracy, baselines, sizes[-1] if sizes else ()),
        warnings=tuple(dict.fromkeys(told for size in sizes for told in warnings(size, target_accuracy))),
        baselines=baselines,
        curves=curves,
    )


def _by_size(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each subset of the data, the smallest first."""
    subsets = sorted({subset_of(row) for row in rows}, key=by_size)
    return [[row for row in rows if subset_of(row) == subset] for subset in subsets]


def _grouped(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Records by what was run, seed apart; `single` first, then in the order of `STRATEGIES`, what has less first."""
    order = list(STRATEGIES)

    def place(record: RunRecord) -> tuple[int, str, tuple[float, float], str]:
        strategy, size = record.job.strategy, by_size(parse(record.job.experiment.get("subset")))
        facets = json.dumps({name: "" if value is None else value for name, value in _facets(record).items()})
        return (order.index(strategy) if strategy in order else len(order), strategy, size, facets)

    groups: dict[str, list[RunRecord]] = {}
    for record in sorted(
        records, key=lambda record: (*place(record), record.result.seed, record.launched_unix_s or 0.0)
    ):
        groups.setdefault(json.dumps([record.job.strategy, _facets(record)], sort_keys=True), []).append(record)
    return groups


def _counted(group: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """The completed runs, the newest of each seed."""
    newest = {record.result.seed: record for record in group if record.completed}
    return tuple(newest.values())


def _facets(record: RunRecord) -> dict[str, Any]:
    """What was run, strategy and seed apart. What means nothing to the strategy is left out."""
    job = record.job
    strategy = STRATEGIES.get(job.strategy)
    unused = set() if strategy is None else STRATEGY_OPTIONS - set(strategy.options)
    shape = {name: value for name, value in job.shape.items() if name not in unused}
    experiment = {name: value for name, value in job.experiment.items() if name not in unused | {"seed"}}
    return {"backend": job.backend, "capacity": "spot" if job.spot else "on demand", **shape, **experiment}


def _labels(groups: dict[str, list[RunRecord]], without: Set[str] = frozenset()) -> list[str]:
    """A name for each group: its strategy, with what, apart from `without`, tells it from others of the strategy."""
    facets = [
        (group[0].job.strategy, {name: value for name, value in _facets(group[0]).items() if name not in without})
        for group in groups.values()
    ]
    labels = []
    for strategy, own in facets:
        alike = [other for name, other in facets if name == strategy]
        telling = {name: [other.get(name) for other in alike if other.get(name) != own[name]] for name in own}
        told = [_told(name, own[name], others) for name, others in telling.items() if others]
        labels.append(strategy + (f" ({', '.join(told)})" if told else ""))
    return labels


def _told(name: str, value: Any, others: list[Any]) -> str:
    """`4 workers`, `2 ps`, `batch 64`; of a place its last part, where that tells it from `others`."""
    if name == "subset":
        return str(parse(value)).replace(",", " ") if value else "all the data"
    if name in ("workers", "ps"):
        return f"{value} {name.removesuffix('s') if name == 'workers' and value == 1 else name}"
    if value is None:
        value = "automatic" if name == "threads" else "none"
    elif name in ("data", "pretrained") and Path(value).name not in {Path(other).name for other in others if other}:
        value = Path(value).name
    return f"{name.replace('_', ' ')} {value}"


def _contrast(row: Row, reference: Row, comparisons: int) -> Contrast:
    def ratio(name: str) -> Ratio | None:
        first, second = ({seed: v for seed, v in side.values(name).items() if v > 0} for side in (reference, row))
        return paired_ratio(first, second, comparisons=comparisons)

    same_test = all(row.experiment.get(name) == reference.experiment.get(name) for name in TEST_FIELDS)
    return Contrast(
        row=row,
        reference=reference,
        training=ratio("training_s"),
        total=ratio("total_s"),
        time_to_accuracy=ratio("time_to_accuracy_s") if row.all_reached and reference.all_reached else None,
        instance_s=ratio("instance_s"),
        accuracy=paired_difference(
            reference.values("held_out_accuracy_percent"),
            row.values("held_out_accuracy_percent"),
            comparisons=comparisons,
        )
        if same_test
        else None,
    )

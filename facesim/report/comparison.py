"""From the records of runs to a `Comparison`: one row a strategy (on one backend and shape), seeds taken together.

Only completed runs count, one a seed. Runs whose experiments differ never share a row.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.report.classical import Classical, classical
from facesim.report.curves import Curve, by_size, learning_curves, parse, subset_of
from facesim.report.fairness import warnings
from facesim.report.forecast_check import ForecastCheck, check_forecasts
from facesim.report.images import by_test, recorded, unlike
from facesim.report.load import RunRecord
from facesim.report.measures import Measure, measures
from facesim.report.rows import Row, shape_in_words, unlike_hosts
from facesim.report.scaling import Scale, scales
from facesim.report.settings import settings
from facesim.report.statistics import MARGIN, Difference, Ratio, paired_differences, paired_ratios
from facesim.report.verdict import Finding, findings, headlines
from facesim.report.words import percent
from facesim.spec.frameworks import FRAMEWORKS
from facesim.spec.strategies import STRATEGIES, known_strategy, options_without_meaning
from facesim.util.errors import InputError
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.report.published import Published

#: The default target of time-to-accuracy: this share of the lowest mean final accuracy, so that every row can reach it.
TARGET_SHARE = 0.95


@dataclass(frozen=True)
class Contrast:
    """One row against the reference row, paired by seed. Ratios are row over reference; a missing one is None.

    Runs whose times were disturbed are in no ratio, and there is none where hosts had different shares of a machine.
    Where `other_images` says why the two were not tested on the same images, nothing of accuracy is compared;
    `images_recorded` says whether that is known of the images themselves, or taken from the options.
    """

    row: Row
    reference: Row
    training: Ratio | None
    total: Ratio | None
    time_to_accuracy: Ratio | None
    instance_s: Ratio | None
    accuracy: Difference | None
    other_images: str | None
    images_recorded: bool


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that a report says, as data.

    `headlines` are the verdict in one sentence a contrast, `findings` the same at length, `warnings` what makes rows
    unlike each other apart from their strategy, or was left out, `baselines` what needs no network. With `curves`, of
    runs on several subsets of the data, rows are compared with those of their own size, and `baselines` are of the
    largest. `tests` are the rows that ran and completed, those together that were tested on the same images; each has a
    target accuracy of its own, and `target_accuracy` is that of the first. `baselines` are of `beside_baselines`'
    images. `forecast_checks` holds runs against what was forecast of them. `scales` are rows that
    differ in the number of workers, `published` is a table to show beside.
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
    beside_baselines: tuple[Row, ...]
    curves: tuple[Curve, ...]
    tests: tuple[tuple[Row, ...], ...]
    forecast_checks: tuple[ForecastCheck, ...] = ()
    scales: tuple[Scale, ...] = ()
    published: Published | None = None

    @property
    def target_in_words(self) -> str | None:
        """What the target of time-to-accuracy is, as a clause; None where there is none."""
        if self.target_accuracy is None:
            return None
        if len(targets_of(self.tests)) > 1:
            return f"its target is {self.target_origin}, for each row of those that were tested on its images"
        return f"its target, {percent(self.target_accuracy)}, is {self.target_origin}"

    def test_of(self, row: Row) -> str | None:
        """A letter for the images that a row was tested on, where not all rows were tested on the same."""
        number = next((number for number, test in enumerate(self.tests) if row in test), None)
        if len(self.tests) < 2 or number is None:
            return None
        return chr(ord("A") + number) if number < 26 else str(number + 1)

    @property
    def records(self) -> list[RunRecord]:
        """Every run, counted or not, in the order of the rows."""
        return [record for row in self.rows for record in row.records]


def compare_records(
    records: Sequence[RunRecord], target_accuracy: float | None = None, margin: float = MARGIN
) -> Comparison:
    """Group `records`, estimate, test and put into words.

    Args:
        target_accuracy: the held-out accuracy of time-to-accuracy, 0-1; left out, `TARGET_SHARE` says which.
        margin: accuracies closer than this count as the same, 0-1.

    Raises:
        InputError: the target or the margin is no share.
    """
    if target_accuracy is not None:
        _check_share("target_accuracy", target_accuracy, such_as=0.9)
    _check_share("margin", margin, such_as=MARGIN)
    content = _changed_content(records)
    grouped = _grouped(records, content)
    untimed = tuple(
        Row(label, tuple(group), _counted(group), measures(None))
        for label, group in zip(_labels(grouped, content), grouped.values(), strict=True)
    )
    # A target says how hard the test is, so there is one for each; a row without completed runs reaches none.
    lowest = {row: _lowest_final(test) for test in by_test(untimed) for row in test}
    targets = {row: _target(lowest.get(row), target_accuracy) for row in untimed}
    rows = tuple(replace(row, measures=measures(targets[row]), target_accuracy=targets[row]) for row in untimed)
    tests = by_test(rows)
    distinct = targets_of(tests)
    lines = measures(distinct.pop() if len(distinct) == 1 else None)
    origin = "chosen"
    if target_accuracy is None:
        origin = f"{TARGET_SHARE * 100:.0f} % of the lowest mean final accuracy"
        finals = {final for final in lowest.values() if final is not None}
        origin += f", {percent(finals.pop())}" if len(finals) == 1 else ""
    target_accuracy = tests[0][0].target_accuracy if tests else None
    curves = learning_curves(rows, dict(zip(rows, _labels(grouped, content, without={"subset"}), strict=True)))
    sizes = _by_size(rows) if curves else [list(rows)]
    pairs = [pair for size in sizes for pair in _pairs(size)]
    contrasts = _contrasts(pairs, margin)
    beside_baselines = next(iter(by_test(sizes[-1])), ()) if sizes else ()
    baselines = classical(beside_baselines)
    forecast_checks = check_forecasts(rows)
    return Comparison(
        rows=rows,
        measures=lines,
        target_accuracy=target_accuracy,
        target_origin=origin,
        contrasts=contrasts,
        headlines=headlines(rows, contrasts, curves),
        findings=findings(rows, contrasts, baselines, beside_baselines, forecast_checks),
        warnings=tuple(dict.fromkeys(warning for size in sizes for warning in warnings(size))),
        baselines=baselines,
        beside_baselines=beside_baselines,
        curves=curves,
        tests=tests,
        forecast_checks=forecast_checks,
        scales=scales(
            rows,
            dict(zip(rows, _labels(grouped, content, without={"workers"}), strict=True)),
            {row: _facets(row.records[0]) for row in rows},
        ),
    )


def targets_of(tests: Sequence[Sequence[Row]]) -> set[float | None]:
    """The targets of time-to-accuracy of the rows that were tested."""
    return {row.target_accuracy for test in tests for row in test}


def _lowest_final(test: Sequence[Row]) -> float | None:
    """The lowest of the rows' mean final accuracies, 0-1."""
    finals = [estimate.mean for row in test if (estimate := row.estimate("held_out_accuracy"))]
    return min(finals, default=None)


def _target(lowest: float | None, chosen: float | None) -> float | None:
    return chosen if chosen is not None else None if lowest is None else TARGET_SHARE * lowest


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Each row but the first with the row that it is compared with: the first that was tested on the same images, and
    for the first of its test the first of all.
    """
    first = {row: test[0] for test in by_test(rows) for row in test}
    counted = [row for row in rows if row.counted]
    return [(row, first[row] if first.get(row, row) is not row else counted[0]) for row in counted[1:]]


def _by_size(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each subset of the data, the smallest first."""
    subsets = sorted({subset_of(row) for row in rows}, key=by_size)
    return [[row for row in rows if subset_of(row) == subset] for subset in subsets]


def _grouped(records: Sequence[RunRecord], content: Mapping[RunRecord, str]) -> dict[str, list[RunRecord]]:
    """Records by what was run, seed apart; `single` first, then in the order of `STRATEGIES`, what has less first."""
    order = list(STRATEGIES)
    listed = {name: number for number, name in enumerate(FRAMEWORKS)}

    def place(record: RunRecord) -> tuple[Any, ...]:
        strategy, size = record.job.strategy, by_size(parse(record.job.experiment.get("subset")))
        facets = _facets(record)
        facets["framework"] = listed.get(facets["framework"], facets["framework"])
        facets = [(name, _in_order(value)) for name, value in facets.items()]
        return (order.index(strategy) if strategy in order else len(order), strategy, size, facets)

    groups: dict[str, list[RunRecord]] = {}
    for record in sorted(
        records, key=lambda record: (*place(record), record.result.seed, record.launched_unix_s or 0.0)
    ):
        key = [record.job.strategy, _facets(record), content.get(record)]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(record)
    return groups


def _in_order(value: Any) -> tuple[bool, float, str]:
    """A sort key of any option's values: nothing first, numbers by their size, then texts."""
    number = isinstance(value, (int, float))
    return (not number and value is not None, float(value) if number else -math.inf, "" if number else str(value or ""))


def _changed_content(records: Sequence[RunRecord]) -> dict[RunRecord, str]:
    """The content of the data by run, for runs that differ in nothing but that: it changed between them.

    Runs that did not complete are not told apart. A subset's content is its seed's.
    """
    contents_of: dict[str, dict[RunRecord, str]] = {}
    for record in records:
        if record.completed and not record.job.data_spec.subset:
            alike = json.dumps([record.job.strategy, _facets(record)], sort_keys=True)
            contents_of.setdefault(alike, {})[record] = record.result.data.content_sha256 or "unknown"
    changed = [contents for contents in contents_of.values() if len(set(contents.values())) > 1]
    return {record: content for contents in changed for record, content in contents.items()}


def _counted(group: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """The completed runs, the newest of each seed."""
    newest = {record.result.seed: record for record in group if record.completed}
    return tuple(newest.values())


def _facets(record: RunRecord) -> dict[str, Any]:
    """What was run, strategy and seed apart. What means nothing to the strategy is left out."""
    job = record.job
    unused = options_without_meaning(job.strategy) if known_strategy(job.strategy) else set()
    shape = {name: value for name, value in job.shape.items() if name not in unused}
    experiment = {name: value for name, value in job.experiment.items() if name not in unused | {"seed"}}
    # A run that was resumed with another shape is no run of either.
    began = [shape_in_words(job.strategy, earlier) for earlier in record.earlier_shapes]
    now = shape_in_words(job.strategy, job.shape)
    return {
        "backend": job.backend,
        "framework": ", then ".join(record.frameworks),
        "capacity": "spot" if job.spot else "on demand",
        # What was computed never stands among what was run.
        "numbers": record.result.measurement if record.is_forecast else None,
        **shape,
        "began": ", then ".join(dict.fromkeys(began)) if set(began) - {now} else None,
        **experiment,
        **settings(job),
    }


def _labels(
    groups: dict[str, list[RunRecord]], content: Mapping[RunRecord, str], without: Set[str] = frozenset()
) -> list[str]:
    """A name for each group: its strategy, with what, apart from `without`, tells it from others of the strategy."""
    facets, sometimes = [], set[str]()
    for first in (group[0] for group in groups.values()):
        values = {**_facets(first), "content": content.get(first)}
        facets.append((first.job.strategy, {name: value for name, value in values.items() if name not in without}))
        sometimes.update(settings(first.job))
    labels = []
    for strategy, values in facets:
        always = values.keys() - sometimes
        alike = [other for name, other in facets if name == strategy]
        telling = {
            # A row of another backend, or without spot capacity, has not all settings: that it has none tells nothing.
            name: [other.get(name) for other in alike if other.get(name) != values[name] and name in {*other, *always}]
            for name in values
        }
        differences = [
            text for name, others in telling.items() if others and (text := _difference(name, values[name], others))
        ]
        labels.append(strategy + (f" ({', '.join(differences)})" if differences else ""))
    return labels


def _difference(name: str, value: Any, others: list[Any]) -> str:
    """`4 workers`, `2 ps`, `batch 64`; of a place its last part, where that tells it from `others`."""
    if name == "subset":
        return str(parse(value)).replace(",", " ") if value else "all the data"
    if name in ("workers", "ps"):
        return count_text(value, "worker") if name == "workers" else f"{value} ps"
    if name == "content":
        return f"data with SHA-256 {value[:8]}" if value else ""
    if name == "numbers":
        return value or ""
    if name == "began":
        return f"began with {value}" if value else ""
    if value is None:
        value = "automatic" if name == "threads" else "none"
    elif name in ("data", "test", "model", "pretrained") and Path(value).name not in {
        Path(other).name for other in others if other
    }:
        value = Path(value).name
    return f"{name.replace('_', ' ')} {value}"


def _check_share(name: str, given: float, such_as: float) -> None:
    if isinstance(given, bool) or not isinstance(given, Real) or not 0 < given <= 1:
        example = f"{such_as:g} for {such_as * 100:g} %"
        raise InputError(
            f"{name} is {given!r}: it must be a share above 0 and up to 1, such as {example}",
            field=name,
            value=given,
            allowed="above 0, at most 1",
            remedy=f"give a share, such as {example}",
        )


def _contrasts(pairs: Sequence[tuple[Row, Row]], margin: float) -> tuple[Contrast, ...]:
    """Each row against its reference; the statements of one kind are corrected for their number."""

    def ratios(name: str, comparable: Sequence[bool]) -> list[Ratio | None]:
        sides = [
            tuple(
                {seed: value for seed, value in side.undisturbed(name).items() if value > 0}
                for side in (reference, row)
            )
            if fits
            else ({}, {})
            for (row, reference), fits in zip(pairs, comparable, strict=True)
        ]
        return paired_ratios([(first, second) for first, second in sides])

    others = [unlike(row, reference) for row, reference in pairs]
    same = [other is None for other in others]
    timed = [not unlike_hosts([row, reference]) for row, reference in pairs]
    reached = [
        fits and time and row.all_reached and ref.all_reached
        for (row, ref), fits, time in zip(pairs, same, timed, strict=True)
    ]
    accuracy = "held_out_accuracy"
    compared = paired_differences(
        [(ref.values(accuracy), row.values(accuracy)) for (row, ref), fits in zip(pairs, same, strict=True) if fits],
        margin=margin,
    )
    accuracies = iter(compared)
    return tuple(
        Contrast(
            row=row,
            reference=reference,
            training=training,
            total=total,
            time_to_accuracy=to_accuracy,
            instance_s=instance_s,
            accuracy=next(accuracies) if other is None else None,
            other_images=other,
            images_recorded=recorded(row, reference),
        )
        for (row, reference), other, training, total, to_accuracy, instance_s in zip(
            pairs,
            others,
            ratios("training_s", timed),
            ratios("total_s", timed),
            ratios("time_to_accuracy_s", reached),
            ratios("instance_s", timed),
            strict=True,
        )
    )

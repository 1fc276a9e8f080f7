"""The comparison as a table of text: what the terminal and the HTML both show, lines down and strategies across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from facesim.report.comparison import Comparison, targets_of
from facesim.report.curves import Point
from facesim.report.load import RunRecord
from facesim.report.measures import Measure
from facesim.report.rows import Row
from facesim.report.words import estimated, percent, percent_interval, quantity
from facesim.util.words import count_text

NOTHING = "–"

#: What is shown of many rows, and on a study's page.
MAIN_MEASURES = (
    "held_out_accuracy", "training_accuracy", "training_s", "time_to_accuracy_s", "images_per_s",
    "launch_to_first_step_s", "memory_peak_task_bytes", "instance_s",
)  # fmt: skip

#: The audit's verdict as the report has it.
AUDIT_WORDS = {
    "apart": "APART",
    "together": "together",
    "unknown": "unknown",
    "single": "one replica",
    None: NOTHING,
}


class Cell(NamedTuple):
    """A text; `alarm` asks for red; `value` is what it is sorted by, None where it is no number."""

    text: str
    alarm: bool = False
    value: float | None = None


class Line(NamedTuple):
    """One line of the table: a label and a cell a row of the comparison."""

    section: str
    label: str
    cells: tuple[Cell, ...]


def _audit(row: Row) -> Cell:
    words = AUDIT_WORDS.get(row.audit, row.audit or NOTHING)
    idle = row.idle_accelerators is not None
    return Cell(f"{words}, ON THE CPU" if idle else words, alarm=idle or row.audit == "apart")


def lines(comparison: Comparison) -> list[Line]:
    """Every line of the table, section by section; a line that no row has a value for is left out."""
    rows = comparison.rows
    table = [
        Line("Runs", "numbers are", tuple(Cell(row.measurement or NOTHING) for row in rows)),
        Line("Runs", "backend", tuple(Cell(row.backend) for row in rows)),
        Line("Runs", "shape", tuple(Cell(row.shape) for row in rows)),
        Line("Runs", "runs", tuple(Cell(row.states, alarm="Failed" in row.states) for row in rows)),
        Line(
            "Runs",
            "trained together?",
            tuple(_audit(row) for row in rows),
        ),
    ]
    if any(row.resumed for row in rows):
        table.append(Line("Runs", "resumed", tuple(Cell(_of_runs(row.resumed, row.records)) for row in rows)))
    if any(row.disturbed for row in rows):
        cells = tuple(Cell(_of_runs(len(row.disturbed), row.counted), alarm=bool(row.disturbed)) for row in rows)
        table.append(Line("Runs", "times disturbed", cells))
    if len(comparison.tests) > 1:
        letters = [comparison.test_of(row) for row in rows]
        table.append(Line("Runs", "tested on", tuple(Cell(f"images {a}" if a else NOTHING) for a in letters)))
    targets = targets_of(comparison.tests)
    for name, measure in comparison.measures.items():
        if name == "target_accuracy" and len(targets) < 2:
            continue
        cells = tuple(Cell(cell_text(row, name, measure), value=_mean(row, name)) for row in rows)
        if any(cell.text != NOTHING for cell in cells):
            table.append(Line(measure.section, measure.label, cells))
        if name == "total_s" and any(row.is_forecast for row in rows):
            table.append(Line(measure.section, "… 80 % interval of the forecast", tuple(map(_forecast_interval, rows))))
        if name == "chance_accuracy" and any(row.p_of_chance() is not None for row in rows):
            cells = tuple(Cell(_p_cell(row.p_of_chance())) for row in rows)
            table.append(Line(measure.section, "… p of being no better", cells))
        if name == "held_out_accuracy" and any(intervals := [row.accuracy_interval() for row in rows]):
            cells = tuple(Cell(f"{percent_interval(i)} %" if i else NOTHING) for i in intervals)
            table.append(Line(measure.section, "… 95 % interval", cells))
    return table


def _mean(row: Row, name: str) -> float | None:
    estimate = row.estimate(name)
    return estimate and estimate.mean


def _p_cell(p: float | None) -> str:
    return NOTHING if p is None else f"{p:.2g}"


def _forecast_interval(row: Row) -> Cell:
    record = row.records[0].forecast if row.is_forecast else None
    return Cell(f"{quantity(record.low_s, 's')} to {quantity(record.high_s, 's')}" if record else NOTHING)


def _of_runs(number: int, runs: Sequence[RunRecord]) -> str:
    return f"{number} of {count_text(len(runs), 'run')}" if number else "no" if runs else NOTHING


def cell_text(row: Row, name: str, measure: Measure) -> str:
    """A measure of a row, as a table shows it."""
    estimate = row.estimate(name)
    if measure.unit == "USD" and not row.priced:
        return NOTHING  # seconds of this machine times the price of another are what neither of them costs
    if "to_accuracy" in name and row.counted and (estimate is None or estimate.n < len(row.counted)):
        if estimate is None:
            return "not reached" if row.evaluated else NOTHING
        emulated = ", emulated" if measure.section == "Cost" and not row.priced else ""
        return (
            f"{quantity(estimate.mean, measure.unit)} ({estimate.n} of {count_text(len(row.counted), 'run')}{emulated})"
        )
    if estimate is None:
        return NOTHING
    if measure.section == "Cost" and not row.priced:
        return f"{estimated(estimate, measure.unit)}, emulated"
    # The accuracies' intervals have a line, or a plot, of their own.
    return quantity(estimate.mean, measure.unit) if name == "held_out_accuracy" else estimated(estimate, measure.unit)


def curve_lines(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """The learning curves as a table: a line a size, its name and a cell a curve."""
    sizes: dict[str, str] = {}
    for curve in comparison.curves:
        for point in curve.points:
            sizes.setdefault(point.size, f"{point.training_examples:,.0f} of {count_text(point.identities, 'person')}")
    return [
        (
            name,
            [
                next((_point(point) for point in curve.points if point.size == size), NOTHING)
                for curve in comparison.curves
            ],
        )
        for size, name in sizes.items()
    ]


def _point(point: Point) -> str:
    bounds = f" ({percent_interval(point.interval)})" if point.interval else ""
    return f"{percent(point.accuracy.mean)}{bounds}"

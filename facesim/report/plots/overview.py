"""The first picture of a report: what time costs, and how accurate it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from facesim.report.cells import AUDIT_WORDS
from facesim.report.comparison import Comparison
from facesim.report.plots.drawing import HALF_PAGE_IN, INK, colours, drawing, folded, legend, tip
from facesim.report.rows import Row, unlike_hosts
from facesim.report.statistics import mean_interval
from facesim.report.words import percent, percent_interval, quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHANCE = "chance"

#: Names of so many points find room beside them, if none has more letters.
_NAMED, _LETTERS = 4, 40


class _Amount(NamedTuple):
    """A value and its interval, which is of no width where there is none."""

    value: float
    low: float
    high: float

    @property
    def error(self) -> list[list[float]] | None:
        """As Matplotlib has it: below and above, (2, 1); None of no width, which would cross out a hollow mark."""
        below, above = max(0.0, self.value - self.low), max(0.0, self.high - self.value)
        return [[below], [above]] if below or above else None


class _Point(NamedTuple):
    """What a row takes and costs. `not_compared` says why nothing is said of its time."""

    row: Row
    time_s: _Amount
    paid: _Amount

    @property
    def not_compared(self) -> str | None:
        if self.row.audit == "apart":
            return "trained apart"
        return None if self.row.is_forecast or self.row.undisturbed("total_s") else "disturbed"

    @property
    def label(self) -> str:
        mark = self.not_compared or ("forecast" if self.row.is_forecast else None)
        return self.row.label + (f" ({mark})" if mark and mark not in self.row.label else "")

    @property
    def hollow(self) -> bool:
        return self.row.is_forecast or self.not_compared is not None


def time_and_cost(comparison: Comparison) -> str | None:
    """Time against cost, a point a row, hollow where it is a forecast or its time is not compared; the line joins those
    that no other row beats in both. Bars are 95 % intervals over seeds, of a forecast its 80 % interval.
    """
    rows = [row for row in comparison.rows if row.counted]
    priced = all(row.priced for row in rows)
    points = [_Point(row, t, c) for row in rows if (t := _time(row)) and (c := _cost(row, priced))]
    if len(points) < 2:
        return None
    front = _front([point for point in points if not point.not_compared])
    shades = dict(zip(comparison.rows, colours(comparison), strict=True))
    named_beside = len(points) <= _NAMED and max(len(point.label) for point in points) <= _LETTERS
    with drawing("pareto-plot", "time against cost", (HALF_PAGE_IN, 3.2)) as (figure, svg):
        axes = figure.subplots()
        if len(front) > 1:
            places = zip(*((point.time_s.value, point.paid.value) for point in front), strict=True)
            (line,) = axes.plot(*places, color=INK, linewidth=0.9, linestyle=(0, (5, 4)), alpha=0.55)
            tip(line, f"no other row beats these in both: {', '.join(point.label for point in front)}")
        for point in points:
            row, time_s, paid = point
            axes.errorbar(
                time_s.value, paid.value, paid.error, time_s.error, color=shades[row], capsize=3, elinewidth=0.9
            )
            face = "none" if point.hollow else shades[row]
            place = (time_s.value, paid.value)
            (mark,) = axes.plot(*place, "o", color=shades[row], markerfacecolor=face, markersize=8, label=point.label)
            unit = "USD" if priced else "s"
            paid_text = quantity(paid.value, unit) + ("" if priced else " of instances")
            tip(mark, f"{row.label} ({row.measurement}): {quantity(time_s.value, 's')}, {paid_text}")
            if named_beside:
                axes.annotate(point.label, place, (7, 5), textcoords="offset points")
        axes.set_xlabel("seconds from launch to end, mean over seeds")
        axes.set_ylabel("US dollars a run" if priced else "instance-seconds a run")
        axes.set_xlim(0, max(time_s.high for _, time_s, _ in points) * 1.25 or 1)
        axes.set_ylim(0, max(paid.high for _, _, paid in points) * 1.2 or 1)
        if not named_beside:
            legend(axes)
    return svg[0]


def _front(points: Sequence[_Point]) -> list[_Point]:
    """Those that no other beats in both time and cost, the fastest first; none where their hosts' shares differ."""
    front: list[_Point] = []
    if not unlike_hosts(point.row for point in points):
        for point in sorted(points, key=lambda point: (point.time_s.value, point.paid.value)):
            if not front or point.paid.value < front[-1].paid.value:
                front.append(point)
    return front


def _time(row: Row) -> _Amount | None:
    if row.is_forecast and (record := row.records[0].forecast):
        return _Amount(record.total_s, record.low_s, record.high_s)
    return _estimated(row, "total_s")


def _cost(row: Row, priced: bool) -> _Amount | None:
    if priced and row.is_forecast and (record := row.records[0].forecast):
        return _Amount(record.cost_usd, record.low_usd, record.high_usd)
    if not priced:
        return _estimated(row, "instance_s")
    return _estimated(row, "billed_usd") or _estimated(row, "cost_usd")


def _estimated(row: Row, name: str) -> _Amount | None:
    """Over the runs that nothing disturbed, as all times are that are compared; where there is none, over all."""
    values = row.undisturbed(name) or row.values(name)
    if not values:
        return None
    estimate = mean_interval([*values.values()])
    low, high = (estimate.mean if bound is None else bound for bound in (estimate.low, estimate.high))
    return _Amount(estimate.mean, max(0.0, low), high)


def accuracies(comparison: Comparison) -> str | None:
    """Held-out accuracy of each row with its 95 % interval, and whether its replicas trained together; lines mark
    chance and the best method without a network. Rows that were not tested on the same images have panels of their own.
    """
    panels = [rows for test in comparison.tests if (rows := [r for r in test if r.estimate("held_out_accuracy")])]
    if not panels:
        return None
    lines = sum(map(len, panels))
    shades = dict(zip(comparison.rows, colours(comparison), strict=True))
    with drawing(
        "accuracies-plot", "held-out accuracy by row", (HALF_PAGE_IN, 0.8 * len(panels) + 0.5 + 0.55 * lines)
    ) as (
        figure,
        svg,
    ):
        heights = {"height_ratios": [len(rows) + 1 for rows in panels]}
        grid = figure.subplots(len(panels), squeeze=False, gridspec_kw=heights)[:, 0]
        for axes, rows in zip(grid, panels, strict=True):
            _draw_accuracies(axes, rows, shades, _levels(comparison))
            letter = comparison.test_of(rows[0])
            axes.set_xlabel("held-out accuracy (%)" + (f" on images {letter}" if letter else ""))
    return svg[0]


def _draw_accuracies(
    axes: Axes, rows: Sequence[Row], shades: Mapping[Row, str], levels: Sequence[tuple[float, str, Any]]
) -> None:
    for place, row in enumerate(rows):
        value, low, high = amount = _accuracy(row)
        axes.errorbar(value, place, xerr=amount.error, color=shades[row], capsize=4, elinewidth=1.6)
        (mark,) = axes.plot(value, place, "o", color=shades[row], markersize=8)
        tip(mark, f"{row.label}: {percent(value)} ({percent_interval((low, high))})")
    least = min([_accuracy(row).low for row in rows] + [level for level, label, _ in levels if label != _CHANCE])
    begin = max(0.0, math.floor(20 * least - 1) / 20)  # at a twentieth below what there is to see
    for level, label, style in levels:
        if level >= begin:
            axes.axvline(level, color=INK, linewidth=0.9, linestyle=style, alpha=0.55)
            place, across = (level, 1.0), axes.get_xaxis_transform()
            axes.annotate(f"{label} {percent(level)}", place, (3, 2), xycoords=across, textcoords="offset points")
    axes.set_yticks(range(len(rows)), [_named(row) for row in rows])
    axes.set_xlim(begin, 1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g}")
    axes.grid(visible=False, axis="y")


def _accuracy(row: Row) -> _Amount:
    estimate, interval = row.estimate("held_out_accuracy"), row.accuracy_interval()
    assert estimate is not None
    return _Amount(estimate.mean, *(interval or (estimate.mean, estimate.mean)))


def _named(row: Row) -> str:
    verdict = AUDIT_WORDS.get(row.audit, row.audit) if row.replicated and row.audit else None
    return folded(row.label) + (f"\n{verdict}" if verdict else "")


def _levels(comparison: Comparison) -> list[tuple[float, str, Any]]:
    """What accuracies are to be seen beside, where all rows were tested on the same images."""
    if len(comparison.tests) != 1:
        return []
    chance = comparison.tests[0][0].estimate("chance_accuracy")
    levels: list[tuple[float, str, Any]] = [(chance.mean, _CHANCE, (0, (1, 2)))] if chance else []
    if comparison.baselines:
        best = max(comparison.baselines, key=lambda method: method.accuracy.mean)
        levels.append((best.accuracy.mean, best.method, (0, (5, 4))))
    return levels

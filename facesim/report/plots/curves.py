"""How well it learns: accuracy and loss against time, accuracy against the size of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from facesim.report.comparison import Comparison
from facesim.report.load import RunRecord
from facesim.report.plots.drawing import (
    HALF_PAGE_IN,
    INK,
    STRATEGY_COLOURS,
    apart,
    colours,
    drawing,
    in_percent,
    legend,
    thinned,
)
from facesim.report.rows import Row
from facesim.report.words import percent

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes


def learning_curves(comparison: Comparison) -> str | None:
    """Held-out accuracy against the size of the data: networks solid, classical methods dashed."""
    if not comparison.curves:
        return None
    with drawing("curve-plot", "held-out accuracy against training images", (HALF_PAGE_IN, 3.2)) as (figure, svg):
        axes = figure.subplots()
        for nth, curve in enumerate(comparison.curves):
            sizes = [point.training_examples for point in curve.points]
            means = [point.accuracy.mean for point in curve.points]
            bounds = [point.interval or (mean, mean) for point, mean in zip(curve.points, means, strict=True)]
            spread = [
                [max(0.0, mean - low) for (low, _), mean in zip(bounds, means, strict=True)],
                [max(0.0, high - mean) for (_, high), mean in zip(bounds, means, strict=True)],
            ]
            axes.errorbar(
                sizes,
                means,
                spread if curve.network else None,
                color=STRATEGY_COLOURS[nth % len(STRATEGY_COLOURS)],
                marker="o" if curve.network else "x",
                linestyle="-" if curve.network else (0, (4, 2)),
                linewidth=2.2 if curve.network else 1.1,
                markersize=5,
                capsize=3,
                elinewidth=0.9,
                label=curve.label,
            )
        ticks = sorted({point.training_examples for curve in comparison.curves for point in curve.points})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("training images")
        axes.set_ylabel("held-out accuracy (%)")
        in_percent(axes)
        legend(axes)
    return svg[0]


def loss_against_time(comparison: Comparison) -> str | None:
    return _against_time(comparison, [comparison.rows], "loss", "training loss, dropout on")


def accuracy_against_time(comparison: Comparison) -> str | None:
    """Rows that were not tested on the same images are drawn apart: a panel for each test."""
    tested = {row for test in comparison.tests for row in test}
    panels = [*comparison.tests, *((row,) for row in comparison.rows if row not in tested)]
    if len(comparison.tests) < 2:
        panels = [comparison.rows]
    return _against_time(comparison, panels, "held_out_accuracy", "held-out accuracy (%)", _mark_target)


def _against_time(
    comparison: Comparison,
    panels: Sequence[Sequence[Row]],
    metric: str,
    label: str,
    finish: Callable[[Axes, Sequence[Row]], None] | None = None,
) -> str | None:
    """`metric` against seconds since the first training step: each run thin, the mean over a row's seeds thick."""
    panels = [rows for rows in panels if any(_curves(row.records, metric) for row in rows)]
    if not panels:
        return None
    colour_of = dict(zip(comparison.rows, colours(comparison), strict=True))
    with drawing(f"{metric}-plot", f"{label} against time", (HALF_PAGE_IN, 3.2 * len(panels))) as (figure, svg):
        for axes, rows in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            for row in rows:
                _draw(axes, row, metric, colour_of[row])
            axes.set_xlabel("time since the first training step began (s)")
            letter = comparison.test_of(rows[0]) if len(panels) > 1 else None
            axes.set_ylabel(label + (f", on images {letter}" if letter else ""))
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            if finish:
                finish(axes, rows)
            legend(axes)
    return svg[0]


def _draw(axes: Axes, row: Row, metric: str, colour: str) -> None:
    counted = _curves(row.counted, metric)
    others = _curves([record for record in row.records if record not in row.counted], metric)
    for curves, dash in ((counted, "-"), (others, ":")):
        if curves:
            axes.plot(*apart(curves), dash, color=colour, linewidth=0.9, alpha=0.5)
    if counted:
        axes.plot(*_mean_curve(counted), color=colour, linewidth=2.4, label=row.label)


def _mark_target(axes: Axes, rows: Sequence[Row]) -> None:
    in_percent(axes)
    chances = [row.estimate("chance_accuracy") for row in rows]
    chance = next((estimate.mean for estimate in chances if estimate), None)
    target = next((row.target_accuracy for row in rows if row.target_accuracy is not None), None)
    for level, name in ((target, "target"), (chance, "chance")):
        if level is not None:
            axes.axhline(level, color=INK, linewidth=0.9, linestyle=(0, (5, 4)), alpha=0.55)
            at, align = (0.01, "left") if name == "target" else (0.99, "right")  # where curves that rise are not
            axes.annotate(
                f"{name} {percent(level)}",
                (at, level),
                (0, 3),
                ha=align,
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
            )


def _mean_curve(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Time and value averaged over seeds, evaluation by evaluation, where every seed has it."""
    import numpy as np

    evaluations = min(len(times) for times, _ in curves)
    times, values = (np.mean([column[:evaluations] for column in columns], axis=0) for columns in zip(*curves))
    return thinned(times, values)


def _curves(records: Iterable[RunRecord], metric: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """`metric` against seconds since the first training step, of the runs that have it."""
    curves = [record.curve(metric, "since_first_step_s") for record in records]
    return [curve for curve in curves if len(curve[0])]

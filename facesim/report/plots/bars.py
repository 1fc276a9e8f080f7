"""Where the time went and what it cost: a bar a row."""

from __future__ import annotations

from facesim.report.comparison import Comparison
from facesim.report.plots.drawing import HALF_PAGE_IN, colours, drawing, folded, legend, tip
from facesim.report.rows import Row
from facesim.report.words import quantity

#: The phases in the order in which a run goes through them, with their colour from dark to light.
PHASES = (
    ("startup_s", "start-up", "#332288"),
    ("connect_s", "connect", "#6699CC"),
    ("build_s", "build", "#88CCEE"),
    ("first_step_s", "first step", "#DDCC77"),
    ("training_s", "training", "#117733"),
    ("evaluation_s", "evaluation", "#CC6677"),
    ("save_s", "save", "#AA4499"),
    ("other_s", "other", "#999999"),
)


def phase_bars(comparison: Comparison) -> str | None:
    """Where the time went: one bar a row, its phases stacked, means over seeds."""
    rows = [row for row in comparison.rows if row.counted and row.estimate("total_s")]
    if not rows:
        return None
    with drawing("time-plot", "time by phase", (HALF_PAGE_IN, 1.5 + 0.55 * len(rows))) as (figure, svg):
        axes = figure.subplots()
        phases = [_mean_phases(row) for row in rows]
        left = [0.0] * len(rows)
        for name, label, colour in PHASES:
            widths = [phase.get(name, 0.0) for phase in phases]
            if any(widths):
                bars = axes.barh(
                    [folded(row.label) for row in rows], widths, left=left, color=colour, label=label, height=0.62
                )
                for row, bar, seconds in zip(rows, bars, widths, strict=True):
                    tip(bar, f"{row.label}, {label}: {quantity(seconds, 's')}")
                left = [start + width for start, width in zip(left, widths, strict=True)]
        for index, end in enumerate(left):
            axes.annotate(quantity(end, "s"), (end, index), (5, 0), va="center", textcoords="offset points")
        axes.set_xlim(0, max(left) * 1.14 or 1)
        axes.set_xlabel("seconds since launch, mean over seeds")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        legend(axes)
    return svg[0]


def cost_bars(comparison: Comparison) -> str | None:
    """What a run cost: dollars, on demand and as spot capacity, where every row ran on the instances whose price is
    named; else instance-seconds, which have no price. Of a run on spot capacity the bill is known, of others assumed.
    """
    priced = all(row.priced for row in comparison.rows if row.counted)
    rows = [row for row in comparison.rows if row.estimate("cost_usd" if priced else "instance_s")]
    if not rows:
        return None
    with drawing("cost-plot", "cost by strategy", (HALF_PAGE_IN, 1.3 + 0.7 * len(rows))) as (figure, svg):
        axes = figure.subplots()
        shades = dict(zip((row.label for row in comparison.rows), colours(comparison), strict=True))
        widest = 0.0
        for index, row in enumerate(rows):
            for name, offset, alpha, words in _bars(row) if priced else (("instance_s", 0.0, 1.0, ""),):
                estimate = row.estimate(name)
                if estimate:
                    widest = max(widest, estimate.mean)
                    axes.barh(index + offset, estimate.mean, height=0.34, color=shades[row.label], alpha=alpha)
                    axes.annotate(
                        f"{quantity(estimate.mean, comparison.measures[name].unit)} {words}".rstrip(),
                        (estimate.mean, index + offset),
                        (5, 0),
                        va="center",
                        textcoords="offset points",
                    )
        axes.set_yticks(range(len(rows)), [folded(row.label) for row in rows])
        axes.set_xlim(0, widest * 1.42 or 1)
        axes.set_xlabel(f"{'US dollars' if priced else 'instance-seconds'} a run, mean over seeds")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    return svg[0]


def _bars(row: Row) -> tuple[tuple[str, float, float, str], ...]:
    """The dollars of a row: measures, where their bars are, how dark, and what they are called."""
    billed = row.estimate("billed_usd") is not None
    spot = ("billed_usd", "spot, billed") if billed else ("spot_cost_usd", "spot, assumed")
    return ("cost_usd", -0.19, 1.0, "on demand"), (spot[0], 0.19, 0.45, spot[1])


def _mean_phases(row: Row) -> dict[str, float]:
    """Seconds by phase, means over seeds: training without the first step, which is apart; the rest is `other_s`."""
    names = [name for name, _, _ in PHASES if name != "other_s"]
    n = len(row.counted)
    phases = {name: sum(max(0.0, record.phases.get(name, 0.0)) for record in row.counted) / n for name in names}
    phases["training_s"] = max(0.0, phases["training_s"] - phases["first_step_s"])
    total = row.estimate("total_s")
    phases["other_s"] = max(0.0, (total.mean if total else 0.0) - sum(phases.values()))
    return phases

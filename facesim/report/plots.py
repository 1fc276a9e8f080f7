"""The plots, each an SVG that stands inside an HTML page: text and axes take the page's colour, light or dark.

Matplotlib's object interface only: no window, no global figure. Identifiers are prefixed by plot, so that several SVGs
can share a page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from facesim.report.comparison import Comparison
from facesim.report.load import RunRecord
from facesim.report.measures import by_role
from facesim.report.rows import Row
from facesim.report.words import quantity

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito's colours, safe for the colour-blind, in an order that keeps neighbours apart.
STRATEGY_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

#: Roles differ in dash as well as colour.
ROLE_STYLES: dict[str, tuple[str, Any]] = {
    "host": ("#8c8c8c", (0, (1, 1))),
    "chief": ("#0072B2", "-"),
    "worker": ("#E69F00", "-"),
    "ps": ("#CC79A7", (0, (4, 1.5))),
}

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

_POINTS = 240  # more than a plot has pixels to show
_INK = "#010203"  # stands for the page's text colour until the SVG is written

_STYLE = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "text.parse_math": False,  # names come from data
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.8,
    "axes.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(
        (
            "text.color",
            "axes.labelcolor",
            "axes.edgecolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        _INK,
    ),
}


def colours(comparison: Comparison) -> list[str]:
    """The colour of each row, the same in every plot and in the page."""
    return [STRATEGY_COLOURS[index % len(STRATEGY_COLOURS)] for index in range(len(comparison.rows))]


def plots(comparison: Comparison) -> dict[str, str]:
    """Every plot that the runs have data for, as name -> SVG, in the order of the page."""
    drawn = {
        "curve": _learning_curves(comparison),
        "accuracy": _curves(comparison, "held_out_accuracy_percent", "held-out accuracy (%)", _mark_target),
        "loss": _curves(comparison, "loss", "training loss, dropout on"),
        "time": _phase_bars(comparison),
        "cost": _cost_bars(comparison),
        "cpu": _by_role(comparison, "cpu_percent", "CPU (% of the host)", 1.0),
        "memory": _by_role(comparison, "memory_bytes", "memory (GiB)", 2.0**30, without="host"),
        "wire": _wire(comparison),
        "roc": _roc(comparison),
        "cmc": _cmc(comparison),
    }
    return {name: svg for name, svg in drawn.items() if svg}


def _learning_curves(comparison: Comparison) -> str | None:
    """Held-out accuracy against the size of the data: networks solid, classical methods dashed."""
    if not comparison.curves:
        return None
    with _drawing("curve-plot", "held-out accuracy against training images", (6.2, 3.7)) as (figure, svg):
        axes = figure.subplots()
        for nth, curve in enumerate(comparison.curves):
            sizes = [point.training_examples for point in curve.points]
            means = [point.accuracy_percent.mean for point in curve.points]
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
        axes.set_ylim(0, 100)
        _legend(axes)
    return svg[0]


def _curves(
    comparison: Comparison, metric: str, label: str, finish: Callable[[Axes, Comparison], None] | None = None
) -> str | None:
    """`metric` against seconds since the first training step: each run thin, the mean over a row's seeds thick."""
    if not any(_has(record, metric) for record in comparison.records):
        return None
    with _drawing(f"{metric}-plot", f"{label} against time", (6.2, 3.7)) as (figure, svg):
        axes = figure.subplots()
        for row, colour in zip(comparison.rows, colours(comparison), strict=True):
            for record in row.records:
                if _has(record, metric):
                    curve = _thinned(record.history[["since_first_step_s", metric]].dropna())
                    dash = "-" if record in row.counted else ":"
                    axes.plot(curve["since_first_step_s"], curve[metric], dash, color=colour, linewidth=0.9, alpha=0.5)
            mean = _mean_curve(row, metric)
            if mean is not None:
                axes.plot(mean["since_first_step_s"], mean[metric], color=colour, linewidth=2.4, label=row.label)
        axes.set_xlabel("time since the first training step began (s)")
        axes.set_ylabel(label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        if finish:
            finish(axes, comparison)
        _legend(axes)
    return svg[0]


def _mark_target(axes: Axes, comparison: Comparison) -> None:
    axes.set_ylim(0, 100)
    chances = [row.estimate("chance_accuracy_percent") for row in comparison.rows]
    chance = next((estimate.mean for estimate in chances if estimate), None)
    for level, name in ((comparison.target_accuracy, "target"), (chance, "chance")):
        if level is not None:
            axes.axhline(level, color=_INK, linewidth=0.9, linestyle=(0, (5, 4)), alpha=0.55)
            at, align = (0.01, "left") if name == "target" else (0.99, "right")  # where curves that rise are not
            axes.annotate(
                f"{name} {level:.1f} %",
                (at, level),
                (0, 3),
                ha=align,
                fontsize=8.5,
                xycoords=axes.get_yaxis_transform(),
                textcoords="offset points",
            )


def _phase_bars(comparison: Comparison) -> str | None:
    """Where the time went: one bar a row, its phases stacked, means over seeds."""
    rows = [row for row in comparison.rows if row.counted and row.estimate("total_s")]
    if not rows:
        return None
    with _drawing("time-plot", "time by phase", (6.2, 1.5 + 0.55 * len(rows))) as (figure, svg):
        axes = figure.subplots()
        phases = [_mean_phases(row) for row in rows]
        left = [0.0] * len(rows)
        for name, label, colour in PHASES:
            widths = [phase.get(name, 0.0) for phase in phases]
            if any(widths):
                axes.barh(
                    [_folded(row.label) for row in rows], widths, left=left, color=colour, label=label, height=0.62
                )
                left = [start + width for start, width in zip(left, widths, strict=True)]
        for index, end in enumerate(left):
            axes.annotate(quantity(end, "s"), (end, index), (5, 0), va="center", textcoords="offset points", fontsize=9)
        axes.set_xlim(0, max(left) * 1.14)
        axes.set_xlabel("seconds since launch, mean over seeds")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        _legend(axes)
    return svg[0]


def _cost_bars(comparison: Comparison) -> str | None:
    """What the run would have cost: one pair of bars a row, on demand and spot."""
    rows = [row for row in comparison.rows if row.estimate("cost_usd")]
    if not rows:
        return None
    with _drawing("cost-plot", "cost by strategy", (6.2, 1.3 + 0.7 * len(rows))) as (figure, svg):
        axes = figure.subplots()
        shades = dict(zip((row.label for row in comparison.rows), colours(comparison), strict=True))
        widest = 0.0
        for name, offset, alpha, words in (
            ("cost_usd", -0.19, 1.0, "on demand"),
            ("spot_cost_usd", 0.19, 0.45, "spot, assumed"),
        ):
            for index, row in enumerate(rows):
                estimate = row.estimate(name)
                if estimate:
                    widest = max(widest, estimate.mean)
                    axes.barh(index + offset, estimate.mean, height=0.34, color=shades[row.label], alpha=alpha)
                    axes.annotate(
                        f"{quantity(estimate.mean, 'USD')} {words}",
                        (estimate.mean, index + offset),
                        (5, 0),
                        va="center",
                        textcoords="offset points",
                        fontsize=9,
                    )
        axes.set_yticks(range(len(rows)), [_folded(row.label) for row in rows])
        axes.set_xlim(0, widest * 1.42 or 1)
        axes.set_xlabel("US dollars a run, mean over seeds")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
    return svg[0]


def _by_role(comparison: Comparison, metric: str, label: str, divisor: float, without: str | None = None) -> str | None:
    """`metric` against time since launch, one panel a row: the first run's roles thick, its other seeds' thin."""
    panels = []
    for row in comparison.rows:
        tables = [
            by_role(record.utilisation, metric).drop(columns=without or [], errors="ignore") for record in row.counted
        ]
        if tables := [table / divisor for table in tables if not table.empty]:
            panels.append((row, tables))
    if not panels:
        return None
    columns = min(2, len(panels))
    depth = -(-len(panels) // columns)
    with _drawing(
        f"{metric}-plot", f"{label} against time by role", (12.6 if columns == 2 else 6.2, 0.5 + 2.9 * depth)
    ) as (
        figure,
        svg,
    ):
        figure.set_layout_engine("constrained", h_pad=0.12)
        grid = figure.subplots(depth, columns, squeeze=False, sharey=True, sharex=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (row, tables) in zip(grid.flat, panels, strict=False):
            for nth, table in enumerate(tables):
                for role in sorted(table.columns, key=_role_order):
                    colour, dash = ROLE_STYLES.get(role, (_INK, "-"))
                    curve = _thinned(table[role].dropna().rename("value").reset_index())
                    axes.plot(
                        curve["since_launch_s"],
                        curve["value"],
                        color=colour,
                        linestyle=dash,
                        linewidth=0.6 if nth else 1.7,
                        alpha=0.35 if nth else 1.0,
                        label=None if nth else _plural(row, role),
                    )
            began = row.counted[0].first_step_s
            if began is not None:
                axes.axvline(began, color=_INK, linewidth=0.9, linestyle=(0, (5, 4)), alpha=0.55)
                axes.annotate(
                    "first step",
                    (began, 1),
                    (3, -9),
                    xycoords=axes.get_xaxis_transform(),
                    textcoords="offset points",
                    fontsize=8.5,
                )
            axes.set_title(row.label, fontweight="bold", pad=22)
            axes.set_xlabel("time since launch (s)")
            axes.set_ylabel(label)
            axes.tick_params(labelleft=True, labelbottom=True)
            _legend(axes)
        # The panels share their limits: once all are drawn.
        grid[0, 0].set_xlim(left=0)
        grid[0, 0].set_ylim(bottom=0)
    return svg[0]


def _wire(comparison: Comparison) -> str | None:
    """Bytes that the tasks of a run sent each other so far; every byte is counted once, where it was received."""
    curves = []
    for row, colour in zip(comparison.rows, colours(comparison), strict=True):
        for nth, record in enumerate(row.counted):
            received = by_role(record.utilisation, "net_received_bytes").drop(columns="host", errors="ignore")
            if not received.empty and received.max().max() > 0:
                curves.append((row, colour, nth, _thinned(received.sum(axis="columns").rename("value").reset_index())))
    if not curves:
        return None
    with _drawing("wire-plot", "bytes on the wire against time", (12.6, 3.2)) as (figure, svg):
        axes = figure.subplots()
        for row, colour, nth, curve in curves:
            axes.plot(
                curve["since_launch_s"],
                curve["value"] / 1e6,
                color=colour,
                linewidth=0.8 if nth else 2.2,
                alpha=0.45 if nth else 1.0,
                label=None if nth else row.label,
            )
        axes.set_xlabel("time since launch (s)")
        axes.set_ylabel("received so far (MB)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        _legend(axes)
    return svg[0]


def _evaluated(comparison: Comparison, protocol: str) -> list[tuple[str, str, int, dict[str, Any]]]:
    """Label, colour, place among the row's and what was found, for each run's newest evaluation by `protocol`."""
    found = []
    for row, colour in zip(comparison.rows, colours(comparison), strict=True):
        newest = [list(record.evaluations.values())[-1] for record in row.counted if record.evaluations]
        own = [evaluation for evaluation in newest if protocol in evaluation]
        found += [
            (f"{row.label}, {evaluation['data']}", colour, nth, evaluation[protocol])
            for nth, evaluation in enumerate(own)
        ]
    return found


def _roc(comparison: Comparison) -> str | None:
    """True against false accept rate, from the lowest false accept rate that the pairs can tell."""
    curves = _evaluated(comparison, "verification")
    if not curves:
        return None
    with _drawing("roc-plot", "true against false accept rate", (6.2, 3.7)) as (figure, svg):
        axes = figure.subplots()
        for label, colour, nth, own in curves:
            axes.step(
                own["roc"]["far"],
                own["roc"]["tar"],
                color=colour,
                where="post",
                linewidth=0.8 if nth else 2.2,
                label=None if nth else f"{label}: EER {own['eer']:.1%}",
            )
        axes.set_xscale("log")
        axes.set_xlim(min(own["lowest_far"] for *_, own in curves), 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("false accept rate")
        axes.set_ylabel("true accept rate")
        _legend(axes)
    return svg[0]


def _cmc(comparison: Comparison) -> str | None:
    """Share of probes whose identity is among the k likest of the gallery."""
    curves = _evaluated(comparison, "identification")
    if not curves:
        return None
    with _drawing("cmc-plot", "identification against rank", (6.2, 3.7)) as (figure, svg):
        axes = figure.subplots()
        for label, colour, nth, own in curves:
            axes.plot(
                range(1, len(own["cmc"]) + 1),
                own["cmc"],
                color=colour,
                linewidth=0.8 if nth else 2.2,
                label=None if nth else f"{label}: rank 1 {own['rank_1']:.1%}",
            )
        axes.set_xscale("log")
        axes.set_ylim(top=1.02)
        axes.set_xlabel("rank")
        axes.set_ylabel("found up to that rank")
        _legend(axes)
    return svg[0]


@contextmanager
def _drawing(name: str, title: str, size_inches: tuple[float, float]) -> Iterator[tuple[Figure, list[str]]]:
    """A figure to draw on; on leaving, the list holds its SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    svg: list[str] = []
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size_inches, layout="constrained")
        yield figure, svg
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg.append(_embeddable(text.getvalue(), name, title))


def _embeddable(svg: str, name: str, title: str) -> str:
    """Without the XML prolog, with identifiers of its own, in the page's text colour, as wide as the page allows."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = svg.replace(_INK, "currentColor")
    svg = re.sub(
        r' d="[^"]+"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg
    )  # 1/100 pt is finer than a screen
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*pt"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*pt"', r"\1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _mean_curve(row: Row, metric: str) -> pandas.DataFrame | None:
    """The row's mean curve: time and value averaged over seeds, evaluation by evaluation, where every seed has it."""
    import pandas

    curves = [record.history for record in row.counted if _has(record, metric)]
    if not curves:
        return None
    points = pandas.concat([c[["since_first_step_s", metric]].dropna().reset_index(drop=True) for c in curves])
    by_evaluation = points.groupby(level=0)
    mean = by_evaluation.mean()[by_evaluation.size() == len(curves)]
    return _thinned(mean)


def _mean_phases(row: Row) -> dict[str, float]:
    """Seconds by phase, means over seeds: training without the first step, which is apart; the rest is `other_s`."""
    names = [name for name, _, _ in PHASES if name != "other_s"]
    n = len(row.counted)
    phases = {name: sum(max(0.0, record.phases.get(name, 0.0)) for record in row.counted) / n for name in names}
    phases["training_s"] = max(0.0, phases["training_s"] - phases["first_step_s"])
    total = row.estimate("total_s")
    phases["other_s"] = max(0.0, (total.mean if total else 0.0) - sum(phases.values()))
    return phases


def _has(record: RunRecord, metric: str) -> bool:
    history = record.history
    return metric in history and not history[["since_first_step_s", metric]].dropna().empty


def _thinned(curve: pandas.DataFrame) -> pandas.DataFrame:
    """At most about `_POINTS` rows, evenly chosen, the last kept."""
    step = -(-len(curve) // _POINTS)
    if step <= 1:
        return curve
    kept = [*range(0, len(curve) - 1, step), len(curve) - 1]
    return curve.iloc[kept]


def _role_order(role: str) -> int:
    order = list(ROLE_STYLES)
    return order.index(role) if role in order else len(order)


def _plural(row: Row, role: str) -> str:
    used = row.counted[0].result.resources.get(role)
    return f"{role} × {used.tasks}" if used and used.tasks and used.tasks > 1 else role


def _legend(axes: Axes) -> None:
    """Above the axes, where no curve is; as many names beside each other as fit."""
    labels = axes.get_legend_handles_labels()[1]
    if labels:
        across = max(1, min(4, 64 // (max(map(len, labels)) + 5)))
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=across,
            handlelength=1.4,
            columnspacing=1.4,
            borderaxespad=0.2,
            borderpad=0.1,
        )


def _folded(label: str) -> str:
    return label.replace(" (", "\n(").replace(", ", ",\n")

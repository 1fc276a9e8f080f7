"""How training scales, how stale gradients were, and when a run was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from facesim.report.comparison import Comparison
from facesim.report.load import RunRecord
from facesim.report.plots.drawing import HALF_PAGE_IN, INK, PAGE_IN, STRATEGY_COLOURS, drawing, folded, legend, tip
from facesim.report.rows import Row
from facesim.runs.events import Interruption, Recovering, StateEntered
from facesim.runs.states import RunState
from facesim.training.order import read_orders
from facesim.util.errors import InputError
from facesim.util.words import count_text

if TYPE_CHECKING:
    import numpy as np


def scaling(comparison: Comparison) -> str | None:
    """Speed-up and efficiency against workers, with the ideal; a hollow point was disturbed."""
    if not comparison.scales:
        return None
    most = max(point.workers for scale in comparison.scales for point in scale.points)
    with drawing("scaling-plot", "speed-up and efficiency against workers", (PAGE_IN, 3.9)) as (figure, svg):
        speed, efficiency = figure.subplots(1, 2)
        for nth, scale in enumerate(comparison.scales):
            colour = STRATEGY_COLOURS[nth % len(STRATEGY_COLOURS)]
            workers = [point.workers for point in scale.points]
            ideals = [point.ideal for point in scale.points]
            for axes, shares in ((speed, [1.0] * len(workers)), (efficiency, ideals)):
                bounds = [(point.interval or (point.speed_up.ratio, point.speed_up.ratio)) for point in scale.points]
                values = [point.speed_up.ratio / share for point, share in zip(scale.points, shares, strict=True)]
                spread = [
                    [value - low / share for value, (low, _), share in zip(values, bounds, shares, strict=True)],
                    [high / share - value for value, (_, high), share in zip(values, bounds, shares, strict=True)],
                ]
                label = f"{scale.label}, against {scale.reference.label}"
                axes.errorbar(
                    workers, values, spread, color=colour, linewidth=1.8, capsize=3, elinewidth=0.9, label=label
                )
                for point, value in zip(scale.points, values, strict=True):
                    face = "none" if point.disturbed else colour
                    (mark,) = axes.plot(point.workers, value, "o", color=colour, markerfacecolor=face, markersize=6)
                    tip(
                        mark,
                        f"{scale.label}, {count_text(point.workers, 'worker')}: {value:.2f}, bound by {point.bound}",
                    )
        ideal: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (5, 4)), "alpha": 0.55}
        for nth, fewest in enumerate(sorted({scale.points[0].reference_workers for scale in comparison.scales})):
            speed.plot([fewest, most], [1, most / fewest], label=None if nth else "ideal", **ideal)
        efficiency.axhline(1.0, **ideal)
        for axes, label in ((speed, "times as fast to train"), (efficiency, "share of the ideal speed-up")):
            axes.set_xlabel("workers")
            axes.set_xticks(range(1, most + 1) if most <= 16 else sorted({1, most}))
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
        legend(speed)
    return svg[0]


def staleness_by_worker(comparison: Comparison) -> str | None:
    """How many updates by others came between a worker's reading and its update: half of its updates in a box, nine
    tenths between the whiskers; all runs of a row together.
    """
    panels = [(row, by_worker) for row in comparison.rows if len(by_worker := _staleness(row)) > 1]
    if not panels:
        return None
    with drawing("staleness-plot", "staleness by worker", (HALF_PAGE_IN, 0.6 + 2.6 * len(panels))) as (figure, svg):
        for axes, (row, by_worker) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            axes.boxplot(list(by_worker.values()), whis=(5, 95), showfliers=False, showmeans=True, patch_artist=False)
            axes.set_xticks(range(1, len(by_worker) + 1), [f"worker-{worker}" for worker in by_worker])
            axes.set_ylabel("updates by others")
            axes.set_ylim(bottom=-0.25)
            axes.set_title(row.label, fontweight="bold")
    return svg[0]


def _staleness(row: Row) -> dict[int, np.ndarray]:
    """The staleness of every update by the worker that made it; empty where no order was recorded whole."""
    import numpy as np

    by_worker: dict[int, list[np.ndarray]] = {}
    for record in row.counted:
        try:
            orders = read_orders(record.run.order_file)
        except InputError:  # it has none, or a part of it was lost with a worker or a disk
            continue
        for order in orders:
            for worker in np.unique(order.workers):
                by_worker.setdefault(int(worker), []).append(order.staleness[order.workers == worker])
    return {worker: np.concatenate(parts) for worker, parts in sorted(by_worker.items())}


#: States in which a run has its hosts, with their colours; in any other there is a gap.
_WITH_HOSTS = {
    RunState.STARTING: "#DDCC77",
    RunState.DOWNLOADING: "#88CCEE",
    RunState.TRAINING: "#117733",
    RunState.STOPPING: "#CC6677",
    RunState.UPLOADING: "#AA4499",
}


def interruptions(comparison: Comparison) -> str | None:
    """The states of runs that were interrupted, resumed or restarted, on the clock: without hosts there is a gap."""
    shown = [(row, record) for row in comparison.rows for record in row.records if _is_interrupted(record)]
    if not shown:
        return None
    with drawing("interruptions-plot", "interruptions", (PAGE_IN, 1.2 + 0.5 * len(shown))) as (figure, svg):
        axes = figure.subplots()
        seen: set[RunState] = set()
        for place, (_, record) in enumerate(shown):
            origin_s = record.launched_unix_s or 0.0
            for state, begin_s, end_s in _spans(record):
                label = None if state in seen else state.value.lower()
                seen.add(state)
                axes.barh(
                    place, end_s - begin_s, left=begin_s - origin_s, color=_WITH_HOSTS[state], height=0.5, label=label
                )
            for event in record.events:
                if isinstance(event, (Interruption, Recovering)):
                    mark = "v" if isinstance(event, Interruption) else "x"
                    axes.plot(event.time_unix_s - origin_s, place - 0.36, mark, color=INK, markersize=6)
        names = [f"{row.label}, seed {record.result.seed}" for row, record in shown]
        axes.set_yticks(range(len(shown)), [folded(name) for name in names])
        axes.set_xlabel("seconds since it was first submitted (▾ capacity reclaimed, × tasks restarted)")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        legend(axes)
    return svg[0]


def _is_interrupted(record: RunRecord) -> bool:
    return record.resumed > 0 or any(isinstance(event, (Interruption, Recovering)) for event in record.events)


def _spans(record: RunRecord) -> list[tuple[RunState, float, float]]:
    """States with hosts, from when until when, in seconds since 1970."""
    spans = []
    for life in record.lives:
        entered = [
            event
            for event in record.events
            if isinstance(event, StateEntered) and life.begin_unix_s <= event.time_unix_s <= life.end_unix_s
        ]
        ends = [*(event.time_unix_s for event in entered[1:]), life.end_unix_s]
        for event, end_s in zip(entered, ends, strict=False):
            if event.state in _WITH_HOSTS and end_s > event.time_unix_s:
                spans.append((event.state, event.time_unix_s, end_s))
    return spans

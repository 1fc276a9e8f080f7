"""A plan's plots: time against cost with the front, speed-up by workers with what bounds it."""

from __future__ import annotations

from facesim.forecast.shapes import ClusterShape
from facesim.planning.search import Plan, Row
from facesim.report.plots.drawing import HALF_PAGE_IN, INK, STRATEGY_COLOURS, drawing, legend

#: More points than these are one cloud, and a page that is slow to open.
_MOST_POINTS = 800

#: A speed-up's curve shows so many kinds of clusters at the most.
_MOST_CURVES = 6

_MARKERS = {
    "compute": "o",
    "server CPU": "s",
    "host CPU": "D",
    "network in": "v",
    "network out": "^",
    "start-up": "x",
}


def _colours(plan: Plan) -> dict[str, str]:
    """The colour of each strategy, the same in all plots."""
    names = dict.fromkeys(row.forecast.shape.strategy for row in plan.rows)
    return {name: STRATEGY_COLOURS[nth % len(STRATEGY_COLOURS)] for nth, name in enumerate(names)}


def time_against_cost(plan: Plan) -> str:
    """Every shape by dollars and minutes, the Pareto front joined, with the 80 % intervals of its shapes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    colours = _colours(plan)
    on_front = {id(row) for row in plan.front}
    shown = [row for row in plan.rows if id(row) not in on_front]
    if len(shown) > _MOST_POINTS:
        # Those nearest to the front: what costs much and takes long is chosen by nobody.
        fastest, cheapest = plan.fastest_of_all.forecast.time_s, plan.cheapest_of_all.forecast.cost_usd
        shown.sort(key=lambda row: row.forecast.time_s / fastest * row.forecast.cost_usd / max(cheapest, 1e-9))
        shown = shown[:_MOST_POINTS]
    with drawing("plan-front", "time against cost", (HALF_PAGE_IN, 3.4)) as (figure, svg):
        axes = figure.subplots()
        for name, colour in colours.items():
            off_front = [row.forecast for row in shown if row.forecast.shape.strategy == name]
            axes.scatter(
                [each.cost_usd for each in off_front], [each.time_s / 60 for each in off_front],
                s=9, color=colour, alpha=0.35, linewidths=0,
            )  # fmt: skip
            front = [row.forecast for row in plan.steps if row.forecast.shape.strategy == name]
            axes.errorbar(
                [each.cost_usd for each in front],
                [each.time_s / 60 for each in front],
                xerr=[
                    [each.cost_usd - each.low_usd for each in front], [each.high_usd - each.cost_usd for each in front]
                ],
                yerr=[
                    [(each.time_s - each.low_s) / 60 for each in front],
                    [(each.high_s - each.time_s) / 60 for each in front],
                ],
                fmt="o", markersize=6, color=colour, elinewidth=0.8, capsize=2, label=name, linestyle="none",
            )  # fmt: skip
        axes.plot(
            [row.forecast.cost_usd for row in plan.front],
            [row.forecast.time_s / 60 for row in plan.front],
            color=INK, linewidth=1, alpha=0.6, drawstyle="steps-post", zorder=1,
        )  # fmt: skip
        free = plan.cheapest_of_all.forecast.cost_usd == 0  # it has no place on a logarithmic scale
        axes.set_xscale("linear" if free else "log")
        axes.set_yscale("log")
        for axis in (axes.yaxis,) if free else (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(NullLocator())
        limits = axes.get_xlim(), axes.get_ylim()  # of the shapes: what is wanted may be far from them
        if plan.wanted.deadline_s is not None:
            axes.axhline(plan.wanted.deadline_s / 60, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        if plan.wanted.budget_usd is not None:
            axes.axvline(plan.wanted.budget_usd, color=INK, linestyle=(0, (4, 3)), linewidth=1)
        for text, row in (("cheapest", plan.cheapest), ("fastest", plan.fastest)):
            if row is not None:
                axes.annotate(
                    text, (row.forecast.cost_usd, row.forecast.time_s / 60), (7, 7), textcoords="offset points",
                )  # fmt: skip
        axes.set_xlim(limits[0])
        axes.set_ylim(limits[1])
        axes.set_xlabel("US dollars, forecast")
        axes.set_ylabel("minutes, forecast")
        legend(axes)
    return svg[0]


def speed_ups(plan: Plan) -> dict[str, list[tuple[Row, float]]]:
    """For each strategy of which several sizes were tried, the rows of one kind of cluster, by workers, each with how
    many times as fast as one process on a host of the workers' type training is; of the kinds that which comes nearest
    to the front, and of the strategies the nearest first.
    """
    families: dict[tuple[object, ...], list[Row]] = {}
    for row in plan.rows:
        shape = row.forecast.shape
        if shape.kind.replicated and not shape.spot:
            key = (shape.strategy, shape.instance_type, shape.ps, shape.ps_instance_type)
            families.setdefault(key, []).append(row)
    several = [rows for rows in families.values() if len({row.forecast.shape.workers for row in rows}) > 1]
    several.sort(key=lambda rows: min(row.forecast.time_s * row.forecast.cost_usd for row in rows))
    chosen: dict[str, list[tuple[Row, float]]] = {}
    for rows in several:  # each strategy's best first
        first = rows[0].forecast.shape
        if first.strategy not in chosen:
            alone = plan.row(ClusterShape(instance_type=first.instance_type)).forecast
            by_workers = sorted(rows, key=lambda row: row.forecast.shape.workers)
            chosen[first.strategy] = [(row, row.forecast.images_per_s / alone.images_per_s) for row in by_workers]
    return chosen


def speed_up(plan: Plan) -> str | None:
    """How many times as fast as one process training is, by workers; the marker says what bounds it. None where no
    cluster of several sizes was tried.
    """
    curves = speed_ups(plan)
    if not curves:
        return None
    with drawing("plan-speed-up", "speed-up by workers, and what bounds it", (HALF_PAGE_IN, 3.4)) as (figure, svg):
        axes = figure.subplots()
        most, used, colours = 1, set(), _colours(plan)
        for name, sped_up in list(curves.items())[:_MOST_CURVES]:
            rows, speeds = [row for row, _ in sped_up], [speed for _, speed in sped_up]
            first, workers = rows[0].forecast, [row.forecast.shape.workers for row in rows]
            joined = [1, *workers] if workers[0] > 1 else workers
            colour = colours[name]
            servers = f", {first.shape.ps} ps" if first.shape.served else ""
            label = f"{name}{servers}, {first.shape.instance_type}"
            axes.plot(joined, [1.0] * (len(joined) - len(speeds)) + speeds, color=colour, linewidth=1.8, label=label)
            places: dict[str, list[tuple[int, float]]] = {}
            for row, *place in zip(rows, workers, speeds, strict=True):
                places.setdefault(row.forecast.training_bound, []).append(tuple(place))
            for bound, marked in places.items():
                used.add(bound)
                axes.plot(*zip(*marked), linestyle="none", marker=_MARKERS[bound], color=colour, markersize=6)
            most = max(most, *workers)
        axes.plot([1, most], [1, most], color=INK, linestyle=(0, (4, 3)), linewidth=1, label="as many times as workers")
        for bound in sorted(used):
            axes.plot([], [], linestyle="none", marker=_MARKERS[bound], color=INK, label=f"bound by {bound}")
        axes.set_xlabel("workers")
        axes.set_ylabel("times as fast as one process")
        axes.set_ylim(bottom=0)
        legend(axes)
    return svg[0]

"""What the tasks used, against time since launch: processors and memory by role, bytes on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from facesim.report.comparison import Comparison
from facesim.report.measures import ByRole, by_role
from facesim.report.plots.drawing import HALF_PAGE_IN, INK, PAGE_IN, apart, colours, drawing, legend, thinned
from facesim.report.rows import Row

if TYPE_CHECKING:
    import numpy as np

#: Roles differ in dash as well as colour.
ROLE_STYLES: dict[str, tuple[str, Any]] = {
    "host": ("#8c8c8c", (0, (1, 1))),
    "chief": ("#0072B2", "-"),
    "worker": ("#E69F00", "-"),
    "ps": ("#CC79A7", (0, (4, 1.5))),
}


def by_role_against_time(
    comparison: Comparison, metric: str, label: str, divisor: float, without: str | None = None
) -> str | None:
    """`metric` against time since launch, one panel a row: the first run's roles thick, its other seeds' thin."""
    panels = []
    for row in comparison.rows:
        tables = [by_role(record.utilisation, metric) for record in row.counted]
        if any(table.roles.keys() - {without} for table in tables):
            panels.append((row, tables))
    if not panels:
        return None
    columns = min(2, len(panels))
    depth = -(-len(panels) // columns)
    with drawing(
        f"{metric}-plot",
        f"{label} against time by role",
        (PAGE_IN if columns == 2 else HALF_PAGE_IN, 0.5 + 2.9 * depth),
    ) as (
        figure,
        svg,
    ):
        figure.set_layout_engine("constrained", h_pad=0.12)
        grid = figure.subplots(depth, columns, squeeze=False, sharey=True, sharex=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes, (row, tables) in zip(grid.flat, panels, strict=False):
            roles = {role for table in tables for role in table.roles} - {without}
            for role in sorted(roles, key=_role_order):
                colour, dash = ROLE_STYLES.get(role, (INK, "-"))
                first, *others = (_of_role(table, role, divisor) for table in tables if role in table.roles)
                style = {"color": colour, "linestyle": dash}
                axes.plot(*thinned(*first), **style, linewidth=1.7, label=_plural(row, role))
                if others:
                    axes.plot(*apart(others), **style, linewidth=0.6, alpha=0.35)
            began = row.counted[0].first_step_s
            if began is not None:
                axes.axvline(began, color=INK, linewidth=0.9, linestyle=(0, (5, 4)), alpha=0.55)
                axes.annotate(
                    "first step",
                    (began, 1),
                    (3, -9),
                    xycoords=axes.get_xaxis_transform(),
                    textcoords="offset points",
                )
            axes.set_title(row.label, fontweight="bold", pad=22)
            axes.set_xlabel("time since launch (s)")
            axes.set_ylabel(label)
            axes.tick_params(labelleft=True, labelbottom=True)
            legend(axes)
        # The panels share their limits: once all are drawn.
        grid[0, 0].set_xlim(left=0)
        grid[0, 0].set_ylim(bottom=0)
    return svg[0]


def wire(comparison: Comparison) -> str | None:
    """Bytes that the tasks of a run sent each other so far; every byte is counted once, where it was received."""
    curves = []
    for row, colour in zip(comparison.rows, colours(comparison), strict=True):
        tables = [by_role(record.utilisation, "net_received_bytes") for record in row.counted]
        sums = [(table.since_launch_s, table.of_tasks()) for table in tables]
        received = [(times, total / 1e6) for times, total in sums if total is not None and total.max() > 0]
        if received:
            curves.append((row, colour, received))
    if not curves:
        return None
    with drawing("wire-plot", "bytes on the wire against time", (PAGE_IN, 3.2)) as (figure, svg):
        axes = figure.subplots()
        for row, colour, (first, *others) in curves:
            axes.plot(*thinned(*first), color=colour, linewidth=2.2, label=row.label)
            if others:
                axes.plot(*apart(others), color=colour, linewidth=0.8, alpha=0.45)
        axes.set_xlabel("time since launch (s)")
        axes.set_ylabel("received so far (MB)")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        legend(axes)
    return svg[0]


def _of_role(table: ByRole, role: str, divisor: float) -> tuple[np.ndarray, np.ndarray]:
    """One role of a table, where it has a value."""
    import numpy as np

    values = table.roles[role]
    known = ~np.isnan(values)
    return table.since_launch_s[known], values[known] / divisor


def _role_order(role: str) -> int:
    order = list(ROLE_STYLES)
    return order.index(role) if role in order else len(order)


def _plural(row: Row, role: str) -> str:
    used = row.counted[0].result.resources.get(role)
    return f"{role} × {used.tasks}" if used and used.tasks and used.tasks > 1 else role

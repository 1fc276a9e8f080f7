"""The tasks of a job, who sends to whom, and what each received: the picture of a parameter server, measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from facesim.report.comparison import Comparison
from facesim.report.load import RunRecord
from facesim.report.plots.drawing import INK, PAGE_IN, drawing
from facesim.report.rows import Row
from facesim.report.words import quantity
from facesim.spec.strategies import Layout, known_strategy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: How high the tasks of a role are drawn, 0-1, where parameter servers hold the parameters; peers are all alike.
_HEIGHT = {"ps": 0.84, "chief": 0.5, "worker": 0.16}

#: Of a box, in the same units.
_HALF_HEIGHT, _HALF_WIDTH = 0.1, 0.065


class _Box(NamedTuple):
    """A task: its place, and what it received in all over the cluster's connections, None where nobody counted."""

    role: str
    x: float
    y: float
    text: str


def tasks(comparison: Comparison) -> str | None:
    """The tasks of each row with several, by its first run."""
    panels = [(row, boxes) for row in comparison.rows if len(boxes := _boxes(row)) > 1]
    if not panels:
        return None
    with drawing("tasks-plot", "tasks and what they receive", (PAGE_IN, 0.4 + 3.0 * len(panels))) as (figure, svg):
        for axes, (row, boxes) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            _draw(axes, boxes)
            axes.set_title(f"{row.label}{_received_an_update(row)}", fontweight="bold")
    return svg[0]


def _boxes(row: Row) -> list[_Box]:
    strategy = known_strategy(row.records[0].job.strategy)
    if strategy is None or not row.counted or strategy.layout is Layout.SINGLE_PROCESS:
        return []
    received = _received(row.counted[0])
    by_role: dict[str, list[int]] = {}
    for role, index in received:
        by_role.setdefault(role, []).append(index)
    served = strategy.layout is Layout.PARAMETER_SERVER
    boxes = []
    for nth, (role, index) in enumerate(sorted(received)):
        place, number = (by_role[role].index(index), len(by_role[role])) if served else (nth, len(received))
        x = 0.08 if served and role == "chief" else 0.2 + 0.75 * (place + 0.5) / number
        size = received[role, index]
        text = f"{role}-{index}" + ("" if size is None else f"\nreceived {quantity(size, 'B')}")
        boxes.append(_Box(role, x, _HEIGHT[role] if served else 0.5, text))
    return boxes


def _received(record: RunRecord) -> dict[tuple[str, int], float | None]:
    """What each task received, in bytes."""
    received: dict[tuple[str, int], float | None] = {}
    for task, used in record.utilisation.items():
        if task.role in _HEIGHT:
            place = (task.role, task.task_index)
            _, values = used.get("net_received_bytes", ((), ()))
            size = received.setdefault(place, None)
            if len(values):
                received[place] = (size or 0.0) + float(max(values))
    return received


def _received_an_update(row: Row) -> str:
    """What each role received for an update, in words."""
    record = row.counted[0]
    sizes: dict[str, float] = {}
    for (role, _), size in _received(record).items():
        if size is not None:
            sizes[role] = sizes.get(role, 0.0) + size
    updates = record.result.updates
    if not updates or not sizes:
        return ""
    by_role = ", ".join(f"{role} {quantity(size / updates, 'B')}" for role, size in sizes.items())
    return f": received for an update: {by_role}"


def _links(boxes: list[_Box]) -> Iterator[tuple[_Box, _Box]]:
    """Who sends to whom: workers and servers, the chief and the servers; peers around a ring."""
    servers = [box for box in boxes if box.role == "ps"]
    if servers:
        yield from ((box, server) for server in servers for box in boxes if box.role != "ps")
    else:
        yield from zip(boxes, boxes[1:])
        if len(boxes) > 2:
            yield boxes[-1], boxes[0]


def _edge(box: _Box, other: _Box, around: bool) -> tuple[float, float]:
    """Where an arrow to another box begins: above or below, or at the side of a box that is far away."""
    if around or (box.y != other.y and box.role != "chief"):
        return box.x, box.y + (_HALF_HEIGHT if around or other.y > box.y else -_HALF_HEIGHT)
    return box.x + (_HALF_WIDTH if other.x > box.x else -_HALF_WIDTH), box.y


def _draw(axes: Axes, boxes: list[_Box]) -> None:
    for box, other in _links(boxes):
        back = box.y == other.y and box.x > other.x  # the ring's last link, around the others
        arrow = {"arrowstyle": "<->", "color": INK, "alpha": 0.5}
        arrow["connectionstyle"] = "arc3,rad=0.3" if back else "arc3"
        axes.annotate("", _edge(other, box, back), _edge(box, other, back), arrowprops=arrow)
    frame = {"boxstyle": "round,pad=0.5", "facecolor": "#88888822", "edgecolor": INK}
    for box in boxes:
        axes.text(box.x, box.y, box.text, ha="center", va="center", fontsize=9, bbox=frame)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.axis("off")

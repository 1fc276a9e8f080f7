"""The comparison in a terminal: verdict, table, warnings. Plain text where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from facesim.report.answer import answer
from facesim.report.cells import MAIN_MEASURES, Line, curve_lines, lines
from facesim.report.comparison import Comparison
from facesim.report.verdict import ALARM, CAUTION, PLAIN

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LABEL_WIDTH = 28
_COLUMN_WIDTH = 23

#: So much wider than its text is a column.
_PADDING = 3

#: More rows than these that do not fit beside each other have a line each.
_FEW = 4


def print_table(comparison: Comparison, console: Console | None = None) -> None:
    """Print `comparison`; strategies that do not fit beside each other follow below; of many each has a line.

    Args:
        console: where to; left out, standard output.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)
    table = lines(comparison)
    across = max(1, (console.width - _LABEL_WIDTH) // _COLUMN_WIDTH)
    if len(comparison.rows) > max(_FEW, across):
        for columns in _columns(comparison, table, console.width):
            console.print(_turned(comparison, columns, console.width, plain=not console.is_terminal))
    else:
        for start in range(0, len(comparison.rows), across):
            chosen = range(start, min(start + across, len(comparison.rows)))
            console.print(_table(comparison, table, chosen, console.width, plain=not console.is_terminal))
    console.print()
    for sentence in answer(comparison):
        console.print(Text(sentence.text, style="bold red" if sentence.tone == ALARM else "bold"))
    console.print()
    if len(comparison.contrasts) > 1 or comparison.curves:
        for headline in comparison.headlines:
            console.print(Text(headline.text, style="red" if headline.tone == ALARM else ""))
        console.print()
    if comparison.curves:
        console.print(_curves(comparison, plain=not console.is_terminal))
        console.print()
    several = len(comparison.contrasts) > 1
    for finding in comparison.findings:
        if several and finding.tone == PLAIN:
            continue  # the headlines carry it; all of it is in the HTML
        style = {ALARM: "red", CAUTION: "yellow"}.get(finding.tone, "")
        console.print(_item(finding.topic, finding.text, style))
    for warning in comparison.warnings:
        console.print(_item("warning", warning, "yellow"))
    if comparison.target_in_words:
        console.print(
            _item(
                "reading",
                "± is half of a 95 % interval over seeds, shown from three on. Time-to-accuracy counts from the first "
                f"training step, evaluations included; {comparison.target_in_words}.",
                "dim",
            )
        )


def _table(comparison: Comparison, table: list[Line], chosen: range, width: int, *, plain: bool) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.ASCII2 if plain else box.SIMPLE_HEAD, show_edge=plain)
    # Labels fold where a column has no room beside them: it would be cut off, and a part of a number is another number.
    room = width >= max(len(line.label) for line in table) + _COLUMN_WIDTH
    shown.add_column("", no_wrap=room)
    for index in chosen:
        shown.add_column(Text(comparison.rows[index].label), justify="right", min_width=12, overflow="fold")
    section = table[0].section if table else ""
    for line in table:
        if line.section != section:
            section = line.section
            shown.add_section()
        cells = [line.cells[index] for index in chosen]
        shown.add_row(Text(line.label), *(Text(cell.text, style="bold red" if cell.alarm else "") for cell in cells))
    return shown


def _columns(comparison: Comparison, table: list[Line], width: int) -> Iterator[list[Line]]:
    """Of the table's lines the main ones, as many at a time as fit beside each other as columns."""
    main = {comparison.measures[name].label for name in MAIN_MEASURES if name in comparison.measures}
    columns: list[Line] = []
    room = begin = width - _names_width(comparison, width) - _PADDING
    for line in table:
        if line.label in main | {"shape", "runs", "trained together?", "times disturbed", "tested on"}:
            needed = _width(line) + _PADDING
            if columns and needed > room:
                yield columns
                columns, room = [], begin
            columns.append(line)
            room -= needed
    yield columns


def _width(line: Line) -> int:
    """How wide it is as a column, whose name may be in several lines."""
    return max(map(len, [*(cell.text for cell in line.cells), *line.label.split()]))


def _names_width(comparison: Comparison, width: int) -> int:
    return min(max(len(row.label) for row in comparison.rows), width * 2 // 5)


def _turned(comparison: Comparison, columns: Sequence[Line], width: int, *, plain: bool) -> RenderableType:
    """A line a row of the comparison."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.ASCII2 if plain else box.SIMPLE_HEAD, show_edge=plain)
    shown.add_column("", width=_names_width(comparison, width), overflow="fold")
    for line in columns:
        shown.add_column(Text(line.label), justify="right", width=_width(line))
    for row, *cells in zip(comparison.rows, *(line.cells for line in columns), strict=True):
        shown.add_row(Text(row.label), *(Text(cell.text, style="bold red" if cell.alarm else "") for cell in cells))
    return shown


def _curves(comparison: Comparison, *, plain: bool) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.ASCII2 if plain else box.SIMPLE_HEAD, show_edge=plain)
    shown.add_column("training images", no_wrap=True)
    for curve in comparison.curves:
        shown.add_column(Text(curve.label), justify="right", overflow="fold")
    for size, cells in curve_lines(comparison):
        shown.add_row(Text(size), *map(Text, cells))
    return shown


def _item(topic: str, text: str, style: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(width=18)
    grid.add_column(ratio=1, overflow="fold")
    grid.add_row(Text(topic, style=style or "bold"), Text(text, style=style))
    return grid

"""The comparison in a notebook: as a data frame, and as a table in HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from facesim.report.cells import lines
from facesim.report.comparison import Comparison
from facesim.report.rows import Row

if TYPE_CHECKING:
    import pandas


def frame(comparison: Comparison) -> pandas.DataFrame:
    """One row for each row of the comparison, by its label, with the mean of every measure over the seeds."""
    import pandas

    return pandas.DataFrame.from_dict({row.label: _facts(row) for row in comparison.rows}, orient="index")


def _facts(row: Row) -> dict[str, Any]:
    estimates = {name: row.estimate(name) for name in row.measures}
    return {
        "strategy": row.records[0].job.strategy,
        "backend": row.backend,
        "seeds": len(row.seeds),
        "trained_together": row.audit,
        "measurement": row.measurement,
        **{name: None if estimate is None else estimate.mean for name, estimate in estimates.items()},
    }


def html(comparison: Comparison) -> str:
    """The verdict and the table."""
    head = ("", *(row.label for row in comparison.rows))
    body = [(line.label, *(cell.text for cell in line.cells)) for line in lines(comparison)]
    verdict = "".join(f"<p>{escape(headline.text)}</p>" for headline in comparison.headlines)
    return verdict + table([head, *body])


def table(rows: Iterable[Sequence[str]]) -> str:
    """Rows of texts as a table."""
    cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"

"""What runs say together: a verdict in words, a table, plots, one HTML file. Reads run directories and nothing else.

load        a run directory -> RunRecord
measures    what one run contributes to each line
rows        the runs of one strategy, seeds together
statistics  intervals, paired comparisons
comparison  rows against each other -> Comparison, the data behind everything shown
curves      accuracy against the size of the data
forecast_check  runs against what was forecast of them
fairness    what makes the rows unlike each other, and what was left out
verdict     the comparison in words
cells       the comparison as a table of text, for `table` (terminal) and `html`
plots       SVGs, a module for each family of plots
published   a published table beside the study's own numbers
export      JSON
page        a page in Markdown
markdown    its texts and tables, escaped
card        a model card and a data card in Markdown
notebook    a data frame, a table in HTML
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from facesim.baselines.record import check_baselines
from facesim.report.comparison import Comparison, compare_records
from facesim.report.load import load
from facesim.report.statistics import MARGIN
from facesim.runs.directory import Run
from facesim.util.errors import InputError


def compare(runs: Iterable[Run], target_accuracy: float | None = None, margin: float = MARGIN) -> Comparison:
    """Compare `runs`: those of one strategy, backend and shape are one row, their seeds taken together.

    A run that cannot be read is left out, and named in the warnings.

    Args:
        target_accuracy: of time-to-accuracy, 0-1; left out, 95 % of the lowest mean final accuracy of a row.
        margin: accuracies closer than this count as the same, 0-1.

    Raises:
        InputError: there is no run that can be read, or the target or the margin is no share.
    """
    records, left_out = [], []
    for run in runs:
        try:
            records.append(load(run))
        except InputError as error:
            left_out.append(f"left out: {run.id}: {error}")
    for folder in dict.fromkeys(record.run.directory.parent for record in records):
        try:
            check_baselines(folder)
        except InputError as error:
            left_out.append(f"left out: classical methods: {error}")
    if not records:
        why = "none of the runs can be read. " + "; ".join(left_out) if left_out else "there are no runs to compare"
        raise InputError(why)
    comparison = compare_records(records, target_accuracy, margin)
    return replace(comparison, warnings=(*left_out, *comparison.warnings))


def write_report(runs: Iterable[Run], output: Path, target_accuracy: float | None = None) -> Comparison:
    """Compare `runs` and write the comparison as one self-contained HTML file.

    Raises:
        InputError: there is no run that can be read, or `output` cannot be written.
    """
    from facesim.report.html import write_html

    comparison = compare(runs, target_accuracy)
    write_html(comparison, output)
    return comparison


def print_report(comparison: Comparison, console: Any = None) -> None:
    """Print the table, the verdict and the warnings; `console` is a rich Console, left out: standard output."""
    from facesim.report.table import print_table

    print_table(comparison, console)


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data for `json.dumps`."""
    from facesim.report.export import to_json

    return to_json(comparison)

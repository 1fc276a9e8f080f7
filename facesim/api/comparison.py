"""Runs, compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.api.runs import Run
from facesim.runs import directory
from facesim.util.folders import local_path
from facesim.util.words import count_text

if TYPE_CHECKING:
    import pandas

    from facesim.report.comparison import Comparison as Report


class Comparison:
    """Runs, compared: those of one strategy, backend and shape are one row, their seeds taken together.

    It can be iterated over: its runs.

    >>> import facesim
    >>> comparison = facesim.compare("runs")
    >>> list(comparison.frame.index)
    ['single']
    """

    def __init__(self, runs: Iterable[Run], target_accuracy: float | None = None, margin: float = 0.01):
        from facesim.report import compare

        self.runs = tuple(runs)
        #: The data behind everything that is shown.
        self.report: Report = compare([run._run for run in self.runs], target_accuracy, margin)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __getitem__(self, number: int) -> Run:
        return self.runs[number]

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def verdict(self) -> str:
        """The comparison in words, a sentence for each row that is compared."""
        return "\n".join(headline.text for headline in self.report.headlines)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the rows unlike each other apart from their strategy, or was left out."""
        return self.report.warnings

    @property
    def frame(self) -> pandas.DataFrame:
        """One row for each row of the comparison, by its label: strategy, backend, seeds, whether its replicas trained
        together, how its numbers are marked, and the mean of every measure over the seeds. Measures have their units in
        their names.
        """
        from facesim.report.notebook import frame

        return frame(self.report)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data for `json.dumps`."""
        from facesim.report import to_json

        return to_json(self.report)

    def write(self, file: Path | str) -> Path:
        """Write the report, with its plots, as one HTML file that needs nothing else.

        Raises:
            InputError, DiskFull: it cannot be written.
        """
        from facesim.report.html import write_html

        file = local_path(file)
        write_html(self.report, file)
        return file

    def __repr__(self) -> str:
        rows = ", ".join(row.label for row in self.report.rows)
        return f"<facesim.Comparison of {count_text(len(self), 'run')}: {rows}>"

    def _repr_html_(self) -> str:
        from facesim.report.notebook import html

        return html(self.report)


def compare(
    runs: Run | Path | str | Iterable[Run | Path | str],
    target_accuracy: float | None = None,
    margin: float = 0.01,
) -> Comparison:
    """Compare runs: given as such, by their directories, or by folders that hold them.

    Args:
        target_accuracy: of time-to-accuracy, 0-1; left out, 95 % of the lowest mean final accuracy of a row.
        margin: accuracies closer than this count as the same, 0-1.

    Raises:
        InputError: a path holds no run.
    """
    given = runs if isinstance(runs, Iterable) and not isinstance(runs, str) else [runs]
    by_directory: dict[Path, Run] = {}
    for run_or_path in given:
        if isinstance(run_or_path, Run):
            several = [run_or_path]
        else:
            several = [Run(run) for run in directory.find_runs([local_path(run_or_path)])]
        by_directory |= {run.directory.resolve(): run for run in several}
    return Comparison(by_directory.values(), target_accuracy, margin)

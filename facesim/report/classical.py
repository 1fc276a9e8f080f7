"""The classical baselines that a study left beside its runs, on the rows' own split and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from facesim.baselines import BASELINES
from facesim.baselines.record import read_baselines
from facesim.report.rows import Row
from facesim.report.statistics import Estimate, mean_interval


class Classical(NamedTuple):
    """A method over the seeds: accuracies are shares, 0-1; seconds to train and test."""

    method: str
    summary: str
    accuracy: Estimate
    balanced_accuracy: float
    seconds: float


def classical(rows: Sequence[Row]) -> tuple[Classical, ...]:
    """Every method that the first row's study has scores of; none where it has no baselines."""
    row = next((row for row in rows if row.counted), None)
    if row is None:
        return ()
    folders = dict.fromkeys(record.run.directory.parent for record in row.counted)
    read = [score for folder in folders for score in read_baselines(folder, row.experiment, row.seeds, row.tested)]
    scores = {(score.method, score.seed): score for score in read}.values()  # a seed may have them in several folders
    return tuple(
        Classical(
            method,
            baseline.summary,
            mean_interval([score.accuracy for score in of_method]),
            fmean(score.balanced_accuracy for score in of_method),
            fmean(score.seconds for score in of_method),
        )
        for method, baseline in BASELINES.available()
        if (of_method := [score for score in scores if score.method == method])
    )

"""The classical baselines that a study left beside its runs, on the rows' own split and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from facesim.baselines import BASELINES
from facesim.baselines.record import read_baselines
from facesim.report.rows import Row
from facesim.report.statistics import Estimate, mean_interval


class Classical(NamedTuple):
    """A method over the seeds: accuracies are shares, 0-1; seconds to train and test. `without` are the rows' seeds of
    which it has no score.
    """

    method: str
    summary: str
    accuracy: Estimate
    balanced_accuracy: float
    seconds: float
    by_seed: Mapping[int, float]
    without: tuple[int, ...]

    @property
    def lacking(self) -> str:
        """`no score of seed 2`, `no score of seeds 1, 2`; empty where it has one of each."""
        plural = "s" if len(self.without) > 1 else ""
        return f"no score of seed{plural} {', '.join(map(str, self.without))}" if self.without else ""


def classical(rows: Sequence[Row]) -> tuple[Classical, ...]:
    """Every method that the studies of the rows have scores of, on the images that all of the rows were tested on; none
    where they have no baselines.
    """
    counted = [row for row in rows if row.counted]
    if not counted:
        return ()
    seeds = sorted({seed for row in counted for seed in row.seeds})
    tested = {seed: sha256 for row in counted for seed, sha256 in row.tested.items() if sha256 is not None}
    read = [
        score
        for row in counted
        for folder in dict.fromkeys(record.run.directory.parent for record in row.counted)
        for score in read_baselines(folder, row.experiment, seeds, tested)
    ]
    scores = {(score.method, score.seed): score for score in read}.values()  # a seed may have them in several folders
    return tuple(
        Classical(
            method,
            baseline.summary,
            mean_interval([score.accuracy for score in of_method]),
            fmean(score.balanced_accuracy for score in of_method),
            fmean(score.seconds for score in of_method),
            by_seed := {score.seed: score.accuracy for score in of_method},
            tuple(seed for seed in seeds if seed not in by_seed),
        )
        for method, baseline in BASELINES.available()
        if (of_method := [score for score in scores if score.method == method])
    )

"""Classical recognition, without a network: the bar that training has to pass on as few images as these.

`BASELINES` names the methods without importing scikit-learn or scikit-image. Adding one is one function in
`facesim.baselines.methods` and one line.
"""

from __future__ import annotations

from statistics import fmean, stdev
from typing import NamedTuple

#: Beyond so many images a study leaves the baselines out: they would take longer than training.
MAX_IMAGES = 20_000


class Baseline(NamedTuple):
    """A method, as far as it can be told without its libraries: its function in `methods`, what it is, and whether it
    learns how images of one person differ, for which one training image of each is too few.
    """

    function: str
    summary: str
    within: bool = False


BASELINES: dict[str, Baseline] = {
    "eigenfaces": Baseline("eigenfaces", "principal components, nearest neighbour (Turk and Pentland, 1991)"),
    "fisherfaces": Baseline("fisherfaces", "principal components, then discriminants (Belhumeur et al., 1997)", True),
    "lbp-svm": Baseline("lbp_svm", "local binary patterns in 8x8 cells (Ahonen et al., 2006), linear SVM"),
    "hog-svm": Baseline("hog_svm", "oriented gradients (Dalal and Triggs, 2005), linear SVM"),
}


class Score(NamedTuple):
    """A method on one split: accuracies 0-1 on the held-out images, and seconds to train and test on one core."""

    method: str
    seed: int
    accuracy: float
    balanced_accuracy: float
    seconds: float


def means(scores: list[Score]) -> dict[str, dict[str, float]]:
    """By method: accuracy and balanced accuracy, mean and standard deviation over seeds (None for one), and seconds."""
    return {
        name: {
            "seeds": len(own),
            "accuracy": fmean(score.accuracy for score in own),
            "accuracy_sd": stdev(score.accuracy for score in own) if len(own) > 1 else None,
            "balanced_accuracy": fmean(score.balanced_accuracy for score in own),
            "seconds": fmean(score.seconds for score in own),
        }
        for name in BASELINES
        if (own := [score for score in scores if score.method == name])
    }

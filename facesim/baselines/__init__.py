"""Classical recognition, without a network: the bar that training has to pass on as few images as these.

`BASELINES` names the methods without importing scikit-learn or scikit-image. Adding one is one function in
`facesim.baselines.methods` and one line; another package adds one by an entry point of `facesim.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, stdev
from typing import Any, NamedTuple

from facesim.util.registry import Registry

#: Beyond so many images a study leaves the baselines out: they would take longer than training.
MAX_IMAGES = 20_000


class Baseline(NamedTuple):
    """A method, as far as it can be told without its libraries: its function, or where that is (`module:function`),
    what it is, and whether it learns how images of one person differ, for which one training image of each is too few.

    The function takes training images, float32 (n, height, width), 0-1, their labels, the images to test on and a seed,
    and returns the labels that it gives to these.
    """

    function: str | Callable[..., Any]
    summary: str
    within: bool = False


def _method(name: str, summary: str, within: bool = False) -> Baseline:
    return Baseline(f"facesim.baselines.methods:{name}", summary, within)


BASELINES: Registry[Baseline] = Registry(
    "baseline",
    "facesim.baselines",
    {
        "eigenfaces": _method("eigenfaces", "principal components, nearest neighbour (Turk and Pentland, 1991)"),
        "fisherfaces": _method(
            "fisherfaces", "principal components, then discriminants (Belhumeur et al., 1997)", within=True
        ),
        "lbp-svm": _method("lbp_svm", "local binary patterns in 8x8 cells (Ahonen et al., 2006), linear SVM"),
        "hog-svm": _method("hog_svm", "oriented gradients (Dalal and Triggs, 2005), linear SVM"),
    },
)


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
            "seeds": len(method_scores),
            "accuracy": fmean(score.accuracy for score in method_scores),
            "accuracy_sd": stdev(score.accuracy for score in method_scores) if len(method_scores) > 1 else None,
            "balanced_accuracy": fmean(score.balanced_accuracy for score in method_scores),
            "seconds": fmean(score.seconds for score in method_scores),
        }
        for name in dict.fromkeys([*BASELINES, *(score.method for score in scores)])
        if (method_scores := [score for score in scores if score.method == name])
    }

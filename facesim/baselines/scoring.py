"""The classical methods, trained and tested on a split."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from facesim.baselines import BASELINES, Score, methods
from facesim.data.identity import identity_of
from facesim.data.prepared import PreparedData
from facesim.spec.data import DataSpec
from facesim.util.registry import loaded


def tested_on(data: PreparedData, spec: DataSpec) -> str:
    """The identity of the images that a training by `spec` is tested on."""
    return identity_of(data, data.split(spec)[1])


def score_baselines(
    data: PreparedData, spec: DataSpec, names: Iterable[str], progress: Callable[[str], Any] = lambda _: None
) -> list[Score]:
    """Train and test the methods called `names` on the split that `spec` gives a training.

    `progress` is called with each method's name before it begins.
    """
    train, test = data.split(spec)
    images = methods.grey(np.asarray(data.images))
    truth = data.labels[test]
    scores = []
    for name in names:
        progress(name)
        begin = time.perf_counter()
        predicted = loaded(BASELINES[name].function)(images[train], data.labels[train], images[test], spec.seed)
        seconds = time.perf_counter() - begin
        accuracy, balanced = float(accuracy_score(truth, predicted)), float(balanced_accuracy_score(truth, predicted))
        scores.append(Score(name, spec.seed, accuracy, balanced, seconds))
    return scores

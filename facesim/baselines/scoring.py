"""The classical methods, trained and tested on a split."""

from __future__ import annotations

import time
from collections.abc import Callable
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


def score_baselines(data: PreparedData, spec: DataSpec, progress: Callable[[str], Any] = lambda _: None) -> list[Score]:
    """Train and test every method that can learn from so few images, on the split that `spec` gives a training.

    `progress` is called with each method's name before it begins.
    """
    train, test = data.split(spec)
    images = methods.grey(np.asarray(data.images))
    truth = data.labels[test]
    scores = []
    for name, baseline in BASELINES.available():
        if baseline.within and len(train) <= len(data.names):
            continue
        progress(name)
        begin = time.perf_counter()
        predicted = loaded(baseline.function)(images[train], data.labels[train], images[test], spec.seed)
        seconds = time.perf_counter() - begin
        accuracy, balanced = float(accuracy_score(truth, predicted)), float(balanced_accuracy_score(truth, predicted))
        scores.append(Score(name, spec.seed, accuracy, balanced, seconds))
    return scores

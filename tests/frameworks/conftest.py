"""Trainings by other frameworks that several tests look at; tests whose framework is not installed are skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from facesim.metrics.files import read_samples
from facesim.runs.directory import Run, find_runs
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW
from facesim.util.errors import InputError
from tests.conftest import completed_run, made_once

#: A network with nothing random, and all that an optimiser and a loss can have: from the same parameters and batches it
#: ends in the same place, to rounding.
PLAIN = (
    "--model", "plain-cnn", "--image-size", 32, "--batch", 9, "--epochs", 3, "--learning-rate", 0.003,
    "--head", "arcface", "--schedule", "cosine", "--weight-decay", 0.05, "--clip-norm", 0.5, "--label-smoothing", 0.1,
    "--mirror-test",
)  # fmt: skip
QUIETLY = ("--sampling-s", 0.2)
#: All frameworks but the first, which the others are compared with.
OTHERS = [name for name in FRAMEWORKS if name != TENSORFLOW]


def need(*frameworks: str) -> None:
    """Skip the test where one of them is not installed."""
    for name in frameworks:
        try:
            FRAMEWORKS[name].check()
        except InputError as error:
            pytest.skip(str(error))


def curve(run: Run) -> list[float]:
    """The training loss of each epoch."""
    samples = read_samples(run.metrics)
    return samples[(samples["name"] == "loss") & (samples["role"] == "chief")]["value"].tolist()


@pytest.fixture(scope="session")
def plain(shared: Path, faces: Path) -> Callable[[str, str], Run]:
    """The run of the plain network by a framework and a strategy, two workers."""

    def trained(framework: str, strategy: str) -> Run:
        need(framework)
        options = ("--framework", framework, "--strategy", strategy, "--data", faces, *PLAIN, *QUIETLY)
        (run,) = find_runs([made_once(shared / f"{framework} {strategy}", lambda to: completed_run(to, *options))])
        return run

    return trained

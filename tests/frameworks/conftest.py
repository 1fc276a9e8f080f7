"""Trainings by other frameworks that several tests look at; tests whose framework is not installed are skipped."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from facesim.runs.directory import Run
from facesim.spec.frameworks import FRAMEWORKS
from facesim.util.errors import InputError
from tests.conftest import completed_run

#: A network with nothing random, and all that an optimiser and a loss can have: from the same parameters and batches it
#: ends in the same place, to rounding.
PLAIN = (
    "--model", "plain-cnn", "--image-size", 32, "--batch", 9, "--epochs", 3, "--learning-rate", 0.003,
    "--head", "arcface", "--schedule", "cosine", "--weight-decay", 0.05, "--clip-norm", 0.5, "--label-smoothing", 0.1,
    "--mirror-test",
)  # fmt: skip
QUIETLY = ("--sampling-s", 0.2)


def need(*frameworks: str) -> None:
    """Skip the test where one of them is not installed."""
    for name in frameworks:
        try:
            FRAMEWORKS[name].check()
        except InputError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="session")
def plain(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Run]:
    """The run of the plain network by a framework and a strategy, two workers."""

    @cache
    def trained(framework: str, strategy: str) -> Run:
        need(framework)
        output = tmp_path_factory.mktemp(f"{framework}-{strategy}")
        return completed_run(
            output, "--framework", framework, "--strategy", strategy, "--data", faces, *PLAIN, *QUIETLY
        )

    return trained

"""Ctrl-C that comes when a run has as good as ended: the run completes, and nothing else is begun."""

from __future__ import annotations

import os

import pytest

import facesim
from facesim.backends import local
from facesim.baselines import BASELINES, Baseline
from facesim.runs.directory import find_runs
from facesim.runs.states import RunState
from tests.conftest import facesim_here
from tests.support.executions import Completes, Played, interrupt


@pytest.fixture
def too_late(monkeypatch):
    """Every run that is submitted completes, though the user presses Ctrl-C."""
    monkeypatch.setattr(local, "BACKEND", Played(lambda run: Completes(meanwhile=interrupt)))


def states(output):
    return [run.result().state for run in find_runs([output])]


@pytest.mark.parametrize("strategies", ["single", "single,local-sgd"])
def test_a_command_ends_as_interrupted_and_computes_no_baselines(too_late, faces, tmp_path, strategies):
    command = facesim_here(
        "compare", "--data", faces, "--image-size", 32, "--strategy", strategies, "--output", tmp_path
    )

    assert command.code == 130, command.errors
    assert states(tmp_path) == [RunState.COMPLETED]
    assert not (tmp_path / "baselines.json").exists()


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="each job needs a CPU of its own"
)
def test_so_does_one_whose_jobs_run_at_the_same_time(too_late, faces, tmp_path):
    options = ("--data", faces, "--image-size", 32, "--strategy", "single,local-sgd", "--parallel", 2)
    command = facesim_here("compare", *options, "--output", tmp_path)

    assert command.code == 130, command.errors
    ended = states(tmp_path)  # the interrupt of the one may come before the other has completed
    assert RunState.COMPLETED in ended and {*ended} <= {RunState.COMPLETED, RunState.STOPPED}
    assert not (tmp_path / "baselines.json").exists()


def test_so_does_a_run_that_is_resumed(too_late, faces, tmp_path):
    facesim.run(data=str(faces), image_size=32, output=tmp_path, observers=[])
    (run,) = find_runs([tmp_path])
    run.result_file.unlink()

    command = facesim_here("run", "--resume", run.directory)

    assert command.code == 130, command.errors
    assert states(tmp_path) == [RunState.COMPLETED]


def test_one_that_computes_baselines_says_how_to_continue(monkeypatch, faces, tmp_path):
    monkeypatch.setattr(local, "BACKEND", Played())
    slow = Baseline(lambda *_: interrupt(), "a method that takes too long for the user")
    monkeypatch.setattr(BASELINES, "_builtin", {"slow": slow})

    command = facesim_here("compare", "--data", faces, "--image-size", 32, "--strategy", "single", "--output", tmp_path)

    (kept,) = (tmp_path / "studies").iterdir()
    assert command.code == 130, command.errors
    assert f"to continue: facesim study run {kept}" in command.errors


def test_a_study_from_python_computes_no_baselines(too_late, faces, tmp_path):
    comparison = facesim.Study(data=str(faces), image_size=32, seeds=2).run(tmp_path, observers=[])

    assert [run.state for run in comparison] == [RunState.COMPLETED]
    assert not (tmp_path / "baselines.json").exists()

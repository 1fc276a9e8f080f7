"""Which kernels runs compute with: how they are chosen, where that is kept, and that results do not depend on it."""

from __future__ import annotations

import fcntl
import sys
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from facesim.backends import kernels
from facesim.backends.docker import BACKEND as DOCKER
from facesim.backends.kernels import FIXED, KERNELS, Choice, fastest
from facesim.backends.local import BACKEND as LOCAL
from facesim.runs.events import Submitted
from facesim.spec.job import make_job
from facesim.study.observers import Observer
from facesim.study.runner import run_study
from tests.support.kernels import keep


@pytest.fixture
def unchosen(tmp_path, monkeypatch):
    """A user's cache folder in which nothing has been chosen, and a process that has not chosen either."""
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "_chosen", {})


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        ({"float32": {"onednn": 1.0, "eigen": 2.0}}, "onednn"),
        ({"float32": {"onednn": 2.0, "eigen": 1.0}}, "eigen"),
        ({"float32": {"onednn": 1.03, "eigen": 1.0}}, "onednn"),  # less than what is noise
        ({"float32": {"onednn": 1.1, "eigen": 1.0}, "bfloat16": {"onednn": 1.0, "eigen": 9.0}}, "onednn"),
        ({"float32": {"onednn": 1.0, "eigen": 2.0}, "bfloat16": {"eigen": 9.0}}, "eigen"),  # the other cannot train so
        ({"float32": {"onednn": 1.0}, "bfloat16": {"eigen": 1.0}}, "default"),
        ({}, FIXED),
    ],
)
def test_the_faster_kernels_are_chosen_that_train_in_every_precision(step_s, expected):
    assert fastest(step_s) == expected


def test_a_choice_is_kept_for_this_machine(unchosen):
    assert kernels.chosen() is None
    keep()

    assert kernels.chosen() == kernels.choose()
    assert str(kernels.choose()) == "eigen: 2.00 times as fast as the others in float32"


def test_a_start_while_another_measures_waits_for_what_that_finds(unchosen):
    file = kernels._file()
    file.parent.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with file.with_suffix(".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            chosen = pool.submit(kernels.choose)
            wait([chosen], timeout=0.3)
            keep()

        assert chosen.result().step_s == {"float32": {"eigen": 1.0, "onednn": 2.0}}


@pytest.mark.parametrize("damage", [{"kernels": "abacus"}, {"machine": {"cpu_model": "another"}}, {"colour": "red"}])
def test_what_is_no_choice_for_this_machine_is_none(unchosen, damage):
    keep(**damage)

    assert kernels.chosen() is None


@pytest.mark.parametrize("asked", ["onednn", "eigen", "default"])
def test_kernels_that_are_asked_for_are_not_measured(unchosen, asked):
    job = make_job(kernels=asked)

    assert not LOCAL.choose_kernels([job], print)
    assert LOCAL.kernels(job) == DOCKER.kernels(make_job(backend="docker", kernels=asked)) == asked


def test_containers_do_not_measure_and_all_have_the_same(unchosen):
    keep(kernels="eigen")
    job = make_job(backend="docker")

    assert not DOCKER.choose_kernels([job], print)
    assert DOCKER.kernels(job) == FIXED


def test_where_nothing_can_be_measured_a_study_still_has_one_choice_and_the_next_tries_again(unchosen, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")

    choice = kernels.choose()

    assert (choice.kernels, choice.step_s) == (FIXED, {})
    assert kernels.choose() is choice
    assert not kernels._file().exists()


class Listening(Observer):
    def __init__(self):
        self.heard = []

    def noticed(self, text):
        self.heard.append(text)


@pytest.mark.slow
def test_kernels_are_measured_once_and_what_is_computed_does_not_depend_on_them(unchosen, faces, tmp_path):
    listening = Listening()
    options = {"data": str(faces), "model": "compact-cnn", "epochs": 2, "image_size": 32}
    jobs = [make_job(kernels=asked, **options) for asked in ("auto", "onednn", "eigen")]

    runs = run_study(jobs, tmp_path / "runs", [listening])

    results = [run.result() for run in runs]
    submissions = [next(event for event in run.events() if isinstance(event, Submitted)) for run in runs]
    choice = kernels.chosen()
    assert isinstance(choice, Choice) and set(choice.step_s) == set(kernels.PRECISIONS)
    assert sum("kernels" in text for text in listening.heard) == 2  # before and after measuring
    computed_with = [choice.kernels, "onednn", "eigen"]
    assert [result.machine["kernels"] for result in results] == computed_with
    assert [submitted.kernels for submitted in submissions] == computed_with
    assert [run.plan()["environment"] for run in runs] == [KERNELS[name] for name in computed_with]
    for result in results[1:]:
        assert result.held_out_loss == pytest.approx(results[0].held_out_loss, rel=1e-2)

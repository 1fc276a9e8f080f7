"""Jobs at the same time: each on processors of its own, all told to stop, observers told one thing after the other."""

from __future__ import annotations

import os
from threading import Barrier

import pytest

from facesim.backends import local
from facesim.runs.accounting import of_kind
from facesim.runs.events import Submitted
from facesim.runs.records import Load
from facesim.spec.job import make_job
from facesim.study.job_pool import JobPool, places_for
from facesim.study.observers import Observer
from facesim.study.runner import run_study
from facesim.util.errors import InputError
from tests.support.executions import Completes, Played

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="binding to processors is Linux'")


class Going:
    def __init__(self):
        self.calls = []

    def stop(self):
        self.calls.append("stop")

    def kill(self):
        self.calls.append("kill")


def test_jobs_at_the_same_time_have_processors_of_their_own():
    here = os.sched_getaffinity(0)
    if len(here) < 2:
        pytest.skip("there is one processor")
    pool, together = JobPool(places_for([make_job()], 2)), Barrier(2, timeout=30)

    def look(_, number):
        together.wait()
        return number, frozenset(os.sched_getaffinity(0))

    (first, mine), (second, theirs) = pool.each("ab", look)

    assert (first, second) == (1, 2)
    assert mine and theirs and not mine & theirs
    assert os.sched_getaffinity(0) == here


def test_jobs_that_run_elsewhere_are_bound_to_no_processor():
    assert places_for([make_job(backend="sagemaker")], 3) == [frozenset()] * 3


@pytest.mark.parametrize(
    ("backend", "parallel", "message"),
    [
        ("local", 64, "is too many: there are"),
        ("docker", 2, "is not possible with --backend docker"),
        ("sagemaker", 65, "must be a whole number from 1 to 64"),
        ("local", 0, "must be a whole number from 1 to 64"),
        ("local", "2", "parallel '2' is not allowed"),
    ],
)
def test_more_than_this_machine_can_keep_apart_is_refused(backend, parallel, message):
    with pytest.raises(InputError, match=message) as refused:
        places_for([make_job(backend=backend)], parallel)

    assert refused.value.field == "parallel"


def test_what_is_told_to_stop_reaches_all_that_go_on_and_who_comes_later():
    pool, first, late = JobPool([frozenset()] * 2), Going(), Going()

    with pool.running(first):
        pool.stop()
    with pool.running(late):
        pool.kill()

    assert (first.calls, late.calls) == (["stop"], ["stop", "kill"])
    assert pool.stopped


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="two jobs need a CPU each"
)
def test_a_job_beside_which_no_other_is_to_be_run_has_all_processors(faces, tmp_path, monkeypatch):
    bound: list[set[int]] = []

    def submit(run):
        bound.append(os.sched_getaffinity(0))
        return Completes()

    monkeypatch.setattr(local, "BACKEND", Played(submit))

    (run,) = run_study([make_job(data=str(faces), image_size=32)], tmp_path, parallel=2)

    (submitted,) = of_kind(run.events(), Submitted)
    assert submitted.beside is None and run.result().disturbances == ()
    assert bound == [os.sched_getaffinity(0)]


def test_an_observer_hears_whose_turn_it_is():
    heard = []

    class Listening(Observer):
        def turn(self, run):
            heard.append(("turn", run))

        def tick(self):
            heard.append("tick")

    pool, listening = JobPool([frozenset()] * 2), Listening()
    pool.turns(listening, "a").tick()
    pool.turns(listening, "b").tick()

    assert heard == [("turn", "a"), "tick", ("turn", "b"), "tick"]


def test_a_run_beside_others_is_marked():
    (why,) = Load(foreign_cpu_percent=60.0, beside=1).disturbances

    assert why == "another run of its study ran beside it, on CPUs of their own"

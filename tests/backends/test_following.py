"""A run that is followed to its end, whatever comes in between."""

from __future__ import annotations

import json
import shutil

import pytest

from facesim.backends.base import Attached
from facesim.backends.reach import Reach
from facesim.backends.remote_job import RemoteJob
from facesim.metrics.files import SampleWriter
from facesim.runs.directory import Run
from facesim.runs.states import RunState
from facesim.spec.job import make_job
from facesim.study.job_pool import JobPool, Place
from facesim.study.runner import attach
from facesim.util.errors import DiskFull, FacesimError
from tests.support.executions import Completes, interrupt


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "one", make_job(strategy="single"))


def test_an_interrupt_that_comes_too_late_for_a_run_ends_the_study(run):
    pool = JobPool([Place()])

    result = attach(Attached(run, Completes(meanwhile=interrupt)), pool=pool)

    assert result.state is RunState.COMPLETED
    assert pool.stopped


def test_an_interrupt_does_not_keep_the_result_from_being_written(run):
    attach(Attached(run, Completes(at_its_end=interrupt)))

    assert run.result()["state"] == RunState.COMPLETED


def test_a_run_that_had_ended_before_is_let_go_of(run):
    attach(Attached(run, Completes()))
    run.claim.take()

    assert attach(Attached(run)).state is RunState.COMPLETED
    assert not run.claim.look().held


def written_again(run):
    """Moves the directory of a run away, and writes where it was, as its tasks do when they save."""
    run.directory.rename(run.directory.with_name("moved"))
    run.directory.mkdir()
    run.model_file.write_bytes(b"")


@pytest.mark.parametrize("lose", [lambda run: shutil.rmtree(run.directory), written_again])
def test_a_run_whose_directory_is_removed_or_moved_says_so(run, lose):
    with pytest.raises(FacesimError, match="one was removed or moved while it was being run: start it again"):
        attach(Attached(run, Completes(meanwhile=lambda: lose(run))))


def test_what_was_not_measured_is_no_number(run):
    writer = SampleWriter(run.metrics / "sockets.jsonl", run_id=run.id, host="here", source="sockets")
    writer.write(2e9, "host", 0, {"sampling_s": 0.005})

    host = attach(Attached(run, Completes())).resources["host"]

    assert (host.cpu_percent_mean, host.net_received_bytes) == (None, None)


class Remote(RemoteJob):
    place, _name, _exists = "elsewhere", "one", True

    def _cancel(self):
        pass


def test_what_did_not_fit_is_tried_again_once_there_is_room(run, monkeypatch):
    waiting = Remote(run, Reach((), FacesimError, lambda: None), "stop")._until_tried_again(DiskFull("full"), 0.0, 0.0)
    usage = shutil.disk_usage

    assert next(waiting) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(place)._replace(free=usage(place).free + 10**9))
    assert list(waiting) == []


def test_what_a_host_printed_is_told_whatever_the_clocks_of_others_say(run):
    run.record("submitted")
    run.record("stopping", grace_s=1.0, host="algo-1", time_unix_s=2e9 + 100.0)

    def told(host, time_unix_s):
        line = json.dumps({"time_unix_s": time_unix_s, "event": "task_started", "task": "chief-0", "host": host})
        followed = Remote(run, Reach((), FacesimError, lambda: None), "stop")._followed
        return followed.printed(host, line, time_unix_s) is not None

    assert not told("algo-1", 2e9 + 100.0)
    assert told("algo-1", 2e9 + 101.0)
    assert told("algo-2", 2e9 + 50.0)

"""A task that is stopped, in real clusters: named, ended, started again, with every example counted once."""

from __future__ import annotations

import os
import signal

import pytest

from facesim.runs import messages
from facesim.runs.directory import Run
from facesim.runs.states import RunState
from tests.conftest import QUICK, pids_of, still_running
from tests.integration.running import Running
from tests.integration.test_recovery import events, seen_once

pytestmark = pytest.mark.slow


def pid_of(run: Run, task: str) -> int:
    if task == "node":
        return events(run, "node_started")[0]["pid"]
    return next(event["pid"] for event in events(run, "task_started") if event["task"] == task)


@pytest.mark.parametrize(("strategy", "task", "again"), [
    ("ps-async", "worker-1", ["worker-1"]),
    pytest.param("ps-sync", "ps-0", ["chief-0", "ps-0", "worker-0", "worker-1"], marks=pytest.mark.exhaustive),
    pytest.param("allreduce", "worker-0", ["chief-0", "worker-0"], marks=pytest.mark.exhaustive),
    pytest.param("independent", "worker-0", ["worker-0"], marks=pytest.mark.exhaustive),
    pytest.param("single", "chief-0", ["chief-0"], marks=pytest.mark.exhaustive),
    pytest.param("single", "node", ["chief-0"], marks=pytest.mark.exhaustive),
])  # fmt: skip
def test_what_is_stopped_is_named_and_started_again(tmp_path, faces, strategy, task, again):
    running = Running(
        tmp_path, "run", "--strategy", strategy, "--data", faces, "--epochs", 40, "--hang-s", 6,
        "--checkpoint-steps", 20, *QUICK,
    )  # fmt: skip
    run = running.run_that_trains()
    os.kill(pid_of(run, task), signal.SIGSTOP)
    code, shown = running.end()

    assert code == 0, shown
    judgements = events(run, "hung")
    assert [event["task"] for event in judgements] == [task]
    assert messages.hung(judgements[0]) in shown  # "has not answered", or on a busy machine "has made no progress"
    assert sorted(events(run, "recovering")[0]["starting"]) == again
    assert run.result()["state"] == RunState.COMPLETED
    assert strategy == "independent" or seen_once(run)
    assert not still_running(pids_of(run), within_s=1)


@pytest.mark.exhaustive
def test_a_run_that_may_not_start_again_fails_and_says_what_hung(tmp_path, faces):
    running = Running(tmp_path, "run", "--data", faces, "--epochs", 100_000, "--hang-s", 3, "--max-restarts", 0, *QUICK)
    run = running.run_that_trains()
    os.kill(pid_of(run, "chief-0"), signal.SIGSTOP)
    code, _ = running.end()

    assert code == 1
    assert run.result()["failure"].startswith("chief-0 has not answered for")

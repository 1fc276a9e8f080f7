"""What hangs is named and treated as dead; what only takes long is not. Without TensorFlow."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.cluster.test_node import follow, start, task
from tests.cluster.test_recovery import named, starts
from tests.conftest import still_running, wait_until
from tests.support.events import pids

HANG = {"hang_s": 2.0, "max_restarts": 2, "backoff_s": 0.01}


def stop_first(name: str, noted: Path):
    """Stop the first process of a task, when both fellows have noted their starts."""
    stopped: list[int] = []

    def stop(event: dict) -> None:
        if event["event"] == "task_started" and event["task"] == name and not stopped:
            stopped.append(event["pid"])
            wait_until(lambda: noted.exists() and noted.stat().st_size == 2)
            os.kill(event["pid"], signal.SIGSTOP)

    return stop


@pytest.mark.slow
@pytest.mark.parametrize(("name", "again"), [
    ("worker-0", {"worker-0": 2, "ps-0": 1, "chief-0": 1}),
    ("ps-0", {"worker-0": 2, "ps-0": 2, "chief-0": 2}),
    ("chief-0", {"worker-0": 2, "ps-0": 2, "chief-0": 2}),
])  # fmt: skip
def test_a_task_that_is_stopped_is_named_killed_and_started_again(tmp_path, name, again):
    worker, server = (task(tmp_path, role, "serve_and_note", str(tmp_path)) for role in ("worker", "ps"))
    due = 3 if name == "worker-0" else 4
    chief = task(tmp_path, "chief", "work_with_fellows", str(tmp_path), 2, due)
    node = start(tmp_path, chief, replace(worker, replaceable=True), server, **HANG)

    events = follow(node, stop_first(name, tmp_path / "starts"))

    (hung,) = named(events, "hung")
    assert (hung["task"], hung["silent"]) == (name, True)
    assert hung["for_s"] > 2
    killed = named(events, "task_ended")[0]
    assert (killed["task"], killed["signal"]) == (name, "SIGKILL")
    assert {each: starts(events, each) for each in again} == again
    assert events[-1]["outcome"] == "completed"
    assert not still_running(pids(events))


@pytest.mark.slow
def test_a_task_that_makes_no_step_any_more_is_started_again(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "stall_once", str(tmp_path), 60.0), **HANG)

    events = follow(node)

    (hung,) = named(events, "hung")
    assert (hung["task"], hung["silent"], hung["doing"]) == ("chief-0", False, "training")
    assert events[-1]["outcome"] == "completed"


@pytest.mark.slow
def test_what_is_no_step_may_take_longer_and_so_may_those_who_wait_for_it(tmp_path):
    chief, peer = task(tmp_path, "chief", "evaluate_long", 4.0), task(tmp_path, "worker", "wait_for_leader", 3.5)
    node = start(tmp_path, chief, peer, **HANG)

    events = follow(node)

    assert not named(events, "hung")
    assert events[-1]["outcome"] == "completed"


@pytest.mark.slow
def test_without_a_limit_a_stopped_task_is_waited_for(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "stall_once", str(tmp_path), 3.0))

    events = follow(node)

    assert not named(events, "hung")
    assert starts(events, "chief-0") == 1


@pytest.mark.slow
@pytest.mark.parametrize(("silent", "owing", "blamed"), [
    ("worker-1", 4, ["worker-1"]),
    ("both", 1, ["worker-0"]),  # both wait for the one that owes a step: who was heard of first
    ("both", 2, ["chief-0"]),  # nobody knows: all are started again
])  # fmt: skip
def test_a_fellow_that_does_not_answer_is_named_where_it_is_known(tmp_path, silent, owing, blamed):
    workers = [
        replace(task(tmp_path, "worker", "serve_and_note", str(tmp_path), index=index), replaceable=True)
        for index in range(2)
    ]
    node = start(tmp_path, task(tmp_path, "chief", "hand_out", str(tmp_path), silent, owing), *workers, **HANG)

    events = follow(node, lambda event: node.kill() if event["event"] == "recovering" else None)

    assert [event["task"] for event in named(events, "hung")] == blamed
    assert not still_running(pids(events))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_node_that_is_gone_is_started_again_with_its_tasks(tmp_path, how, monkeypatch):
    monkeypatch.setattr("cluster.processes._NODE_HANG_S", 2.0)
    directory = str(tmp_path)
    node = start(tmp_path, task(tmp_path, "chief", "work_in_steps", directory, 100, 0.02), **HANG)
    first: list[int] = []

    def end_first(event: dict) -> None:
        if event["event"] == "task_started" and not first:
            first.extend([node.pid, event["pid"]])
            wait_until((tmp_path / "steps").exists)
            os.kill(node.pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)

    events = follow(node, end_first)

    assert events[-1]["outcome"] == "completed"
    assert [event["task"] for event in named(events, "recovering")] == ["node"]
    assert [event["task"] for event in named(events, "hung")] == (["node"] if how == "stopped" else [])
    assert named(events, "goes_on")[1]["steps"] > 0
    assert not still_running([*first, *pids(events)])


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["the node", "all"])
def test_what_was_stopped_as_a_whole_goes_on_as_if_nothing_had_been(tmp_path, whom, monkeypatch):
    """As when a machine is suspended, or its user presses Ctrl-Z: nothing of it hangs."""
    monkeypatch.setattr("cluster.processes._NODE_HANG_S", 6.0)
    node = start(tmp_path, task(tmp_path, "chief", "work_in_steps", str(tmp_path), 60, 0.05), **HANG)
    stopped: list[int] = []

    def stop(event: dict) -> None:
        if event["event"] == "task_started" and not stopped:
            stopped.extend([node.pid, event["pid"]] if whom == "all" else [node.pid])
            wait_until((tmp_path / "steps").exists)
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            threading.Timer(4.0, lambda: [os.kill(pid, signal.SIGCONT) for pid in stopped]).start()

    events = follow(node, stop)

    assert events[-1]["outcome"] == "completed"
    assert not named(events, "hung")
    assert starts(events, "chief-0") == 1


def test_a_node_that_may_not_be_started_again_fails_the_work(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "serve"))

    def kill(event: dict) -> None:
        if event["event"] == "task_started":
            psutil.Process(node.pid).kill()

    events = follow(node, kill)

    assert events[-1]["outcome"] == "failed"
    assert not still_running(pids(events))

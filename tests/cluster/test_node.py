"""The node and its supervisor, with real processes: how work ends, and that nothing is ever left."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from cluster.plan import Plan, Task
from cluster.processes import LocalNode
from cluster.surroundings import cluster_environment
from tests.conftest import still_running, wait_until
from tests.support.events import named, pids, values_of

HERE = "tests.cluster.fake_tasks"


def task(log: Path, role: str, function: str, *arguments, index: int = 0, **environment: str) -> Task:
    name = f"{role}-{index}"
    serves = function.startswith("serve")
    return Task(role, index, f"{HERE}:{function}", arguments, str(log / f"{name}.log"), serves, environment)


def start(directory: Path, *tasks: Task, **options) -> LocalNode:
    plan = Plan(tasks=tasks, leader="chief-0", **options)
    file = directory / "plan.json"
    file.write_text(plan.to_json())
    return LocalNode(file, directory / "node.log", dict(os.environ))


def follow(node: LocalNode, on=lambda event: None) -> list[dict]:
    events = []
    for event in node.events():
        events.append(event)
        on(event)
    node.close()
    return events


def test_a_plan_survives_being_written_and_read(tmp_path):
    plan = Plan(
        tasks=(task(tmp_path, "chief", "work", 1.5), task(tmp_path, "ps", "serve", GREETING="hi")),
        leader="chief-0",
        monitor=task(tmp_path, "monitor", "watch", "x"),
        preload=("json",),
        environment={"COLOUR": "red"},
    )
    (tmp_path / "plan.json").write_text(plan.to_json())

    assert Plan.read(tmp_path / "plan.json") == plan


def test_a_tick_between_the_last_word_of_a_node_and_its_end_does_not_make_it_fail(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "work", 0.0), preload=("tests.cluster.slow_to_end",))

    events = list(node.events(tick_s=0.001))
    node.close()

    words = [event for event in events if event]
    assert values_of(words, "node_ended", "outcome") == ["completed"]
    assert None in events[events.index(words[-1]) :]


def test_when_the_leader_is_done_the_work_is_completed_and_the_others_are_ended(tmp_path):
    node = start(
        tmp_path,
        task(tmp_path, "chief", "work", 0.3),
        task(tmp_path, "worker", "serve", GREETING="hello"),
        task(tmp_path, "worker", "serve", index=1),
    )

    events = follow(node)

    assert events[-1]["outcome"] == "completed"
    assert not still_running(pids(events))
    assert (tmp_path / "chief-0.log").read_text() == "working\n"
    assert (tmp_path / "worker-0.log").read_text() == "serving hello\n"


def test_ticks_after_the_last_event_do_not_change_how_the_work_ended(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "work", 0.1))

    *_, ended = (event for event in node.events(tick_s=0.001) if event)
    node.close()

    assert ended["outcome"] == "completed"


def test_the_work_is_done_when_every_task_that_ends_by_itself_has_ended(tmp_path):
    chief_is_done = tmp_path / "done"
    node = start(
        tmp_path, task(tmp_path, "chief", "work", 0.0), task(tmp_path, "worker", "work_until", str(chief_is_done))
    )

    events = follow(node, lambda event: chief_is_done.touch() if event["event"] == "task_ended" else None)

    ends = [(event["task"], event["exit_code"]) for event in events if event["event"] == "task_ended"]
    assert ends == [("chief-0", 0), ("worker-0", 0)]
    assert events[-1]["outcome"] == "completed"


def test_a_crashing_task_fails_the_work_and_is_named_as_the_cause(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "work", 60), task(tmp_path, "worker", "crash", 0.3))

    events = follow(node)

    ends = named(events, "task_ended")
    assert events[-1]["outcome"] == "failed"
    assert (ends[0]["task"], ends[0]["exit_code"]) == ("worker-0", 3)
    assert "the reason is this" in (tmp_path / "worker-0.log").read_text()
    assert not still_running(pids(events))


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "SIGKILL"),
        pytest.param(40, "SIG40", marks=pytest.mark.skipif(sys.platform != "linux", reason="it has no such signal")),
    ],
)
def test_a_task_that_is_killed_is_reported_with_its_signal(tmp_path, number, name):
    node = start(tmp_path, task(tmp_path, "chief", "work", 60), task(tmp_path, "ps", "serve"))

    def kill(event):
        if event.get("task") == "ps-0" and event["event"] == "task_started":
            os.kill(event["pid"], number)

    events = follow(node, kill)

    end = named(events, "task_ended")[0]
    assert (end["task"], end["signal"], events[-1]["outcome"]) == ("ps-0", name, "failed")


def test_stopping_drains_the_leader_while_the_others_still_serve(tmp_path):
    node = start(
        tmp_path, task(tmp_path, "ps", "serve_with_pid", str(tmp_path)), task(tmp_path, "chief", "drain", str(tmp_path))
    )
    wait_until((tmp_path / "ready").exists)
    wait_until((tmp_path / "server.pid").exists)
    node.stop()

    events = follow(node)

    assert (tmp_path / "drained").exists()
    assert events[-1]["outcome"] == "stopped"
    assert not still_running(pids(events))


def test_a_leader_that_does_not_drain_within_the_grace_is_ended(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "serve_stubbornly"), grace_s=0.5)

    def stop(event):
        if event["event"] == "heeds_nothing":
            node.stop()

    events = follow(node, stop)

    assert "grace_exceeded" in [event["event"] for event in events]
    assert not still_running(pids(events))


def test_kill_ends_at_once_whatever_the_tasks_do(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "serve_stubbornly"), task(tmp_path, "worker", "serve"), grace_s=60)

    events = follow(node, lambda event: node.kill() if event.get("task") == "worker-0" else None)

    assert events[-1]["outcome"] == "stopped"
    assert not still_running(pids(events))


def test_the_monitor_is_told_every_pid_and_its_end_ends_nothing(tmp_path):
    monitor = task(tmp_path, "monitor", "watch", str(tmp_path))
    chief = task(tmp_path, "chief", "work_until", str(tmp_path / "done"))
    node = start(tmp_path, chief, task(tmp_path, "ps", "serve"), monitor=monitor)

    def kill(event):
        if event.get("task") == "monitor-0" and event["event"] == "task_started":
            wait_until(lambda: (tmp_path / "watched").exists() and (tmp_path / "watched").read_text())
            os.kill(event["pid"], signal.SIGKILL)
        elif event["event"] == "monitor_ended":
            (tmp_path / "done").touch()

    events = follow(node, kill)

    assert (tmp_path / "watched").read_text() == "['chief-0', 'ps-0']"
    assert "monitor_ended" in [event["event"] for event in events]
    assert events[-1]["outcome"] == "completed"


PARENT = """
    import os, sys
    import tests  # the tasks are its; another package may have that name, too
    from pathlib import Path
    from cluster.processes import LocalNode
    node = LocalNode(Path(sys.argv[1]), Path(sys.argv[2]), dict(os.environ))
    for event in node.events():
        if event["event"] in ("node_started", "task_started"):
            print(event["pid"], flush=True)
"""


@pytest.mark.parametrize("frozen", [False, pytest.param(True, marks=pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux' kernel ends a stopped process when its parent is gone"))])  # fmt: skip
def test_nothing_is_left_when_the_parent_is_killed(tmp_path, frozen):
    tasks = (
        task(tmp_path, "chief", "serve_stubbornly"),
        task(tmp_path, "worker", "serve"),
        task(tmp_path, "ps", "serve"),
    )
    (tmp_path / "plan.json").write_text(Plan(tasks=tasks, leader="chief-0").to_json())
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), tmp_path / "plan.json", tmp_path / "node.log"],
        stdout=subprocess.PIPE,
        text=True,
    )
    started = [int(parent.stdout.readline()) for _ in range(4)]
    assert all(psutil.pid_exists(pid) for pid in started)
    if frozen:
        os.kill(started[2], signal.SIGSTOP)

    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert not still_running(started)


def test_nothing_is_left_when_the_node_itself_is_killed(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "work", 600), task(tmp_path, "worker", "serve"))

    def kill(event):
        if event.get("task") == "worker-0":
            os.kill(node.pid, signal.SIGKILL)

    events = follow(node, kill)

    assert events[-1] | {"time_unix_s": 0} == {
        "time_unix_s": 0,
        "event": "node_ended",
        "outcome": "failed",
        "exit_code": -9,
    }
    assert not still_running(pids(events))


@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux'")
def test_a_private_network_has_loopback_and_nothing_else():
    look = (
        "from cluster.isolation import enter_private_network as enter\n"
        "import psutil, socket\n"
        "print(enter())\n"
        "server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname())\n"
        "print(sorted(name for name, state in psutil.net_if_stats().items() if state.isup))\n"
    )

    shown = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout.split("\n")

    if shown[0] == "False":
        pytest.skip("this system does not allow network namespaces")
    assert shown[1] == "['lo']"


@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "something else listens"])
def test_a_task_that_cannot_connect_is_ended_with_address_and_reason(tmp_path, listens):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        node = start(
            tmp_path, task(tmp_path, "chief", "connect", address, 0.3, 600), max_restarts=3, private_network=False
        )

        events = follow(node)

    assert events[-1]["outcome"] == "failed"
    assert "recovering" not in [event["event"] for event in events]  # it would wait as long again
    (failure,) = named(events, "not_connected")
    assert failure["task"] == "chief-0"
    assert address in failure["why"]
    assert ("no task of this training answers" if listens else "Connection refused") in failure["why"]
    assert failure["why"] in (tmp_path / "chief-0.log").read_text()


def test_in_a_network_of_its_own_a_cluster_that_does_not_form_is_tried_once_more(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "connect", "127.0.0.1:9", 0.3, 600), max_restarts=3, backoff_s=0.05)

    events = follow(node)

    if not named(events, "network")[0]["private"]:
        pytest.skip("this system does not allow network namespaces")
    assert events[-1]["outcome"] == "failed"
    assert len(named(events, "not_connected")) == 2
    assert len(named(events, "recovering")) == 1


def test_a_task_that_connects_in_time_works_as_long_as_it_likes(tmp_path):
    chief = task(tmp_path, "chief", "connect", "127.0.0.1:9", 0.5, 0.0)
    watched = task(tmp_path, "worker", "work", 1.0)

    events = follow(start(tmp_path, chief, watched))

    assert events[-1]["outcome"] == "completed"
    assert "not_connected" not in [event["event"] for event in events]


def test_tasks_see_neither_proxies_nor_settings_nor_files_of_the_folder_they_were_started_in(tmp_path, monkeypatch):
    for name in ("queue", "tempfile", "psutil", "cluster"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('a file of the user was imported')")
    (tmp_path / "sitecustomize.py").write_text("print('a file of the user was imported')")
    monkeypatch.chdir(tmp_path)
    around = dict(os.environ) | {
        "http_proxy": "http://127.0.0.1:9", "No_Proxy": "*", "TF_CONFIG": "not for us", "PYTHONPATH": f":{tmp_path}",
    }  # fmt: skip
    plan = Plan(tasks=(task(tmp_path, "chief", "note_surroundings", str(tmp_path)),), leader="chief-0")
    (tmp_path / "plan.json").write_text(plan.to_json())

    events = follow(LocalNode(Path("plan.json"), tmp_path / "node.log", cluster_environment(around, {"OUR": "own"})))

    assert events[-1]["outcome"] == "completed", (tmp_path / "node.log").read_text()
    surroundings = json.loads((tmp_path / "surroundings.json").read_text())
    assert not [
        name for name in surroundings["environment"] if "proxy" in name.lower() or name in ("TF_CONFIG", "PYTHONPATH")
    ]
    assert surroundings["environment"]["OUR"] == "own"
    assert not {"", ".", str(tmp_path)} & set(surroundings["path"])


def test_tasks_may_have_more_files_open_than_the_shell_allows_at_first(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = psutil.Process().num_fds() + 64  # more than this process has open itself
    assert allowed < min(hard, 10_240)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    try:
        events = follow(start(tmp_path, task(tmp_path, "chief", "note_surroundings", str(tmp_path))))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert events[-1]["outcome"] == "completed"
    assert json.loads((tmp_path / "surroundings.json").read_text())["open_files"] == min(hard, 10_240)

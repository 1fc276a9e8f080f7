"""Nodes that are forked from a process that has loaded what they need: they load nothing, and are like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from cluster.forked import ForkServers
from cluster.plan import Plan, Task
from cluster.processes import LocalNode
from tests.cluster.test_node import follow, task
from tests.conftest import still_running, wait_until
from tests.support.events import named, pids, values_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every node loads for itself")

LOADS = "tests.cluster.loads_once"


@pytest.fixture
def loads(tmp_path) -> Path:
    """A file that has a line for each process that has loaded `LOADS`."""
    return tmp_path / "loads"


@pytest.fixture
def environment(loads) -> dict[str, str]:
    return {**os.environ, "LOADS": str(loads)}


def start(servers: ForkServers, folder: Path, environment: dict[str, str], *tasks: Task, **options) -> LocalNode:
    folder.mkdir(exist_ok=True)
    plan = Plan(tasks=tasks, leader="chief-0", preload=(LOADS,), **options)
    (folder / "plan.json").write_text(plan.to_json())
    return LocalNode(folder / "plan.json", folder / "node.log", environment, fork_servers=servers)


def loaded_by(loads: Path) -> list[int]:
    return [int(line) for line in loads.read_text().split()]


def test_nodes_one_after_another_load_once_and_have_session_folder_and_network_of_their_own(
    tmp_path, loads, environment
):
    servers = ForkServers()
    with servers.loaded(environment, (LOADS,)):
        (server,) = loaded_by(loads)
        of_nodes = []
        for folder in (tmp_path / "a", tmp_path / "b"):
            node = start(servers, folder, environment, task(tmp_path, "chief", "work", 0.2))

            def look(event, node=node, folder=folder):
                if event["event"] == "task_started":
                    process = psutil.Process(node.pid)
                    assert (process.ppid(), os.getsid(node.pid)) == (server, node.pid)
                    assert Path(process.cwd()) == folder

            of_nodes.append(follow(node, look))
        assert psutil.pid_exists(server)

    assert not psutil.pid_exists(server)
    assert loaded_by(loads) == [server]
    for events in of_nodes:
        assert events[-1]["outcome"] == "completed"
        assert named(events, "network")
    assert not still_running([pid for events in of_nodes for pid in pids(events)])


def test_a_node_that_needs_another_environment_or_starts_later_loads_for_itself(tmp_path, loads, environment):
    servers = ForkServers()
    with servers.loaded(environment, (LOADS,)):
        other = {**environment, "COLOUR": "red"}
        events = follow(start(servers, tmp_path / "a", other, task(tmp_path, "chief", "work", 0.0)))
    late = follow(start(servers, tmp_path / "b", environment, task(tmp_path, "chief", "work", 0.0)))

    assert values_of(events + late, "node_ended", "outcome") == ["completed", "completed"]
    assert loaded_by(loads)[1:] == [named(each, "node_started")[0]["pid"] for each in (events, late)]


def test_two_that_need_the_same_share_what_is_loaded_until_the_last_has_ended(loads, environment):
    servers = ForkServers()
    with servers.loaded(environment, (LOADS,)):
        with servers.loaded(environment, (LOADS,)):
            (server,) = loaded_by(loads)
        assert psutil.pid_exists(server)
    assert not psutil.pid_exists(server)


@pytest.mark.parametrize("victim", ["node", "fork server"])
def test_what_is_killed_is_started_again_with_all_tasks(tmp_path, loads, environment, victim):
    servers = ForkServers()
    with servers.loaded(environment, (LOADS,)):
        (server,) = loaded_by(loads)
        chief = task(tmp_path, "chief", "work_with_fellows", str(tmp_path), 1, 2)
        worker = task(tmp_path, "worker", "serve_and_note", str(tmp_path))
        node = start(servers, tmp_path / "a", environment, chief, worker, max_restarts=1, backoff_s=0.01)
        killed = []

        def kill(event):
            if event["event"] == "task_started" and not killed:
                killed.append(server if victim == "fork server" else node.pid)
                wait_until((tmp_path / "starts").exists)
                os.kill(killed[0], signal.SIGKILL)

        events = follow(node, kill)

    assert events[-1]["outcome"] == "completed"
    assert values_of(events, "recovering", "task") == ["node"]
    assert len(loaded_by(loads)) == (1 if victim == "node" else 2)
    assert not still_running(pids(events))


def test_the_log_of_a_node_says_why_what_it_needs_cannot_be_loaded(tmp_path, environment):
    servers, broken = ForkServers(), {**environment, "LOADS": str(tmp_path)}
    with servers.loaded(broken, (LOADS,)):
        events = follow(start(servers, tmp_path / "a", broken, task(tmp_path, "chief", "work", 0.0)))

    assert values_of(events, "node_ended", "outcome") == ["failed"]
    assert "IsADirectoryError" in (tmp_path / "a" / "node.log").read_text()


def test_what_is_held_open_is_held_by_the_node_alone(tmp_path, environment):
    servers = ForkServers()
    reader, writer = os.pipe()
    with servers.loaded(environment, (LOADS,)):
        (tmp_path / "plan.json").write_text(
            Plan(tasks=(task(tmp_path, "chief", "work", 600),), leader="chief-0", preload=(LOADS,)).to_json()
        )
        node = LocalNode(tmp_path / "plan.json", tmp_path / "node.log", environment, [writer], servers)
        os.close(writer)
        next(event for event in node.events() if event and event["event"] == "task_started")
        os.set_blocking(reader, False)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)
        node.close()

        assert os.read(reader, 1) == b""  # nobody has it open
    os.close(reader)


COMMAND = """
    import os, sys
    import tests  # the tasks are its; another package may have that name, too
    from pathlib import Path
    from cluster.forked import ForkServers
    from cluster.processes import LocalNode
    servers = ForkServers()
    with servers.loaded(dict(os.environ), ("tests.cluster.loads_once",)):
        node = LocalNode(Path(sys.argv[1]), Path(sys.argv[2]), dict(os.environ), fork_servers=servers)
        for event in node.events():
            if event["event"] in ("node_started", "task_started"):
                print(event["pid"], flush=True)
"""


@pytest.mark.parametrize("frozen", ["fork server", "node"])
def test_nothing_is_left_when_the_process_that_started_all_is_killed(tmp_path, loads, environment, frozen):
    chief = task(tmp_path, "chief", "serve_stubbornly")
    (tmp_path / "plan.json").write_text(Plan(tasks=(chief,), leader="chief-0", preload=(LOADS,)).to_json())
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(COMMAND), tmp_path / "plan.json", tmp_path / "node.log"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    started = [*(int(parent.stdout.readline()) for _ in range(2)), *loaded_by(loads)]
    os.kill(started[-1 if frozen == "fork server" else 0], signal.SIGSTOP)

    parent.kill()
    parent.wait()
    parent.stdout.close()

    assert not still_running(started)

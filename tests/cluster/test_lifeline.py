"""A node and its tasks end with whoever started them, whenever that is killed. Without TensorFlow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid

import pytest

from cluster.lifeline import start_child
from cluster.plan import Plan
from tests.cluster.test_node import start, task
from tests.conftest import carrying, wait_until

COMMAND = """
    import os, sys
    import tests  # the tasks are its; another package may have that name, too
    from pathlib import Path
    from cluster.processes import LocalNode
    node = LocalNode(Path(sys.argv[1]), Path(sys.argv[2]), dict(os.environ))
    for event in node.events():
        print(event["event"], flush=True)
"""


def started(directory, token: str, preload: tuple[str, ...] = ()) -> subprocess.Popen:
    """A process with a node that loads `preload` for its three tasks; it prints what it hears from the node."""
    tasks = (
        task(directory, "chief", "serve_stubbornly"),
        task(directory, "worker", "serve"),
        task(directory, "ps", "serve"),
    )
    plan = Plan(tasks=tasks, leader="chief-0", preload=preload)
    (directory / "plan.json").write_text(plan.to_json())
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(COMMAND), directory / "plan.json", directory / "node.log"],
        env={**os.environ, "STARTED_BY": token},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_nothing_is_left_whenever_in_the_start_the_parent_is_killed(tmp_path):
    left = {}
    for tenths in range(1, 16):
        token = uuid.uuid4().hex
        with started(tmp_path, token, preload=("tests.cluster.slow_to_load",)) as parent:
            time.sleep(tenths / 10)
            parent.kill()
        try:
            wait_until(lambda token=token: not carrying(token))
        except AssertionError:
            left[tenths / 10] = [process.cmdline() for process in carrying(token)]
            for process in carrying(token):
                process.kill()

    assert left == {}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux' kernel ends a stopped process when its parent is gone")
def test_a_stopped_node_and_its_tasks_end_with_the_parent(tmp_path):
    token = uuid.uuid4().hex
    with started(tmp_path, token) as parent:
        starts = (line for line in parent.stdout if line == "task_started\n")
        for _ in range(3):  # from then on the kernel watches the task's parent
            next(starts)
        for process in carrying(token):
            if process.pid != parent.pid:
                process.send_signal(signal.SIGSTOP)
        parent.kill()

    wait_until(lambda: not carrying(token))


def test_a_node_that_is_still_being_loaded_stops_at_once(tmp_path):
    chief = task(tmp_path, "chief", "serve")
    node = start(tmp_path, chief, preload=("tests.cluster.slow_to_load",), private_network=False)
    begin = time.monotonic()
    events = []
    for event in node.events():
        events.append(event)
        if event["event"] == "node_started":
            begin = time.monotonic()
            node.stop()
    node.close()

    assert time.monotonic() - begin < 8.0  # it takes 10 to be loaded
    assert events[-1]["outcome"] == "stopped"
    assert "task_started" not in [event["event"] for event in events]


def test_a_child_outlives_the_thread_that_wanted_it(tmp_path):
    nodes = []
    thread = threading.Thread(target=lambda: nodes.append(start(tmp_path, task(tmp_path, "chief", "work", 0.5))))
    thread.start()
    thread.join()

    events = [event["event"] for event in nodes[0].events()]
    nodes[0].close()

    assert events[-1] == "node_ended"
    assert "task_ended" in events


def test_a_child_whose_parent_has_ended_meanwhile_ends_at_once():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    child = start_child(
        [sys.executable, "-c", f"from cluster.lifeline import end_with_parent; end_with_parent({gone.pid}); print()"],
        stdout=subprocess.PIPE,
    )

    printed, _ = child.communicate(timeout=60)

    assert (child.returncode, printed) == (1, b"")


def test_a_program_that_cannot_be_started_is_told():
    with pytest.raises(FileNotFoundError):
        start_child(["/no/such/program"])

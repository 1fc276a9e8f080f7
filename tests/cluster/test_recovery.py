"""What fails is started again, and what is done to a cluster on purpose is really done. Without TensorFlow."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from cluster.faults import Fault
from cluster.processes import LocalNode
from cluster.topology import free_ports
from tests.cluster.test_node import follow, start, task
from tests.conftest import still_running, wait_until
from tests.support.events import named, pids

pytestmark = pytest.mark.slow


def starts(events: list[dict], task: str) -> int:
    return len([one for one in named(events, "task_started") if one["task"] == task])


def test_a_task_that_wants_another_try_gets_it_later_and_later(tmp_path):
    node = start(
        tmp_path, task(tmp_path, "chief", "work_at_the_third_try", str(tmp_path)), max_restarts=3, backoff_s=0.1
    )

    events = follow(node)

    assert events[-1]["outcome"] == "completed"
    assert [event["in_s"] for event in named(events, "recovering")] == [0.1, 0.2]
    assert (tmp_path / "tries").read_text() == "3"


def test_past_the_budget_the_work_fails_with_its_cause(tmp_path):
    node = start(
        tmp_path, task(tmp_path, "chief", "work_at_the_third_try", str(tmp_path)), max_restarts=1, backoff_s=0.01
    )

    events = follow(node)

    assert events[-1]["outcome"] == "failed"
    assert named(events, "gave_up")[0] | {"time_unix_s": 0} == {
        "time_unix_s": 0, "event": "gave_up", "task": "chief-0", "restarts": 1,
    }  # fmt: skip


def test_a_failure_that_would_repeat_itself_is_not_tried_again(tmp_path):
    node = start(tmp_path, task(tmp_path, "chief", "crash", 0.1), max_restarts=5)

    events = follow(node)

    assert events[-1]["outcome"] == "failed"
    assert starts(events, "chief-0") == 1


def kill_once(name: str) -> Fault:
    return Fault("kill", (name,), at_step=1)


def cluster_that_loses(directory: Path, name: str, **options) -> LocalNode:
    """A chief, a worker that can be replaced and a parameter server. One of the two is killed once both have started;
    the chief is done when what was killed has started again."""
    worker, server = (task(directory, role, "serve_and_note", str(directory)) for role in ("worker", "ps"))
    chief = task(directory, "chief", "work_with_fellows", str(directory), 2, 3)
    worker = replace(worker, replaceable=True)
    return start(directory, chief, worker, server, max_restarts=1, backoff_s=0.01, faults=(kill_once(name),), **options)


def test_a_replaceable_task_is_started_again_alone(tmp_path):
    node = cluster_that_loses(tmp_path, "worker-0")

    events = follow(node)

    assert events[-1]["outcome"] == "completed"
    assert [starts(events, name) for name in ("worker-0", "ps-0", "chief-0")] == [2, 1, 1]
    assert not still_running(pids(events))


def test_with_any_other_task_all_are_started_again_and_the_monitor_is_told(tmp_path):
    node = cluster_that_loses(tmp_path, "ps-0", monitor=task(tmp_path, "monitor", "watch", str(tmp_path)))

    events = follow(node)

    assert events[-1]["outcome"] == "completed"
    assert [starts(events, name) for name in ("worker-0", "ps-0", "chief-0", "monitor-0")] == [2, 2, 2, 2]
    assert not still_running(pids(events))


def test_tasks_tell_and_faults_wait_for_their_step(tmp_path):
    node = start(
        tmp_path, task(tmp_path, "chief", "count_steps", 10, 0.1), task(tmp_path, "worker", "serve"),
        faults=(Fault("freeze", ("worker-0",), at_step=5, for_s=0.2),),
    )  # fmt: skip

    events = follow(node)

    assert named(events, "counted")[0]["task"] == "chief-0"
    assert named(events, "counted")[0]["steps"] == 10
    launched = events[0]["time_unix_s"]
    assert named(events, "fault")[0]["time_unix_s"] - launched >= 0.5
    assert 0.2 <= named(events, "fault_ended")[0]["time_unix_s"] - named(events, "fault")[0]["time_unix_s"] < 2


def test_a_task_goes_no_further_than_the_step_at_which_it_is_to_be_killed(tmp_path):
    node = start(
        tmp_path, task(tmp_path, "chief", "work_in_steps", str(tmp_path), 3_000, 0.0),
        max_restarts=2, backoff_s=0.01,
        faults=(Fault("kill", ("chief-0",), at_step=1_000), Fault("kill", ("chief-0",), at_step=2_000)),
    )  # fmt: skip

    events = follow(node)

    assert events[-1]["outcome"] == "completed"
    assert [event["steps"] for event in named(events, "goes_on")] == [0, 1_000, 2_000]


@pytest.mark.parametrize("fault", [
    Fault("freeze", ("worker-0",), at_s=0.3, for_s=1.2), Fault("slow", ("worker-0",), at_s=0.3, for_s=2.0, share=0.3)
], ids=["freeze", "slow"])  # fmt: skip
def test_a_frozen_or_slowed_task_does_less_than_its_fellow(tmp_path, fault):
    node = start(
        tmp_path,
        task(tmp_path, "chief", "count_to_file", str(tmp_path), "free", 2.0),
        task(tmp_path, "worker", "count_to_file", str(tmp_path), "slowed", 2.0),
        faults=(fault,),
    )

    events = follow(node)

    assert events[-1]["outcome"] == "completed"
    assert int((tmp_path / "slowed").read_text()) < 0.75 * int((tmp_path / "free").read_text())


def test_an_interrupted_host_loses_all_its_tasks_and_gets_them_back(tmp_path):
    node = start(
        tmp_path,
        task(tmp_path, "chief", "work_with_fellows", str(tmp_path), 2, 4),
        *(
            replace(task(tmp_path, "worker", "serve_and_note", str(tmp_path), index=i), replaceable=True, host="algo-2")
            for i in (0, 1)
        ),
        max_restarts=2, backoff_s=0.01, faults=(Fault("interrupt", ("algo-2",), at_step=1, for_s=0.5, notice_s=0.1),),
    )  # fmt: skip

    events = follow(node)

    assert events[-1]["outcome"] == "completed"
    ended = [event for event in named(events, "task_ended") if event["task"].startswith("worker")][:2]
    assert [event["signal"] for event in ended] == ["SIGTERM", "SIGTERM"]
    assert [starts(events, f"worker-{i}") for i in (0, 1)] == [2, 2]
    back = [event for event in named(events, "task_started") if event["task"] == "worker-0"][1]
    assert back["time_unix_s"] - ended[0]["time_unix_s"] >= 0.5


def test_a_refused_port_keeps_the_task_away_until_it_is_free(tmp_path):
    (port,) = free_ports(1)
    node = start(
        tmp_path,
        task(tmp_path, "chief", "work_with_fellows", str(tmp_path), 1, 2),
        replace(task(tmp_path, "worker", "serve_on", port, str(tmp_path)), replaceable=True, port=port),
        max_restarts=20, backoff_s=0.1, faults=(Fault("refuse", ("worker-0",), at_step=1, for_s=2.0),),
    )  # fmt: skip

    events = follow(node)

    assert events[-1]["outcome"] == "completed"
    first, last = (event["time_unix_s"] for event in named(events, "listening"))
    freed = named(events, "fault_ended")[0]["time_unix_s"]
    assert first < freed <= last
    assert any(event["exit_code"] == 75 for event in named(events, "task_ended"))


def test_a_filled_disk_is_full_for_its_time(tmp_path, small_disk):
    node = start(
        tmp_path, task(tmp_path, "chief", "write_until_it_goes_again", str(small_disk)),
        faults=(Fault("fill", (str(small_disk),), at_step=3, for_s=0.5),),
    )  # fmt: skip

    events = follow(node)

    (wrote,) = named(events, "wrote")
    assert 5 <= wrote["failures"] <= 50
    assert 0.3 < wrote["after_s"] < 2
    assert os.statvfs(small_disk).f_bavail > 0


@pytest.mark.skipif(sys.platform != "linux", reason="a stopped parent's children")
@pytest.mark.timeout(60)
def test_a_server_that_fails_just_as_the_work_ends_is_not_needed_any_more(tmp_path):
    end, started = tmp_path / "end", list[int]()
    server = replace(task(tmp_path, "ps", "work_until", str(end)), serves=True, replaceable=True)
    node = start(tmp_path, task(tmp_path, "chief", "work_until", str(end)), server, max_restarts=3)

    def end_both(event: dict) -> None:
        if event["event"] == "task_started":
            started.append(event["pid"])
        if event["event"] == "task_started" and len(started) == 2:
            os.kill(node.pid, signal.SIGSTOP)  # so that it sees both ends at once
            end.touch()
            wait_until(lambda: all(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE for pid in started))
            os.kill(node.pid, signal.SIGCONT)

    events = follow(node, end_both)

    assert events[-1]["outcome"] == "completed"
    assert {event["task"] for event in named(events, "task_ended")} == {"chief-0", "ps-0"}
    assert not named(events, "recovering")


def test_a_disk_on_which_others_write_is_filled_whole(tmp_path, small_disk):
    node = start(
        tmp_path, task(tmp_path, "chief", "write_until_it_goes_again", str(small_disk)),
        faults=(Fault("fill", (str(small_disk),), at_step=3, for_s=0.5),),
    )  # fmt: skip

    with ThreadPoolExecutor(1) as others:
        writing = others.submit(write_until_it_is_full, small_disk / "of-others")
        events = follow(node)
        assert writing.result(timeout=60)

    assert not named(events, "fault_failed")
    assert named(events, "wrote")[0]["failures"] >= 5


def write_until_it_is_full(file: Path) -> bool:
    """Take room and let go of it, again and again; whether the disk was full then."""
    with file.open("wb", buffering=0) as stream:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                stream.write(bytes(4096))
            except OSError:
                return True
            if stream.tell() > 8e6:
                stream.seek(0)
                stream.truncate()
    return False


def test_a_large_file_system_is_not_filled(tmp_path):
    space = os.statvfs("/")
    if space.f_bavail * space.f_frsize < 8e9:
        pytest.skip("the root file system has little room")
    node = start(
        tmp_path, task(tmp_path, "chief", "count_steps", 1, 0.0),
        faults=(Fault("fill", ("/var/tmp",), at_step=1, for_s=0.1),),
    )  # fmt: skip

    events = follow(node)

    assert "too much to fill" in named(events, "fault_failed")[0]["why"]


def test_random_faults_are_the_same_for_a_seed(tmp_path):
    def order(seed: int) -> list[str]:
        directory = tmp_path / f"{seed}-{time.monotonic_ns()}"
        directory.mkdir()
        workers = [task(directory, "worker", "serve", index=index) for index in range(3)]
        node = start(
            directory, task(directory, "chief", "work", 1.2), *workers,
            faults=(Fault("freeze", tuple(worker.name for worker in workers), per_minute=600, for_s=0.01, seed=seed),),
        )  # fmt: skip
        return [event["target"] for event in named(follow(node), "fault")]

    one, again, other = order(1), order(1), order(2)

    short = min(map(len, (one, again, other)))
    assert short >= 3
    assert one[:short] == again[:short] != other[:short]


def test_what_a_task_is_told_the_node_is_not(tmp_path):
    monitor = task(tmp_path, "monitor", "watch_politely", str(tmp_path))
    node = start(
        tmp_path, task(tmp_path, "chief", "work_with_fellows", str(tmp_path), 2, 4),
        replace(task(tmp_path, "worker", "serve_and_note", str(tmp_path)), replaceable=True),
        monitor=monitor, max_restarts=1, backoff_s=0.01, faults=(kill_once("worker-0"),),
    )  # fmt: skip

    events = follow(node)

    assert events[-1]["outcome"] == "completed"  # though the monitor was ended by SIGTERM, and handled it
    assert not named(events, "stopping")

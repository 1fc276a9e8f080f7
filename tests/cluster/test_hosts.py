"""What makes a process a host of a job: contract, host watch, log relay, CPU limits.

Real files, sockets and processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

import pytest

from cluster.faults import Fault
from cluster.hosted import host_watch
from cluster.hosted.cgroup import available_cpus, limited_to_a_share, used_cpu_s
from cluster.hosted.contract import FAILURE_CHARACTERS, Contract
from cluster.hosted.log_relay import Kept
from cluster.plan import Plan, Task
from cluster.processes import LocalNode
from cluster.topology import free_ports
from tests.conftest import wait_until
from tests.support.events import named


def write_contract(root: Path, current: str = "algo-2") -> None:
    config = root / "input" / "config"
    config.mkdir(parents=True)
    resources = {
        "current_host": current,
        "current_instance_type": "ml.m5.large",
        "current_group_name": "ps",
        "hosts": ["algo-1", "algo-10", "algo-2"],
        "instance_groups": [
            {"instance_group_name": "ps", "instance_type": "ml.m5.large", "hosts": ["algo-10", "algo-2"]},
            {"instance_group_name": "worker", "instance_type": "ml.c5.xlarge", "hosts": ["algo-1"]},
        ],
        "network_interface_name": "eth0",
    }
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    (config / "hyperparameters.json").write_text(json.dumps({"job": "{}"}))
    (config / "inputdataconfig.json").write_text(json.dumps({"data": {"TrainingInputMode": "File"}}))


def test_hosts_are_in_the_order_of_their_numbers(tmp_path):
    write_contract(tmp_path)

    contract = Contract.read(tmp_path)

    assert contract.hosts == ("algo-1", "algo-2", "algo-10")
    assert contract.groups == {"ps": ("algo-2", "algo-10"), "worker": ("algo-1",)}
    assert contract.channels == {"data": tmp_path / "input" / "data" / "data"}
    assert contract.hyperparameters == {"job": "{}"}


def test_without_groups_the_contract_has_none(tmp_path):
    write_contract(tmp_path)
    file = tmp_path / "input" / "config" / "resourceconfig.json"
    file.write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))

    contract = Contract.read(tmp_path)

    assert contract.groups == {}
    assert contract.interface == "eth0"


@pytest.mark.parametrize("length", [10, FAILURE_CHARACTERS, 5000])
def test_a_reason_fits_what_sagemaker_keeps_with_its_beginning_and_end(tmp_path, length):
    write_contract(tmp_path)
    reason = "first" + "x" * (length - 9) + "last"

    Contract.read(tmp_path).tell_failure(reason)

    failure = (tmp_path / "output" / "failure").read_text(encoding="utf-8")
    assert len(failure) <= FAILURE_CHARACTERS
    assert failure.startswith("first")
    assert failure.endswith("last")


FIRST_HOST = """
    import sys, time
    import cluster.hosted.host_watch as host_watch
    host_watch.PORT = int(sys.argv[1])
    watch = host_watch.HostWatch(hosts=2)
    print("listening", flush=True)
    sys.stdin.read()
    watch.end()
    time.sleep(60)
    """
OTHER_HOST = """
    import sys
    from cluster.hosted.host_watch import watch_first_host
    watch_first_host("127.0.0.1", float(sys.argv[2]), int(sys.argv[1]), len(sys.argv) > 3)
    """


def python(text: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def connected(port: int) -> bool:
    """Whether somebody is connected to the port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    lines += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    return any(line[2].endswith(f"{port:04X}") and line[3] == "01" for line in lines)


@pytest.fixture
def watch():
    port = free_ports(1)[0]
    process = python(FIRST_HOST, port)
    assert process.stdout.readline() == "listening\n"
    yield process, port
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux' /proc")


def other_host(directory: Path, port: int, *faults: Fault) -> LocalNode:
    """The node of a host with one worker, which attends the first host's end at `port`."""
    log = str(directory / "tasks.log")
    plan = Plan(
        tasks=(
            Task(host_watch.WATCHER, 1, "cluster.hosted.host_watch:watch_first_host", ("127.0.0.1", 30.0, port), log),
            Task("worker", 1, "tests.cluster.fake_tasks:serve", (), log, serves=True, replaceable=True),
        ),
        leader=f"{host_watch.WATCHER}-1",
        private_network=False,
        max_restarts=3,
        backoff_s=0.01,
        faults=faults,
    )
    (directory / "plan.json").write_text(plan.to_json())
    return LocalNode(directory / "plan.json", directory / "node.log", dict(os.environ))


def until_done(watch: host_watch.HostWatch, within_s: float = 60) -> None:
    """Wait as a supervisor does until the other hosts have done what they have to do."""
    deadline = time.monotonic() + within_s
    while not watch.done:
        assert time.monotonic() < deadline, "another host has not answered"
        watch.read(wait(watch.files(), 0.5))


def test_a_fault_at_a_step_is_done_by_the_host_of_its_target_before_the_first_host_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(host_watch, "PORT", free_ports(1)[0])
    watch = host_watch.HostWatch(hosts=2)
    node = other_host(
        tmp_path, host_watch.PORT,
        Fault("kill", ("worker-1",), at_step=5), Fault("kill", ("worker-0",), at_step=6, elsewhere=("worker-0",)),
        Fault("freeze", ("worker-1",), at_step=7, for_s=0.1),
    )  # fmt: skip
    seen = []
    following = threading.Thread(target=lambda: seen.extend(event for event in node.events() if event))
    following.start()

    done_at = {}
    for step in (5, 6, 7):
        watch.tell(step)
        until_done(watch)
        done_at[step] = time.time()
    watch.end()
    following.join(20)
    node.close()

    faults = named(seen, "fault")
    assert [event["kind"] for event in faults] == ["kill", "freeze"]
    assert faults[0]["time_unix_s"] <= done_at[5]
    assert done_at[6] <= faults[1]["time_unix_s"] <= done_at[7]
    assert seen[-1]["outcome"] == "completed"  # for the first host has ended


@needs_proc
@pytest.mark.parametrize("how", ["in order", "killed"])
def test_who_watches_returns_when_the_first_host_has_ended(watch, how):
    process, port = watch
    watching = python(OTHER_HOST, port, 30)
    wait_until(lambda: connected(port))
    assert watching.poll() is None

    if how == "killed":
        process.kill()
    else:
        process.stdin.close()

    assert watching.wait(60) == 0


@needs_proc
def test_who_watches_outlives_sigterm_as_long_as_the_first_host_is_there(watch):
    process, port = watch
    watching = python(OTHER_HOST, port, 30)
    wait_until(lambda: connected(port))

    watching.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        watching.wait(0.5)
    process.kill()

    assert watching.wait(60) == 0


def test_a_host_that_is_stopped_has_the_first_one_stop(monkeypatch):
    monkeypatch.setattr(host_watch, "PORT", free_ports(1)[0])
    stopped = []
    before = signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    watch = host_watch.HostWatch(hosts=2)
    try:
        host_watch.stop_first_host("127.0.0.1", host_watch.PORT)
        for _ in range(2):  # it connects, and says so
            watch.read(wait(watch.files(), 5))
        assert stopped == [signal.SIGTERM]
        watch.read(wait(watch.files(), 5))
        assert len(watch.files()) == 1  # it is not counted as a host that attends
    finally:
        watch.end()
        signal.signal(signal.SIGTERM, before)
    host_watch.stop_first_host("127.0.0.1", host_watch.PORT)  # which has ended: no error


def test_who_watches_gives_up_on_a_first_host_that_does_not_come():
    watching = python(OTHER_HOST, free_ports(1)[0], 0.5)

    _, errors = watching.communicate(timeout=60)

    assert watching.returncode == 1
    assert "cannot be reached within" in errors


def test_stopped_before_the_first_host_came_who_attends_returns():
    watching = python("import sys; print('up', flush=True)\n" + textwrap.dedent(OTHER_HOST), free_ports(1)[0], 60)
    watching.stdout.readline()
    deadline = time.monotonic() + 60

    while watching.poll() is None and time.monotonic() < deadline:
        watching.send_signal(signal.SIGTERM)  # at first perhaps before it heeds it
        time.sleep(0.2)

    assert watching.poll() in (0, -signal.SIGTERM)


def test_what_tasks_print_is_printed_with_their_names(tmp_path):
    script = """
        import sys
        from pathlib import Path
        from cluster.hosted.log_relay import LogRelay
        folder = Path(sys.argv[1])
        relay = LogRelay(folder)
        with (folder / "chief-0.log").open("w") as log:
            log.write("one\\ntwo\\nlast without an end")
        (folder / "worker-1.log").write_text("three\\n")
        relay.end()
        """

    printed, _ = python(script, tmp_path).communicate(timeout=60)

    assert sorted(printed.splitlines()) == [
        "chief-0| last without an end",
        "chief-0| one",
        "chief-0| two",
        "worker-1| three",
    ]


def cgroup(root: Path, **files: str) -> Path:
    for name, content in files.items():
        file = root / name.replace("__", "/").replace("-", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    return root


def test_a_quota_of_control_groups_is_what_there_is_to_use(tmp_path):
    all_of_them = available_cpus(tmp_path / "nothing")
    second = cgroup(tmp_path / "second", **{"cpu-max": "50000 100000"})
    first = cgroup(tmp_path / "first", **{"cpu__cpu-cfs_quota_us": "25000", "cpu__cpu-cfs_period_us": "100000"})
    unlimited = cgroup(tmp_path / "unlimited", **{"cpu-max": "max 100000"})

    assert available_cpus(second) == 0.5
    assert available_cpus(first) == 0.25
    assert available_cpus(unlimited) == all_of_them >= 1
    assert limited_to_a_share(first)
    assert not limited_to_a_share(unlimited)


def test_what_a_host_measures_outlives_it_and_is_gone_on_with(tmp_path):
    source, target, again = (tmp_path / name for name in ("metrics", "checkpoints", "again"))
    for folder in (source, target, again):
        folder.mkdir()
    file = source / "sockets.jsonl"
    kept = Kept(source, target)
    with file.open("a") as lines:
        lines.write("1\n2\nha")
        lines.flush()
        kept.update()
        assert (target / file.name).read_text() == "1\n2\n"
        lines.write("lf\n")
    kept.update()
    kept.update()
    assert (target / file.name).read_text() == "1\n2\nhalf\n"
    resumed = Kept(again, target)

    resumed.restore()
    with (again / file.name).open("a") as lines:
        lines.write("3\n")
    resumed.update()

    assert (again / file.name).read_text() == (target / file.name).read_text() == "1\n2\nhalf\n3\n"


def test_the_relay_keeps_what_came_until_it_was_ended(tmp_path):
    script = f"""
        from pathlib import Path
        from cluster.hosted.log_relay import Kept, LogRelay
        logs, source, target = (Path({str(tmp_path)!r}) / name for name in ("logs", "metrics", "kept"))
        for folder in (logs, source, target):
            folder.mkdir()
        relay = LogRelay(logs, Kept(source, target))
        (source / "psutil.jsonl").write_text("1\\n" * 1000)
        relay.end()
        """

    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=60)

    assert (tmp_path / "kept" / "psutil.jsonl").read_text() == "1\n" * 1000


def test_a_late_host_ends_well_where_the_first_is_known_to_have_ended():
    port = free_ports(1)[0]

    late, lost = python(OTHER_HOST, port, 0.2, "over"), python(OTHER_HOST, port, 0.2)
    output, _ = late.communicate(timeout=60)
    lost.communicate(timeout=60)

    assert late.returncode == 0
    assert "had ended before" in output
    assert lost.returncode == 1


def test_a_container_is_told_the_processor_time_that_it_has_used(tmp_path):
    second, first = tmp_path / "2", tmp_path / "1" / "cpuacct"
    second.mkdir()
    first.mkdir(parents=True)
    (second / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\n")
    (first / "cpuacct.usage").write_text("1500000000\n")

    assert used_cpu_s(second) == 2.5
    assert used_cpu_s(first.parent) == 1.5
    assert used_cpu_s(tmp_path / "nothing") is None

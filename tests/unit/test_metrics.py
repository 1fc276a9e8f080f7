"""The schema, its files, and the collectors on real processes and sockets."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from cluster.hosted.cgroup import limited_to_a_share
from facesim.metrics.collectors import COLLECTORS, make_collectors
from facesim.metrics.collectors.host import PsutilCollector
from facesim.metrics.counters import running_total
from facesim.metrics.disturbance import measured_load
from facesim.metrics.files import SampleTail, SampleWriter, parse_lines, read_samples, samples_in
from facesim.metrics.schema import METRICS, Sample, sample
from facesim.metrics.table import Points, read_table
from facesim.util.errors import InputError


def writer(directory, name="chief-0") -> SampleWriter:
    return SampleWriter(directory / f"{name}.jsonl", run_id="r", host="h", source="training")


def test_samples_come_back_as_they_were_written(tmp_path):
    writer(tmp_path).write(12.5, "chief", 0, {"loss": 1.25, "epoch": 3})

    frame = read_samples(tmp_path)

    assert list(frame.columns) == list(Sample._fields)
    assert [Sample(*row) for row in frame.itertuples(index=False)] == [
        Sample("r", 12.5, "h", "chief", 0, "training", "loss", 1.25, "1"),
        Sample("r", 12.5, "h", "chief", 0, "training", "epoch", 3.0, "1"),
    ]


def test_a_torn_last_line_costs_that_line_only(tmp_path):
    writer(tmp_path).write(1, "chief", 0, {"loss": 2})
    writer(tmp_path).write(2, "chief", 0, {"loss": 1})
    file = tmp_path / "chief-0.jsonl"
    file.write_bytes(file.read_bytes()[:-20])

    assert read_samples(tmp_path)["value"].tolist() == [2.0]


def test_what_is_written_after_a_torn_line_is_not_lost(tmp_path):
    file = tmp_path / "chief-0.jsonl"
    writer(tmp_path).write(1, "chief", 0, {"loss": 3})
    file.write_bytes(file.read_bytes()[:-20])
    again = writer(tmp_path)
    again.write(2, "chief", 0, {"loss": 2})
    again.write(3, "chief", 0, {"loss": 1})

    assert read_samples(tmp_path)["value"].tolist() == [2.0, 1.0]


@pytest.mark.parametrize("kind", [Path, str])
@pytest.mark.parametrize("named", [".", "metrics"])
def test_samples_are_read_from_a_run_or_from_its_metrics(tmp_path, kind, named):
    writer(tmp_path / "metrics").write(1, "chief", 0, {"loss": 2})
    (tmp_path / "events.jsonl").write_text('{"event": "submitted"}\n')

    assert read_samples(kind(tmp_path / named))["value"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "holds no samples"),
        (lambda path: (path / "metrics").mkdir(parents=True), "holds no samples"),
        (lambda path: path.write_text("{}"), "is no folder"),
    ],
)
def test_a_place_without_samples_is_an_error_that_says_what_to_name(tmp_path, make, message):
    make(tmp_path / "run")

    for path in (tmp_path / "run", str(tmp_path / "run")):
        with pytest.raises(InputError, match=f"run {message}; name a run directory"):
            read_samples(path)


SOUND = '{"run_id": "r", "time_unix_s": 1, "host": "h", "role": "chief", "task_index": 0, "source": "training", ' \
    '"name": "loss", "value": 2, "unit": "1"}'  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "to", "value"),
    [
        ("", "", 2.0),
        ('"value": 2', '"value": NaN', math.nan),
        ('"value": 2', '"value": -Infinity', -math.inf),
        ('"host": "h"', '"host": "\\ud800"', None),
        ('"time_unix_s": 1', '"time_unix_s": NaN', None),
        ('"time_unix_s": 1', '"time_unix_s": 1e999', None),
        ('"value": 2', f'"value": 1{"0" * 400}', None),
        ('"value": 2', '"value": "2"', None),
        ('"value": 2', '"value": null', None),
        ('"task_index": 0', '"task_index": 0.5', None),
        ('"run_id": "r"', '"run_id": {}', None),
        ('"name": "loss"', '"name": "speed"', None),
        ('"unit": "1"', '"unit": "1", "more": 1', None),
        (', "unit": "1"}', "", None),
        (SOUND, "[" * 100_000, None),
    ],
)
def test_a_line_is_a_sample_or_is_left_out_however_it_is_read(tmp_path, changed, to, value):
    line = SOUND.replace(changed, to, 1).encode()
    (tmp_path / "chief-0.jsonl").write_bytes(line + b"\n\xff\n" + SOUND.encode() + b"\n")

    table = samples_in(tmp_path)["value"].tolist()

    assert table == pytest.approx([*([] if value is None else [value]), 2.0], nan_ok=True)
    assert [row.value for row in parse_lines([line])] == pytest.approx(table[:-1], nan_ok=True)


def test_samples_are_held_by_series_each_by_time(tmp_path):
    first, second = writer(tmp_path), writer(tmp_path, "chief-1")
    first.write(3, "chief", 0, {"loss": 1.0, "epoch": 2})
    second.write(1, "chief", 0, {"loss": 3.0})
    second.write(2, "chief", 0, {"loss": 2.0})

    table = read_table(tmp_path)

    assert {series.name: points.value.tolist() for series, points in table.series.items()} == {
        "loss": [3.0, 2.0, 1.0],
        "epoch": [2.0],
    }
    assert table.span_unix_s() == (1.0, 3.0)
    assert table.select(lambda series: series.name == "epoch").frame()["time_unix_s"].tolist() == [3.0]


def test_a_folder_of_a_run_that_records_nothing_is_a_table_without_rows(tmp_path):
    frame = samples_in(tmp_path)

    assert len(frame) == 0
    assert list(frame.columns) == list(Sample._fields)


def test_a_name_that_is_not_in_the_schema_cannot_be_recorded(tmp_path):
    with pytest.raises(KeyError, match="speed"):
        writer(tmp_path).write(1, "chief", 0, {"speed": 1})


def test_every_metric_has_a_unit_a_kind_and_a_meaning():
    assert all(
        metric.unit and metric.kind in ("gauge", "counter", "duration") and metric.meaning
        for metric in METRICS.values()
    )


@pytest.mark.parametrize("suffix, unit", [("_s", "s"), ("_bytes", "B"), ("_percent", "%"), ("_per_s", "1/s")])
def test_the_unit_in_a_name_is_the_metric_s_unit(suffix, unit):
    named = {name for name in METRICS if name.endswith(suffix) and not (suffix == "_s" and name.endswith("_per_s"))}

    assert named
    assert {METRICS[name].unit for name in named} == {unit}


def test_a_tail_gives_each_sample_once_and_waits_for_a_whole_line(tmp_path):
    tail, out = SampleTail(tmp_path), writer(tmp_path)
    assert tail.new() == []
    out.write(1, "chief", 0, {"loss": 3})
    assert [item.value for item in tail.new()] == [3.0]
    whole = (tmp_path / "chief-0.jsonl").read_bytes()
    with (tmp_path / "chief-0.jsonl").open("ab") as file:
        file.write(whole[:30])
        file.flush()
        assert tail.new() == []
        file.write(whole[30:])
    assert [item.value for item in tail.new()] == [3.0]


BUSY = "import time\nend = time.time() + 30\nwhile time.time() < end: pass"


def test_cpu_is_a_share_of_the_whole_host():
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        process = psutil.Process(busy.pid)
        collector = PsutilCollector({"worker-0": busy.pid})
        begin, used_before = time.perf_counter(), process.cpu_times().user
        time.sleep(2.0)
        readings = {role: values for role, _, values in collector.collect()}
        used_s, elapsed_s = process.cpu_times().user - used_before, time.perf_counter() - begin
    finally:
        busy.kill()
        busy.wait()

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()
    assert readings["host"]["cpu_count"] == cores
    assert used_s > 0.1
    assert readings["worker"]["cpu_percent"] == pytest.approx(100 * used_s / elapsed_s / cores, rel=0.25)
    assert readings["worker"]["cpu_percent"] <= 110 / cores  # one busy thread can use one core and no more
    assert readings["worker"]["memory_bytes"] > 1e6
    assert set(readings["worker"]) | set(readings["host"]) <= set(METRICS)


def test_what_other_programs_use_is_told_from_what_tasks_do(tmp_path):
    """The same two busy processes: both are the run's, or one is somebody else's."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2)]
    collectors = {
        "all mine": PsutilCollector({"worker-0": busy[0].pid, "worker-1": busy[1].pid}),
        "one mine": PsutilCollector({"worker-0": busy[0].pid}),
    }
    try:
        deadline = time.monotonic() + 20
        while min(psutil.Process(process.pid).cpu_times().user for process in busy) < 0.4:
            assert time.monotonic() < deadline, "the busy processes got no processor"
            time.sleep(0.1)
        for name, collector in collectors.items():
            out = SampleWriter(tmp_path / name / "psutil.jsonl", run_id="r", host="h", source="psutil")
            for role, index, values in collector.collect():
                out.write(1.0, role, index, values)
    finally:
        for process in busy:
            process.kill()
            process.wait()

    loads = {name: measured_load(samples_in(tmp_path / name), one_machine=True) for name in collectors}
    samples = samples_in(tmp_path / "all mine")
    (used,) = samples[(samples["task_index"] == 1) & (samples["name"] == "cpu_percent")]["value"]
    (cpus,) = samples[samples["name"] == "cpu_count"]["value"]
    share = used * cpus / psutil.cpu_count()
    difference = loads["one mine"].foreign_cpu_percent - loads["all mine"].foreign_cpu_percent
    assert difference == pytest.approx(share, rel=0.3, abs=3)
    assert difference > 2
    if sys.platform == "linux":
        assert 0 <= loads["one mine"].steal_percent <= 100


def recorded(directory, host, *, busy, steal, cpus, machine_cpus, tasks):
    """Two rounds of samples of a host whose tasks use so many percent of it."""
    out = SampleWriter(directory / f"{host}.jsonl", run_id="r", host=host, source="psutil")
    machine = {"machine_busy_percent": busy, "machine_cpu_count": machine_cpus, "steal_percent": steal}
    for at in (1.0, 2.0):
        out.write(at, "host", int(host[-1]) - 1, {"cpu_count": cpus, **machine})
        for index, percent in enumerate(tasks):
            out.write(at, "worker", index, {"cpu_percent": percent})


def test_hosts_on_one_machine_are_not_foreign_to_each_other(tmp_path):
    for host in ("algo-1", "algo-2"):  # each has one of four CPUs and uses 90 % of it
        recorded(tmp_path, host, busy=50.0, steal=1.0, cpus=1.0, machine_cpus=4, tasks=[60.0, 30.0])

    one, apart = (measured_load(samples_in(tmp_path), one_machine=one_machine) for one_machine in (True, False))

    assert one.foreign_cpu_percent == pytest.approx(50 - 45)
    assert apart.foreign_cpu_percent == pytest.approx(50 - 22.5)


def test_of_machines_of_their_own_the_most_disturbed_counts(tmp_path):
    recorded(tmp_path, "algo-1", busy=80.0, steal=0.0, cpus=4, machine_cpus=4, tasks=[79.0])
    recorded(tmp_path, "algo-2", busy=80.0, steal=7.0, cpus=4, machine_cpus=4, tasks=[50.0])

    load = measured_load(samples_in(tmp_path), one_machine=False)

    assert (load.foreign_cpu_percent, load.steal_percent) == (pytest.approx(30), 7.0)
    assert len(load.disturbances) == 2


def test_a_task_of_a_part_of_the_run_counts_for_that_part(tmp_path):
    recorded(tmp_path, "algo-1", busy=50.0, steal=0.0, cpus=2, machine_cpus=2, tasks=[20.0])
    late = SampleWriter(tmp_path / "late.jsonl", run_id="r", host="algo-1", source="psutil")
    late.write(2.0, "worker", 1, {"cpu_percent": 60.0})

    assert measured_load(samples_in(tmp_path), one_machine=True).foreign_cpu_percent == pytest.approx(50 - 20 - 30)


def test_the_round_in_which_a_task_ends_is_left_out(tmp_path):
    recorded(tmp_path, "algo-1", busy=60.0, steal=0.0, cpus=2, machine_cpus=2, tasks=[55.0])
    last = SampleWriter(tmp_path / "last.jsonl", run_id="r", host="algo-1", source="psutil")
    machine = {"machine_busy_percent": 60.0, "machine_cpu_count": 2, "cpu_count": 2, "steal_percent": 0.0}
    last.write(3.0, "host", 0, machine)  # the task was still there for a part of it

    assert measured_load(samples_in(tmp_path), one_machine=True).foreign_cpu_percent == pytest.approx(5)


def test_without_the_machine_s_own_figures_nothing_is_known(tmp_path):
    out = SampleWriter(tmp_path / "p.jsonl", run_id="r", host="h", source="psutil")
    out.write(1.0, "worker", 0, {"cpu_percent": 50.0})

    load = measured_load(samples_in(tmp_path), one_machine=True)

    assert (load.foreign_cpu_percent, load.steal_percent, load.disturbances) == (None, None, ())


def test_cpu_is_never_more_than_the_whole_host_however_short_the_interval():
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        collector = PsutilCollector({"worker-0": busy.pid})
        seen = [values["cpu_percent"] for _ in range(200) for role, _, values in collector.collect()]
    finally:
        busy.kill()
        busy.wait()

    assert max(seen) <= 100


def test_a_task_that_has_ended_is_left_out():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    collector = PsutilCollector({"worker-0": ended.pid})
    ended.wait()

    assert [role for role, _, _ in collector.collect()] == ["host"]


def test_a_task_that_ended_before_its_monitor_began_is_left_out():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()

    (collector,) = make_collectors({"worker-0": ended.pid, "chief-0": os.getpid()}, ["psutil"])

    assert {role for role, _, _ in collector.collect()} == {"host", "chief"}


@pytest.mark.skipif(limited_to_a_share(), reason="a container with a quota is measured by its control group")
@pytest.mark.parametrize(
    ("allowed", "percent"),
    [({1, 3}, 70.0), ({0, 1, 2, 3}, 42.5), ({8, 9}, 42.5)],  # a container may be shown its own by other numbers
)
def test_a_host_that_may_use_a_part_of_the_machine_has_percentages_of_that_part(monkeypatch, allowed, percent):
    """As with taskset or Slurm."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setattr(psutil, "cpu_percent", lambda percpu=False: [10.0, 80.0, 20.0, 60.0] if percpu else 42.5)

    ((_, _, host),) = PsutilCollector({}).collect()

    assert (host["cpu_count"], host["cpu_percent"]) == (len(allowed), percent)


SEND = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"x" * 1_000_000)
s.recv(1)
print("received", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="socket diagnostics are Linux'")
def test_bytes_are_counted_for_the_task_that_owns_the_connection():
    from facesim.metrics.collectors.sockets import SocketCollector

    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = subprocess.Popen(
            [sys.executable, "-c", SEND, str(server.getsockname()[1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        connection, _ = server.accept()
        with connection:
            left = 1_000_000
            while left:
                left -= len(connection.recv(65536))
            connection.sendall(b"!")
            sender.stdout.readline()
            readings = {role: values for role, _, values in SocketCollector({"worker-0": sender.pid}).collect()}
        sender.communicate()

    assert list(readings) == ["worker"], "this process's end of the connection is nobody's task"
    assert 1_000_000 <= readings["worker"]["net_sent_bytes"] <= 1_000_001
    assert readings["worker"]["net_received_bytes"] == 1


@pytest.mark.parametrize(
    ("values", "processes", "monitors", "totals"),
    [
        ([10, 20, 25, 30], [0], [0], [10, 20, 25, 30]),
        ([10, 20, 12, 22], [0], [0, 2], [10, 20, 20, 30]),  # of 20 bytes 8 or more were of connections that had closed
        ([10, 20, 25, 30], [0], [0, 2], [10, 20, 25, 30]),
        ([10, 20, 5, 8], [0, 2], [0, 2], [10, 20, 25, 28]),
        ([10, 20, 5, 8], [0, 3], [0], [10, 20, 20, 28]),
        ([100, 85, 106, 105], [0], [0], [100, 100, 106, 106]),  # the task itself knows of open connections alone
        ([4, 9], [], [], [4, 9]),
    ],
)
def test_a_counter_goes_on_whoever_counts(values, processes, monitors, totals):
    points = Points(np.arange(len(values), dtype=float), np.array(values, float))

    assert running_total(points, processes, monitors).tolist() == totals


def test_every_registered_collector_can_be_made():
    collectors = make_collectors({"chief-0": os.getpid()})

    made = {collector.source for collector in collectors} | {"nvml"}  # which is there where a GPU is
    assert made == set(COLLECTORS) - ({"sockets"} if sys.platform != "linux" else set())


class _Failing:
    """A collector of somebody else's that breaks."""

    source = "psutil"

    def collect(self):
        yield "host", 0, {"cpu_percent": 1.0}
        raise RuntimeError("the sensor is gone")


def test_a_collector_that_fails_is_counted_and_goes_on_being_asked(tmp_path, capsys):
    from facesim.metrics.monitor import Recorder
    from facesim.runs.directory import Run
    from facesim.spec.job import make_job

    run = Run.create(tmp_path / "run", make_job())
    recorder = Recorder(run, _Failing(), "psutil")
    recorder.record()
    recorder.record()

    frame = read_samples(run.metrics)
    assert frame[frame["name"] == "collector_errors"]["value"].tolist() == [1.0, 2.0]
    assert frame[frame["name"] == "cpu_percent"]["value"].tolist() == [1.0, 1.0]
    assert "the sensor is gone" in capsys.readouterr().err


def test_a_sample_takes_its_unit_from_the_registry():
    assert sample("r", 1.0, "h", "host", 0, "psutil", "memory_bytes", 5).unit == "B"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux'")
@pytest.mark.parametrize("call", ["scandir", "readlink"])
def test_a_process_that_is_about_to_end_has_no_sockets_that_others_may_see(monkeypatch, call):
    from facesim.metrics.collectors import sockets

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sockets.os, call, refused)

    assert list(sockets.sockets_of(os.getpid())) == []

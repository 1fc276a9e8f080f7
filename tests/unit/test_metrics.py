"""The schema, its files, and the collectors on real processes and sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import psutil
import pytest

from facesim.metrics.collectors import COLLECTORS, make_collectors
from facesim.metrics.collectors.host import PsutilCollector
from facesim.metrics.files import SampleTail, SampleWriter, read_samples
from facesim.metrics.schema import METRICS, Sample, sample


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


def test_a_folder_without_samples_reads_as_an_empty_table(tmp_path):
    frame = read_samples(tmp_path)

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


def test_every_registered_collector_can_be_made():
    collectors = make_collectors({"chief-0": os.getpid()})

    assert {collector.source for collector in collectors} == set(COLLECTORS) - (
        {"sockets"} if sys.platform != "linux" else set()
    )


class _Failing:
    """A collector of somebody else's that breaks."""

    source = "psutil"

    def collect(self):
        yield "host", 0, {"cpu_percent": 1.0}
        raise RuntimeError("the sensor is gone")


def test_a_collector_that_fails_is_counted_and_goes_on_being_asked(tmp_path, capsys):
    from facesim.metrics.monitor import Recorder
    from facesim.run import Run
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

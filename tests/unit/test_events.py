"""What is recorded of a run while the system is not well: torn lines, a clock that is set back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

from cluster import clock
from facesim.billing.bill import make_bill, submitted
from facesim.runs.accounting import spent_s
from facesim.runs.directory import Run
from facesim.runs.events import OutOfReach, events_in
from facesim.runs.messages import in_words
from facesim.spec.job import make_job
from facesim.util.errors import InputError

M5 = "ml.m5.2xlarge"


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", make_job())


@pytest.mark.parametrize("what", ["upload", "create", "quota", "capacity"])
def test_a_job_that_there_is_not_yet_is_not_said_to_continue(what):
    shown = in_words(OutOfReach(what=what, why="AWS has none"))

    assert shown.endswith(": AWS has none") and "continues" not in shown and "again" in shown


def test_a_torn_line_does_not_swallow_the_event_of_whoever_goes_on(run):
    run.record("submitted")
    run.record("state", state="Training")
    with run.events_file.open("ab") as file:
        file.write(b'{"time_unix_s": 17')  # the machine crashed here

    Run(run.directory).record("submitted", **submitted([(M5, 3)], None))
    run.record("state", state="Training")

    assert [event["event"] for event in run.events()] == ["submitted", "state", "submitted", "state"]
    assert len(make_bill(run.events(), [(M5, 2)]).lives) == 2


def test_what_a_full_disk_did_not_take_is_gone_on_with_in_its_line(run):
    run.record("submitted")
    whole = b'{"event": "state", "time_unix_s": 1.0}\n'
    with run.events_file.open("ab") as file:
        file.write(whole[:10])
    run._unwritten = whole[10:]

    run.record("stopping")

    assert [event["event"] for event in run.events()] == ["submitted", "state", "stopping"]


def test_the_systems_clock_may_be_set_back_while_a_run_goes_on(run, monkeypatch):
    run.record("submitted")
    run.record("state", state="Training")
    monkeypatch.setattr("time.time", lambda: 1000.0)
    run.record("state", state="Completed")

    times = [event["time_unix_s"] for event in run.events()]
    assert times == sorted(times)
    assert times[-1] - times[0] < 60
    assert 0 <= spent_s(run.events()) < 60
    assert make_bill(run.events(), [(M5, 1)]).training_s < 60


def test_a_process_that_is_started_tells_the_same_time_whatever_the_systems_clock_says(tmp_path):
    # As if the clock had been set back an hour between the two.
    (tmp_path / "sitecustomize.py").write_text("import time; now = time.time; time.time = lambda: now() - 3600\n")
    before = clock.time_unix_s()

    ended = subprocess.run(
        [sys.executable, "-c", "from cluster import clock; print(clock.time_unix_s())"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        check=True,
    )

    assert before <= float(ended.stdout) <= clock.time_unix_s()


def test_the_reading_of_another_machines_clock_is_not_taken_over():
    script = """
        import json, time
        from cluster import clock
        print(json.dumps([time.time(), clock.time_unix_s()]))
        """

    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "CLUSTER_CLOCK": "another-boot/1=12345.0", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )

    mine, events = json.loads(ended.stdout)
    assert abs(mine - events) < 5


def test_a_run_is_for_nobody_else_to_read(run):
    assert run.directory.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_refused_is_left_as_it_is(tmp_path):
    folder = tmp_path / "full"
    folder.mkdir(mode=0o755)
    (folder / "file").touch()

    with pytest.raises(InputError, match="not empty"):
        Run.create(folder, make_job())

    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "line",
    [
        '{"time_unix_s"',
        '{"time_unix_s": null, "event": "stopping"}',
        '{"time_unix_s": 1, "event": 5}',
        '{"time_unix_s": 1}',
        '{"time_unix_s": "x", "event": "checkpoint"}',
        '{"time_unix_s": 1, "event": ' + "[" * 100_000,
        '{"time_unix_s": 1, "event": "node_ended", "outcome": "completed"}',
    ],
)
def test_whatever_a_host_prints_is_kept_and_is_no_event_unless_it_is_one(run, line):
    from facesim.backends.log_stream import LogStream

    events = LogStream(run).add("algo-1", line, 1.0)

    assert events is None
    assert run.log_file("algo-1").read_text(encoding="utf-8") == line + "\n"


def test_an_event_that_a_host_prints_is_one_of_its_type(run):
    from facesim.backends.log_stream import LogStream
    from facesim.runs.events import FaultDone

    events = LogStream(run).add(
        "algo-2", '{"time_unix_s": 1, "event": "fault", "kind": "interrupt", "target": "host"}', 1
    )

    assert isinstance(events, FaultDone)
    assert (events.host, events.notice_s) == ("algo-2", None)


@pytest.mark.parametrize("moment", ["1e300", "-1", "NaN", '"now"', "null"])
def test_an_event_of_no_date_is_none(moment):
    line = f'{{"event": "submitted", "time_unix_s": {moment}}}'.encode()

    assert not list(events_in([line]))

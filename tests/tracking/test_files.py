"""Runs as files for other tools: every sample as a table, and a time line."""

from __future__ import annotations

import json
from collections import defaultdict

import pandas
import pytest

from facesim.metrics.files import samples_in
from facesim.metrics.schema import DURATION, METRICS
from facesim.runs.directory import Run
from tests.conftest import facesim_here


def exported(run: Run, to: str, output) -> None:
    command = facesim_here("export-run", "--to", to, run.directory, "--output", output)
    assert command.code == 0, command.errors


def test_csv_has_every_sample_as_it_was(golden: Run, tmp_path):
    exported(golden, "csv", tmp_path / "runs.csv")

    pandas.testing.assert_frame_equal(
        pandas.read_csv(tmp_path / "runs.csv"), samples_in(golden.metrics), check_dtype=False
    )


def test_a_run_without_samples_is_not_left_out_of_a_table_without_a_word(golden: Run, tmp_path):
    empty = Run.create(tmp_path / "empty", golden.job())

    command = facesim_here(
        "export-run", "--to", "csv", golden.directory, empty.directory, "--output", tmp_path / "x.csv"
    )

    assert command.code == 2
    assert f"no samples in {empty.directory}; name the runs that were measured" in command.errors
    assert not (tmp_path / "x.csv").exists()


def test_parquet_has_every_sample_as_it_was(golden: Run, tmp_path):
    pytest.importorskip("pyarrow", reason="the extra parquet is not installed")

    exported(golden, "parquet", tmp_path / "runs.parquet")

    pandas.testing.assert_frame_equal(
        pandas.read_parquet(tmp_path / "runs.parquet"), samples_in(golden.metrics), check_dtype=False
    )


def test_a_trace_keeps_to_the_trace_event_format(golden: Run, tmp_path):
    """Perfetto's own reader is a program that is downloaded; what it demands of JSON is looked at here."""
    exported(golden, "perfetto", tmp_path / "trace.json")

    trace = json.loads((tmp_path / "trace.json").read_text(), parse_constant=pytest.fail)
    events = trace["traceEvents"]
    named = {"process_name": set(), "thread_name": set()}
    slices = defaultdict(list)
    for event in events:
        assert event["ph"] in "XCiM" and isinstance(event["name"], str)
        assert all(isinstance(event[key], int) and event[key] >= 0 for key in ("pid", "tid", "ts"))
        if event["ph"] == "M":
            assert isinstance(event["args"]["name"], str)
            named[event["name"]].add((event["pid"], event["tid"]))
        elif event["ph"] == "X":
            assert isinstance(event["dur"], int) and event["dur"] >= 0
            slices[event["pid"], event["tid"]].append((event["ts"], -event["dur"]))
        elif event["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
        else:
            assert event["s"] == "t"
    assert {(event["pid"], 0) for event in events} == named["process_name"]
    assert {(event["pid"], event["tid"]) for event in events if event["ph"] in "Xi"} == named["thread_name"]
    for spans in slices.values():  # a thread's slices lie in each other or beside each other
        ends: list[int] = []
        for begin, minus_duration in sorted(spans):
            while ends and ends[-1] <= begin:
                ends.pop()
            assert not ends or begin - minus_duration <= ends[-1]
            ends.append(begin - minus_duration)


def test_a_trace_shows_states_tasks_faults_and_counters(golden: Run, tmp_path):
    exported(golden, "perfetto", tmp_path / "trace.json")

    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    lives = [e for e in events if e["ph"] == "X" and threads[e["pid"], e["tid"]] == "ps-0"]
    assert len(lives) == 2 and lives[0]["ts"] + lives[0]["dur"] < lives[1]["ts"]  # killed, and started again
    states = [e["name"] for e in events if e["ph"] == "X" and threads[e["pid"], e["tid"]] == "state"]
    assert states == ["Starting", "Downloading", "Training", "Uploading"]
    (fault,) = [e for e in events if e["ph"] == "i" and e["name"] == "fault"]
    assert fault["args"]["kind"] == "kill" and threads[fault["pid"], fault["tid"]] == "ps-0"
    measured = [e for e in events if e["ph"] == "C"]
    assert len(measured) == sum(METRICS[name].kind != DURATION for name in samples_in(golden.metrics)["name"])


def test_a_file_that_is_there_is_not_written_over(golden: Run, tmp_path):
    (tmp_path / "runs.csv").write_text("mine")

    command = facesim_here("export-run", "--to", "csv", golden.directory, "--output", tmp_path / "runs.csv")

    assert command.code == 2 and "already exists" in command.errors
    assert (tmp_path / "runs.csv").read_text() == "mine"


def test_a_file_that_there_is_no_room_for_is_not_there(golden: Run, tmp_path, largest_file):
    largest_file(10_000)

    for to in ("csv", "perfetto"):
        command = facesim_here("export-run", "--to", to, golden.directory, "--output", tmp_path / f"runs.{to}")
        assert command.code == 1 and "there is no room left" in command.errors
    assert not list(tmp_path.glob("*runs*"))

"""Spot capacity and the bill with real training: interrupted, resumed, limited, stopped."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from facesim.runs.directory import find_runs
from facesim.runs.states import RunState
from tests.conftest import PATIENCE_S, QUICK, facesim_here, pids_of, still_running
from tests.support.events import states, values_of

#: Hosts that live for a minute, thrice, with six seconds between; then one that stays.
LIVES = "0,add,a 60000,remove,a 66000,add,b 126000,remove,b 132000,add,c 192000,remove,c 198000,add,d 86400000,remove,d"


def adds_up(billing: dict, events: list[dict]) -> bool:
    """Whether the bill's states are the run's life without a gap, and its seconds are theirs."""
    spans = billing["transitions"]
    times = values_of(events, "state", "time_unix_s")
    billed = sum(span["end_unix_s"] - span["begin_unix_s"] for span in spans if span["billable"])
    return (
        [span["begin_unix_s"] for span in spans] == times[:-1]
        and [span["end_unix_s"] for span in spans] == times[1:]
        and abs(billed - billing["training_s"]) <= 0.5
    )


@pytest.mark.parametrize("strategy", ["single", "ps-async"])
def test_a_run_on_demand_lives_through_sagemakers_states_and_is_billed_from_download_to_upload(study, strategy):
    run, result = study.runs[strategy], study.result(strategy)

    billing = result["billing"]

    assert states(run.events()) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert adds_up(billing, run.events())
    assert billing["training_s"] == billing["billable_s"] <= round(result["total_s"])
    assert billing["hosts"] == result["hosts"] == (2 if strategy == "ps-async" else 1)
    assert result["cost_usd"] == pytest.approx(0.461 * billing["hosts"] * billing["training_s"] / 3600)


@pytest.mark.usefixtures("loaded")
def test_training_goes_on_after_each_of_three_interruptions_and_the_bill_adds_up(study, faces, tmp_path):
    (tmp_path / "trace.csv").write_text(LIVES.replace(" ", "\n"))
    life_s = round(2.5 * study.result("single")["phases"]["launch_to_first_step_s"] + 4)  # enough to make some steps
    limit_s = 4 * life_s
    spot = (
        "--spot-trace",
        tmp_path / "trace.csv",
        "--spot-wait-s",
        0,
        "--spot-speed",
        60 / life_s,
        "--max-run",
        limit_s,
    )

    command = facesim_here(
        "run",
        "--data",
        faces,
        "--epochs",
        100_000,
        *QUICK,
        *spot,
        "--checkpoint-steps",
        5,
        "--output",
        tmp_path / "runs",
    )

    (run,) = find_runs([tmp_path / "runs"])
    result, events = run.result(), run.events()
    restored = values_of(events, "restored", "examples")
    attempt = ["Starting", "Downloading", "Training"]
    assert states(run.events()) == [*attempt, "Interrupted"] * 3 + [*attempt, "Stopping", "MaxRuntimeExceeded"]
    assert len(restored) == 3
    assert 0 < restored[0] < restored[1] < restored[2] < result["examples_seen"]
    assert command.code == 1
    assert result["state"] == RunState.MAX_RUNTIME_EXCEEDED
    assert f"--max-run {limit_s}" in result["failure"]
    assert run.model_file.exists()
    billing = result["billing"]
    assert adds_up(billing, events)
    assert billing["interruptions"] == 3
    assert billing["lost_work_s"] == pytest.approx(result["recovery"]["lost_s"])
    assert 0.9 * limit_s <= billing["training_s"] <= limit_s + 12  # a drain takes up to eight seconds
    assert billing["billable_s"] == round(billing["training_s"] * 0.43)
    assert not still_running(pids_of(run), within_s=1)


@pytest.mark.slow
def test_ctrl_c_while_waiting_for_capacity_ends_at_once_and_costs_nothing(faces, tmp_path):
    (tmp_path / "trace.csv").write_text("600000,add,a\n900000,remove,a\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "facesim", "run", "--data", faces, "--spot-trace", tmp_path / "trace.csv"]
        + ["--output", tmp_path / "runs"],
        stdout=subprocess.PIPE,
        text=True,
    )
    line = ""
    while "waiting for spot capacity" not in line:
        line = process.stdout.readline()
        assert line, "it ended early"
    process.send_signal(signal.SIGINT)

    process.communicate(timeout=PATIENCE_S)

    (run,) = find_runs([tmp_path / "runs"])
    result = run.result()
    assert process.returncode == 130
    assert result["state"] == RunState.STOPPED
    assert result["billing"]["training_s"] == result["cost_usd"] == 0
    assert states(run.events()) == ["Starting", "Stopped"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--spot-rate", "-1"], "--spot-rate -1.0 is not allowed"),
        (["--spot-trace", "missing.csv"], "--spot-trace missing.csv cannot be read"),
        (["--spot", "--max-run", "9", "--max-wait", "3"], "--max-wait 3 must be at least --max-run 9"),
        (["--max-wait", "3"], "--max-wait is for spot capacity"),
    ],
)
def test_spot_options_that_cannot_be_used_are_told_before_anything_starts(faces, tmp_path, options, message):
    command = facesim_here("run", "--data", faces, *options, "--output", tmp_path / "runs")

    assert command.code == 2
    assert message in command.errors
    assert not (tmp_path / "runs").exists()

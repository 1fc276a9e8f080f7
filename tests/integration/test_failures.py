"""What goes wrong: tasks that crash, parents that are killed, Ctrl-C, and input that cannot be used."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from facesim.runs.directory import Run
from facesim.runs.states import RunState
from tests.conftest import QUICK, facesim_here, pids_of, still_running, wait_until
from tests.integration.running import Running
from tests.support.events import named


@pytest.fixture
def cluster(faces, tmp_path, request, takes_long):
    """A cluster that would train for very long, of parameter servers unless the test says otherwise."""
    strategy = getattr(request, "param", "ps-async")
    options = ("--epochs", 100_000, "--max-restarts", 0)
    running = Running(tmp_path, "run", "--strategy", strategy, "--data", faces, *options, *QUICK)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.communicate()


def pid_of(run: Run, task: str) -> int:
    return next(event["pid"] for event in run.events() if event["event"] == "task_started" and event["task"] == task)


@pytest.mark.parametrize(
    "cluster", ["ps-async", pytest.param("allreduce", marks=pytest.mark.exhaustive)], indirect=True
)
def test_ctrl_c_drains_within_ten_seconds_and_leaves_a_readable_run(cluster):
    run = cluster.run_that_trains()
    cluster.process.send_signal(signal.SIGINT)

    code, shown = cluster.end()

    assert code == 130
    (stopping,) = named(run.events(), "stopping")
    assert stopping["grace_s"] < 10 and not named(run.events(), "grace_exceeded")
    result = run.result()
    assert result["state"] == RunState.STOPPED
    assert result["examples_seen"] > 0
    assert run.model_file.exists()
    assert "report:" in shown
    assert not still_running(pids_of(run), within_s=1)


@pytest.mark.exhaustive
def test_a_second_ctrl_c_ends_at_once(cluster):
    run = cluster.run_that_trains()
    os.kill(pid_of(run, "chief-0"), signal.SIGSTOP)  # it will not drain
    cluster.process.send_signal(signal.SIGINT)
    wait_until(lambda: named(run.events(), "stopping"))
    cluster.process.send_signal(signal.SIGINT)

    code, _ = cluster.end()

    assert code == 130
    assert not named(run.events(), "grace_exceeded")
    assert run.result()["state"] == RunState.STOPPED
    assert not still_running(pids_of(run), within_s=1)


def test_nothing_is_left_when_facesim_is_killed(cluster):
    run = cluster.run_that_trains()
    pids = pids_of(run)
    assert len(pids) == 6

    cluster.process.kill()

    assert not still_running(pids)
    assert run.result() is None
    shown = facesim_here("report", run.directory, "--output", run.directory / "report.html")
    assert shown.code == 0, shown.errors
    assert "Unfinished" in shown.output


@pytest.mark.parametrize("task", ["ps-0", pytest.param("worker-1", marks=pytest.mark.exhaustive)])
def test_a_task_that_crashes_ends_the_run_and_is_named_with_its_last_lines(cluster, task):
    run = cluster.run_that_trains()
    with run.log_file(task).open("a") as log:
        log.write("the last that it printed\n")
    os.kill(pid_of(run, task), signal.SIGKILL)

    code, shown = cluster.end()

    assert code == 1
    result = run.result()
    assert result["state"] == RunState.FAILED
    assert result["failure"].startswith(f"{task} was killed by SIGKILL")
    assert "the last that it printed" in result["failure"]
    assert f"{task} was killed by SIGKILL" in shown
    assert not still_running(pids_of(run), within_s=1)


@pytest.mark.usefixtures("loaded")
def test_a_training_that_diverges_fails_and_says_what_to_do(faces, tmp_path):
    options = ("--model", "plain-cnn", "--image-size", 32, "--epochs", 20, "--learning-rate", "1e18")

    command = facesim_here("run", "--data", faces, *options, "--output", tmp_path)

    assert command.code == 1
    assert "lower --learning-rate" in command.output


def bad_npz(directory: Path, labels) -> Path:
    file = directory / "faces.npz"
    np.savez(file, images=np.zeros((len(labels), 32, 32), np.uint8), labels=np.array(labels))
    return file


def half_bad(directory: Path) -> Path:
    from PIL import Image

    for person in ("ann", "bob"):
        (directory / person).mkdir()
        for shot in range(4):
            Image.new("RGB", (40, 40), (shot, 0, 0)).save(directory / person / f"{shot}.png")
    for shot in range(2):
        (directory / "ann" / f"broken{shot}.png").write_bytes(b"not a picture")
    return directory


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "missing", "no data source"),
        (lambda d: d, "image"),
        (lambda d: bad_npz(d, [0] * 10), "one"),
        (lambda d: bad_npz(d, [0] * 10 + [1]), "1 of 2 identities has fewer than 2 usable images"),
        (half_bad, "broken0.png"),
    ],
    ids=["missing path", "empty folder", "one class", "too few images", "too many unreadable files"],
)
def test_data_that_cannot_be_used_is_told_before_anything_starts(tmp_path, make, message):
    (tmp_path / "data").mkdir()
    command = facesim_here("--data", make(tmp_path / "data"), "--output", tmp_path / "runs")

    assert command.code == 2
    assert message in command.errors
    assert not (tmp_path / "runs").exists()


def test_unreadable_files_within_the_limit_are_named_and_skipped(tmp_path):
    (tmp_path / "data").mkdir()
    command = facesim_here("data", "describe", half_bad(tmp_path / "data"), "--json")

    assert command.code == 0, command.errors
    facts = json.loads(command.output)
    assert facts["images"] == 8
    assert [Path(bad["path"]).name for bad in facts["bad_files"]] == ["broken0.png", "broken1.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs 0 is not allowed"),
        (["--epochs", "many"], "'many' is not a valid integer"),
        (["--strategy", "magic"], "'magic' is not one of"),
        (["--instance-type", "ml.huge"], "ml.huge"),
        (["--backend", "moon"], "Invalid value for '--backend'"),
        (["--no-such-option"], "No such option"),
        (["fly"], "No such command"),
        (["report", "missing"], "does not exist"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(arguments, message):
    command = facesim_here(*arguments)

    assert command.code == 2
    assert message in command.errors


def test_an_output_that_cannot_be_written_is_told(tmp_path, faces):
    (tmp_path / "file").write_text("")

    command = facesim_here("--data", faces, "--output", tmp_path / "file" / "runs")

    assert command.code == 2
    assert "choose another with --output" in command.errors

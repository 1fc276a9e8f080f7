"""How a command ends with all that it started: killed at any moment, its terminal closed, its reader gone."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from facesim.runs.directory import find_runs
from facesim.runs.states import RunState
from tests.conftest import PATIENCE_S, QUICK, carrying, pids_of, wait_until


def command(faces: Path, output: Path, strategy: str, epochs: int = 100_000) -> list[str]:
    words = [sys.executable, "-m", "facesim", "run", "--strategy", strategy, "--data", faces, "--epochs", epochs]
    return [*map(str, [*words, "--checkpoint-s", 0, *QUICK, "--output", output])]


def trains(output: Path) -> bool:
    return any('"updates"' in file.read_text() for file in output.glob("*/metrics/chief-0.jsonl"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "strategy",
    ["ps-async", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("single", "allreduce"))],
)
def test_nothing_is_left_whenever_the_command_is_killed(tmp_path, faces, strategy):
    every_s = float(os.environ.get("FACESIM_KILL_EVERY_S", "2.0"))
    left = []
    for count in range(1, int(6 / every_s) + 1):
        token = uuid.uuid4().hex
        process = subprocess.Popen(
            command(faces, tmp_path / token, strategy),
            env={**os.environ, "STARTED_BY": token}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(count * every_s)
        process.kill()
        process.wait()
        left += [(count * every_s, one.cmdline()) for one in psutil_left(token)]

    assert left == []


def psutil_left(token: str) -> list:
    """Which processes are left a while after the kill; those are ended."""
    until = time.monotonic() + 30
    while (processes := carrying(token)) and time.monotonic() < until:
        time.sleep(0.05)
    for process in processes:
        process.kill()
    return processes


@pytest.mark.slow
def test_a_terminal_that_closes_drains_the_run_with_a_checkpoint(tmp_path, faces):
    token = uuid.uuid4().hex
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["STARTED_BY"] = token
        arguments = command(faces, tmp_path, "ps-async")
        os.execv(arguments[0], arguments)
    shown = b""
    while not trains(tmp_path):  # a terminal that nobody reads would stop the command
        shown += os.read(terminal, 65536)
    os.close(terminal)  # the kernel sends SIGHUP; a shell would repeat it
    os.kill(pid, signal.SIGHUP)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 130, shown.decode()
    (run,) = find_runs([tmp_path])
    assert run.result()["state"] == RunState.STOPPED
    assert any(event["event"] == "checkpoint" for event in run.events())
    assert list(run.checkpoints.glob("checkpoint-*.npz"))
    assert not carrying(token)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_node_that_is_hung_up_drains_too(tmp_path, faces):
    process = subprocess.Popen(command(faces, tmp_path, "single"), stdout=subprocess.PIPE)
    wait_until(lambda: trains(tmp_path))
    (run,) = find_runs([tmp_path])
    os.kill(pids_of(run)[0], signal.SIGHUP)
    process.communicate(timeout=PATIENCE_S)

    assert run.result()["state"] == RunState.STOPPED
    assert any(event["event"] == "checkpoint" for event in run.events())


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path, faces):
    words = command(faces, tmp_path, "single", epochs=40)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(timeout=PATIENCE_S) == 0
    (run,) = find_runs([tmp_path])
    assert run.result()["state"] == RunState.COMPLETED

"""A real run, looked at and ended by commands of another terminal."""

from __future__ import annotations

import json

import pytest

from tests.conftest import QUICK, facesim_here, pids_of, still_running, wait_until
from tests.integration.running import Running


@pytest.mark.slow
def test_a_run_of_another_terminal_is_shown_and_ended(tmp_path, faces):
    command = Running(tmp_path / "runs", "run", "--strategy", "ps-async", "--data", faces, "--epochs", 100_000, *QUICK)
    try:
        run = command.run_that_trains()
        watching = Running(tmp_path, "attach", run.directory, output=False)
        assert "starting in" in watching.process.stdout.readline()

        known = json.loads(facesim_here("list", tmp_path / "runs", "--json").output)
        wait_until(lambda: json.loads(facesim_here("status", run.directory, "--json").output)["epoch"] > 0)
        status = json.loads(facesim_here("status", run.directory, "--json").output)
        cancelled = facesim_here("cancel", run.directory)

        assert [(one["name"], one["running"]) for one in known] == [(run.id, True)]
        assert (status["state"], status["running"], status["epochs"]) == ("Training", True, 100_000)
        assert f"process {command.process.pid}" in status["process"]
        assert (cancelled.code, cancelled.output) == (0, f"{run.id}: stopped\n")
        assert command.end()[0] == 130
        code, shown = watching.end()
        assert code == 130
        assert "Stopped after" in shown and "report: " in shown
        assert list(run.checkpoints.glob("checkpoint-*.npz"))
        assert not still_running(pids_of(run), within_s=1)
        assert "had ended already (Stopped)" in facesim_here("cancel", run.directory).output
    finally:
        command.process.kill()

"""What a host writes for TensorBoard, read back by TensorBoard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from facesim.metrics.event_files import FOLDER, EventFiles
from facesim.metrics.files import SampleWriter
from facesim.metrics.host_identity import HOST
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from tests.conftest import wait_until


def read(folder: Path, metric: str) -> list[tuple[int, float, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(one.step, one.wall_time, one.value) for one in events.Scalars(metric)]


def test_a_file_begins_anew_with_what_was_measured_before(tmp_path):
    """So the newest of those that are uploaded in turn has everything, and nothing twice."""
    samples, folder = tmp_path / "metrics", tmp_path / "tensorboard"
    chief = SampleWriter(samples / "chief-0.jsonl", run_id="x", host="algo-1", source="training")
    host = SampleWriter(samples / "psutil.jsonl", run_id="x", host="algo-1", source="psutil")
    first = EventFiles(samples, folder, "algo-1")
    chief.write(100.5, "chief", 0, {"updates": 300, "loss": 3e39})
    host.write(100.0, "worker", 1, {"cpu_percent": 50.0})
    first.update()
    chief.write(101.5, "chief", 0, {"updates": 70_000, "loss": 0.5})
    first.update()

    EventFiles(samples, folder, "algo-1").update()

    assert read(folder, "training/loss") == [(300, 100.5, float("inf")), (70_000, 101.5, 0.5)]
    assert read(folder / "algo-1" / "worker-1", "psutil/cpu_percent") == [(0, 100.0, 50.0)]
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("error", [None, "NotADirectoryError", "InputError"])
def test_a_monitor_writes_them_where_its_environment_says_as_long_as_it_can(tmp_path, error):
    run, folder = Run.create(tmp_path / "run", make_job(sampling_s=0.1)), tmp_path / "output" / "tensorboard"
    if error == "NotADirectoryError":
        folder.parent.write_text("a file where a folder has to be")
    if error == "InputError":
        (run.metrics / "chief-0.jsonl").mkdir()  # where a file has to be
    begin = f"from facesim.metrics.monitor import main; main({str(run.directory)!r}, {{}})"
    monitor = subprocess.Popen(
        [sys.executable, "-c", begin],
        env={**os.environ, FOLDER: str(folder), HOST: "algo-2"},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: any(file.is_file() and file.stat().st_size for file in run.metrics.glob("*.jsonl")))
    monitor.send_signal(signal.SIGTERM)
    _, errors = monitor.communicate(timeout=60)

    assert monitor.returncode == 0
    assert ("Traceback" in errors) is (error is not None) and (error or "") in errors
    if error is None:
        assert len(read(folder / "algo-2", "psutil/memory_percent")) >= 1

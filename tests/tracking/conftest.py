"""A run of two hosts whose files grow as those of one that goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from facesim.metrics.files import SampleWriter
from facesim.runs.directory import Run
from facesim.runs.events import StateEntered, Submitted, TaskEnded, TaskStarted
from facesim.runs.records import Result
from facesim.runs.states import RunState
from facesim.spec.job import make_job

BEGAN = 1_790_000_000.0
GOLDEN = Path(__file__).parents[1] / "golden" / "ps-async-killed"


class Growing:
    """A run of a parameter-server cluster, which something measures."""

    def __init__(self, directory: Path):
        self.run = Run.create(directory, make_job(strategy="ps-async", epochs=2, learning_rate=0.003))
        self._writers = {
            file: SampleWriter(self.run.metrics / f"{file}.jsonl", run_id=self.run.id, host=host, source=source)
            for file, host, source in [
                ("training", "algo-1", "training"), ("algo-1", "algo-1", "psutil"), ("algo-2", "algo-2", "psutil"),
            ]
        }  # fmt: skip

    def begin(self) -> None:
        self.run.record(Submitted(time_unix_s=BEGAN))
        self.run.record(StateEntered(time_unix_s=BEGAN, state=RunState.TRAINING))
        for task in ("ps-0", "worker-0", "worker-1"):
            self.run.record(TaskStarted(time_unix_s=BEGAN + 0.5, task=task))

    def epoch(self, number: int, tested: bool = True) -> None:
        """An epoch passes: five seconds, ten updates, and a test at its end."""
        now = BEGAN + 5.0 * number
        for index in (0, 1):
            self._writers[f"algo-{index + 1}"].write(now, "worker", index, {"cpu_percent": 30.0 + 10 * index + number})
            self._writers[f"algo-{index + 1}"].write(now, "host", 0, {"memory_percent": 50.0 + index})
        values = {"epoch": number, "updates": 10 * number, "loss": 3.0 / number}
        found = {"held_out_accuracy": 0.4 * number} if tested else {}
        self._writers["training"].write(now + 0.1, "chief", 0, {**values, **found})

    def end(self) -> Result:
        for task in ("worker-0", "worker-1", "ps-0"):
            self.run.record(TaskEnded(time_unix_s=BEGAN + 11.0, task=task, exit_code=0))
        self.run.record(StateEntered(time_unix_s=BEGAN + 12.0, state=RunState.COMPLETED))
        content = {"strategy": "ps-async", "backend": "local", "seed": 0, "state": "Completed",
                   "measurement": "emulated", "held_out_accuracy": 0.8, "training_s": 10.0, "total_s": 12.0,
                   "cost_usd": 0.003, "sync_audit": {"verdict": "together"}}  # fmt: skip
        result = Result.model_validate({"run_id": self.run.id, "job": self.run.job().model_dump(), **content})
        result.write(self.run.result_file)
        self.run.claim.release()
        return result


@pytest.fixture
def growing(tmp_path: Path) -> Growing:
    return Growing(tmp_path / "runs" / "growing")


@pytest.fixture
def golden(tmp_path: Path) -> Run:
    """A run that really was: of a cluster whose parameter server was killed."""
    return Run(Path(shutil.copytree(GOLDEN, tmp_path / "golden" / GOLDEN.name)))

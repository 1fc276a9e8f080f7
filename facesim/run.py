"""The run directory: everything that one execution of a job leaves, and the only code that knows its file names.

`_FILES` has its files. `facesim evaluate` adds evaluation.json: how well the model recognises, by the data that it was
asked about.
"""

from __future__ import annotations

import json
import os
import tempfile
from enum import Enum
from pathlib import Path
from typing import Any

from cluster import clock
from facesim.claim import Claim
from facesim.disk import is_full, no_room, reserve, writing_to
from facesim.errors import DiskFull, InputError
from facesim.files import append, write_text
from facesim.spec.job import Job, Recovery

# Not the module's docstring, which Python leaves out when it optimises.
_FILES = """
job.json          what was run
plan.json         the exact processes that ran it
events.jsonl      what happened, in order: submitted, task_started, task_ended, state, ...
metrics/*.jsonl   samples, one file a process that records
logs/*.log        what each task printed, e.g. worker-1.log; node.log is the process that started them
tasks/*/          each task's working directory
outcome.json      what the training task found, written once at its end
checkpoints/      what a training needs to go on, the newest few
model.keras       the trained model
result.json       the end: state, accuracy, times, resources, cost, the audit; written once, last
"""


class State(str, Enum):
    """Where a run is in its life, in SageMaker's words (its secondary states). The last five are terminal."""

    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    INTERRUPTED = "Interrupted"
    UPLOADING = "Uploading"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"


class Run:
    """A run directory that exists."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.id = directory.name
        self.job_file = directory / "job.json"
        self.plan_file = directory / "plan.json"
        self.events_file = directory / "events.jsonl"
        self.metrics = directory / "metrics"
        self.logs = directory / "logs"
        self.tasks = directory / "tasks"
        self.outcome_file = directory / "outcome.json"
        self.model_file = directory / "model.keras"
        self.checkpoints = directory / "checkpoints"
        self.evaluation_file = directory / "evaluation.json"
        self.result_file = directory / "result.json"
        self.claim = Claim(directory / ".lock")
        self._unwritten = b""

    @staticmethod
    def files() -> dict[str, str]:
        """What a run directory will hold: name -> content, for a dry run."""
        return dict(line.split(maxsplit=1) for line in _FILES.strip().splitlines())

    @classmethod
    def create(cls, directory: Path, job: Job) -> Run:
        """Make the directory and record the job in it.

        Raises:
            InputError: the directory exists and is not empty, or cannot be written.
        """
        run = cls(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if any(directory.iterdir()):
                raise InputError(f"the run directory {directory} is not empty; choose another with --output")
            directory.chmod(0o700)  # a model of people's faces, and what tasks print, are nobody else's
            for folder in (run.metrics, run.logs, run.tasks):
                folder.mkdir()
            run.claim.take()
            run.job_file.write_text(job.model_dump_json(indent=1), encoding="utf-8")
            reserve(directory)
        except OSError as error:
            if is_full(error):
                raise DiskFull(no_room(directory)) from None
            raise InputError(
                f"cannot write the run directory {directory}: {error.strerror}; choose another with --output"
            ) from None
        return run

    @classmethod
    def open(cls, directory: Path) -> Run:
        """A run that an earlier facesim left.

        Raises:
            InputError: `directory` is not a run directory.
        """
        run = cls(directory)
        if not run.job_file.is_file():
            raise InputError(f"{directory} is not a run directory: it has no {run.job_file.name}")
        return run

    def reopen(self, job: Job) -> None:
        """Make it a run that goes on, as `job`: what told of its end is gone."""
        with writing_to(self.directory):
            write_text(self.job_file, job.model_dump_json(indent=1))
            reserve(self.directory)
        for end in (self.result_file, self.outcome_file, *self._peer_outcome_files()):
            end.unlink(missing_ok=True)

    def job(self) -> Job:
        return Job.model_validate_json(self.job_file.read_text(encoding="utf-8"))

    def result(self) -> dict[str, Any] | None:
        """What `result.json` holds, or None while the run has not ended."""
        return json.loads(self.result_file.read_text()) if self.result_file.exists() else None

    def outcome(self) -> dict[str, Any] | None:
        """What the training task found, or None if it did not get that far."""
        return json.loads(self.outcome_file.read_text()) if self.outcome_file.exists() else None

    def record(self, event: str, **details: Any) -> None:
        """Append one event. One process records a run's events: the backend that follows it.

        What a full disk does not take is written with the next event, so that it does not end the run.
        """
        going_on = bool(self._unwritten)
        self._unwritten += (json.dumps({"time_unix_s": clock.time_unix_s(), "event": event, **details}) + "\n").encode()
        self._unwritten = append(self.events_file, self._unwritten, fresh_line=not going_on)

    def events(self) -> list[dict[str, Any]]:
        """Every event so far, in order; a last line torn by a crash is left out."""
        if not self.events_file.exists():
            return []
        events = []
        for line in self.events_file.read_bytes().splitlines():
            try:
                events.append(json.loads(line))
            except ValueError:
                continue
        return events

    def launched_unix_s(self) -> float:
        """When its tasks were started, or started again, for the last time."""
        launches = [event for event in self.events() if _launches(event)]
        return launches[-1]["time_unix_s"] + launches[-1].get("in_s", 0.0)

    def checkpoint_directory(self, job: Job) -> Path:
        """Where the job's checkpoints go: in this directory, or in one of this run's name where the job says."""
        named = job.recovery.checkpoint_dir
        return Path(named).resolve() / self.id if named else self.checkpoints

    def task_outcome_file(self, task: str) -> Path:
        """Where a training task leaves what it found: the chief's is the run's."""
        return self.outcome_file if task == "chief-0" else self.tasks / task / self.outcome_file.name

    def peer_outcomes(self) -> list[dict[str, Any]]:
        """What training tasks beside the chief found."""
        return [json.loads(file.read_text()) for file in self._peer_outcome_files()]

    def _peer_outcome_files(self) -> list[Path]:
        return sorted(self.tasks.glob(f"*/{self.outcome_file.name}"))

    def log_file(self, task: str) -> Path:
        """Where a task, such as `worker-1`, prints."""
        return self.logs / f"{task}.log"

    def task_directory(self, task: str) -> Path:
        """A task's working directory, made if need be."""
        directory = self.tasks / task
        directory.mkdir(exist_ok=True)
        return directory

    def log_tail(self, task: str, lines: int = 15) -> str:
        """The last lines that a task, such as `worker-1`, printed."""
        path = self.log_file(task)
        if not path.exists():
            return ""
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def check_writable(recovery: Recovery) -> None:
    """Make sure that the folder that a user named for checkpoints takes them.

    Raises:
        InputError: it does not.
    """
    if recovery.checkpoint_dir is None:
        return
    directory = Path(recovery.checkpoint_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory) as probe:
            probe.write(bytes(1_000_000))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise InputError(
            f"--checkpoint-dir {directory} cannot be written: {error.strerror}; name a folder that can, with room"
        ) from None


def _launches(event: dict[str, Any]) -> bool:
    """Whether an event is the start of a run's tasks, for the first time or again."""
    return event["event"] in ("submitted", "recovering") or event.get("state") == State.STARTING


def find_runs(paths: list[Path]) -> list[Run]:
    """The runs that `paths` name: run directories, or folders that hold them at any depth, in order.

    Raises:
        InputError: a path does not exist or holds no run.
    """
    runs: list[Run] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; name a run directory or a folder of them")
        found = sorted(file.parent for file in path.rglob("job.json"))
        if not found:
            raise InputError(f"{path} holds no run: there is no job.json in or below it")
        runs.extend(Run(directory) for directory in found)
    return list({run.directory.resolve(): run for run in runs}.values())


def find_run(path: Path) -> Run:
    """The one run that `path` names.

    Raises:
        InputError: it names none, or several.
    """
    found = find_runs([path])
    if len(found) > 1:
        names = ", ".join([run.id for run in found[:3]] + ["..."] * (len(found) > 3))
        raise InputError(f"{path} holds {len(found)} runs ({names}); name the directory of one")
    return found[0]

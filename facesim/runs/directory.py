"""The run directory: everything that one execution of a job leaves, and the only code that knows its file names.

`_FILES` has its files. `facesim evaluate` adds evaluation.json: how well the model recognises, by the data that it was
asked about.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from facesim.runs.claim import Claim
from facesim.runs.evaluations import Evaluation, read_evaluations, write_evaluations
from facesim.runs.events import Event, Recovering, StateEntered, Submitted, event_of, events_in
from facesim.runs.forecasts import ForecastRecord
from facesim.runs.record import REMEDY, read_json
from facesim.runs.records import JobFields, Result, TaskOutcome
from facesim.runs.states import RunState
from facesim.spec.job import Job
from facesim.util.disk import is_full, no_room, reserve, writing_to
from facesim.util.errors import DiskFull, InputError, doing, reason
from facesim.util.files import append, read_bytes, write_text

# Not the module's docstring, which Python leaves out when it optimises.
_FILES = """
job.json          what was run
forecast.json     what was forecast of it before it began, where this machine had a profile
plan.json         the exact processes that ran it
events.jsonl      what happened, in order: submitted, task_started, task_ended, state, ...
metrics/*.jsonl   samples, one file a process that records
logs/*.log        what each task printed, e.g. worker-1.log; node.log is the process that started them
tasks/*/          each task's working directory
order.csv         ps-async: which worker made which update, of which batch, from which version of the parameters
outcome.json      what the training task found, written once at its end
checkpoints/      what a training needs to go on, the newest few
model.keras       the trained model
result.json       the end: state, accuracy, times, resources, cost, the audit; written once, last
"""


class Run:
    """A run directory that exists."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.id = (directory if directory.name not in ("", "..") else directory.resolve()).name
        self.job_file = directory / "job.json"
        self.plan_file = directory / "plan.json"
        self.forecast_file = directory / "forecast.json"
        self.events_file = directory / "events.jsonl"
        self.metrics = directory / "metrics"
        self.logs = directory / "logs"
        self.tasks = directory / "tasks"
        self.order_file = directory / "order.csv"
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
            write_text(run.job_file, job.model_dump_json(indent=1))
            reserve(directory)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and is_full(error):
                raise DiskFull(no_room(directory)) from None
            raise InputError(
                f"cannot write the run directory {directory}: {reason(error)}; choose another with --output"
            ) from None
        return run

    @classmethod
    def open(cls, directory: Path) -> Run:
        """A run that an earlier facesim left.

        Raises:
            InputError: `directory` is not a run directory.
        """
        run = cls(directory)
        if not _is_file(run.job_file):
            raise InputError(f"{directory} is not a run directory: it has no {run.job_file.name}")
        return run

    def reopen(self, job: Job) -> None:
        """Make it a run that continues, as `job`: the files of its end are removed."""
        remedy = "a run goes on in its own directory, which has to be writable"
        with doing(f"write to {self.directory}", remedy), writing_to(self.directory):
            write_text(self.job_file, job.model_dump_json(indent=1))
            reserve(self.directory)
            for end in (self.result_file, self.outcome_file, *self._peer_outcome_files()):
                end.unlink(missing_ok=True)

    def job(self) -> Job:
        """The job that this run is of.

        Raises:
            InputError: `job.json` cannot be read, or is not what this facesim understands.
        """
        content = read_json(self.job_file)
        try:
            return Job.model_validate(content)
        except ValidationError as error:
            problem = error.errors()[0]
            field = ".".join(map(str, problem["loc"])) or "its content"
            raise InputError(
                f"{self.job_file} is not a job that this facesim understands: {field}: {problem['msg']}; "
                "use the facesim that wrote it, or run the job again"
            ) from None

    def result(self) -> Result | None:
        """What `result.json` holds, or None while the run has not ended.

        Raises:
            InputError: it cannot be read, is not what facesim writes, or is of another job than `job.json`.
        """
        if not _exists(self.result_file):
            return None
        result = Result.read(self.result_file)
        if _is_file(self.job_file) and (differing := result.differs_from(JobFields.read(self.job_file))):
            raise InputError(
                f"{self.result_file} is of another job than {self.job_file.name} beside it ({differing}): files of two "
                f"runs are mixed; {REMEDY}"
            )
        return result

    def outcome(self) -> TaskOutcome | None:
        """What the training task found, or None if it did not get that far.

        Raises:
            InputError: `outcome.json` cannot be read, or is not what facesim writes.
        """
        return TaskOutcome.read(self.outcome_file) if _exists(self.outcome_file) else None

    def forecast(self) -> ForecastRecord | None:
        """What was forecast of the run before it began, or None.

        Raises:
            InputError: `forecast.json` cannot be read, or is not what facesim writes.
        """
        return ForecastRecord.read(self.forecast_file) if _exists(self.forecast_file) else None

    def evaluations(self) -> dict[str, Evaluation]:
        """What `facesim evaluate` found, by the data that it was asked about, the newest last.

        Raises:
            InputError: `evaluation.json` cannot be read, or is not what facesim writes.
        """
        return read_evaluations(self.evaluation_file) if _exists(self.evaluation_file) else {}

    def model_sha256(self) -> str | None:
        """By what an evaluation knows its model; None where there is none, or none that can be read."""
        try:
            return hashlib.sha256(read_bytes(self.model_file)).hexdigest()
        except (OSError, ValueError):
            return None

    def evaluations_by_model(self) -> tuple[list[Evaluation], list[Evaluation]]:
        """The evaluations of the model that the run has now, and those of an earlier one, the newest last. One that
        does not say of which it is counts among the first; so does any where the run has no model now.

        Raises:
            InputError: as of `evaluations`.
        """
        every = list(self.evaluations().values())
        model = self.model_sha256() if every else None
        earlier = [one for one in every if model is not None and one.model_sha256 not in (None, model)]
        return [one for one in every if one not in earlier], earlier

    def keep_evaluation(self, evaluation: Evaluation) -> None:
        """Write an evaluation, the newest, in place of an earlier one of the same subject."""
        others = {name: one for name, one in self.evaluations().items() if not evaluation.replaces(one)}
        with doing(f"write {self.evaluation_file}", "make room, or copy the run to where it can be written"):
            write_evaluations(self.evaluation_file, {**others, evaluation.subject: evaluation})

    def plan(self) -> dict[str, Any]:
        """The request that ran the job, as its backend wrote it to `plan.json`; empty where there is none.

        Raises:
            InputError: it cannot be read.
        """
        content = read_json(self.plan_file) if _exists(self.plan_file) else {}
        if not isinstance(content, dict):
            raise InputError(f"{self.plan_file} is not what facesim writes: it holds no request; run the job again")
        return content

    def record(self, event: Event | str, **details: Any) -> None:
        """Append one event, or the event of a name with its details. One process records a run's events: the backend
        that follows it.

        What a full disk does not take is written with the next event, so that it does not end the run.
        """
        if isinstance(event, str):
            event = event_of({"event": event, **details})
        going_on = bool(self._unwritten)
        self._unwritten += (json.dumps(event.model_dump(mode="json", exclude_none=True)) + "\n").encode()
        self._unwritten = append(self.events_file, self._unwritten, fresh_line=not going_on)

    def events(self) -> list[Event]:
        """Every event so far, in order; a line that a crash tore, or that is no event, is left out.

        Raises:
            InputError: the file cannot be read.
        """
        if not _exists(self.events_file):
            return []
        try:
            lines = read_bytes(self.events_file).splitlines()
        except OSError as error:
            raise InputError(
                f"cannot read {self.events_file}: {reason(error)}; leave this run out of the report"
            ) from None
        return list(events_in(lines))

    def launched_unix_s(self) -> float:
        """When its tasks were started, or started again, for the last time."""
        launches = [event for event in self.events() if _launches(event)]
        return launches[-1].time_unix_s + getattr(launches[-1], "in_s", 0.0)

    def checkpoint_directory(self, job: Job) -> Path:
        """Where the job's checkpoints go: in this directory, or in one of this run's name where the job says."""
        named = job.recovery.checkpoint_dir
        return Path(named).resolve() / self.id if named else self.checkpoints

    def task_outcome_file(self, task: str) -> Path:
        """Where a training task leaves what it found: the chief's is the run's."""
        return self.outcome_file if task == "chief-0" else self.tasks / task / self.outcome_file.name

    def peer_outcomes(self) -> list[TaskOutcome]:
        """What training tasks beside the chief found."""
        return [TaskOutcome.read(file) for file in self._peer_outcome_files()]

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
        try:
            text = read_bytes(self.log_file(task)).decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def _launches(event: Event) -> bool:
    """Whether an event is the start of a run's tasks, for the first time or again."""
    starting = isinstance(event, StateEntered) and event.state is RunState.STARTING
    return starting or isinstance(event, (Submitted, Recovering))


def _exists(path: Path) -> bool:
    """Whether there is something at `path`: of a link that leads nowhere, reading says what is wrong."""
    return os.path.lexists(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def find_runs(paths: list[Path]) -> list[Run]:
    """The runs that `paths` name: run directories, or folders that hold them at any depth, in order.

    Raises:
        InputError: a path does not exist, cannot be read, or holds no run.
    """
    runs: list[Run] = []
    for path in paths:
        try:
            path.stat()
            directories = _run_directories(path)
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; name a run directory or a folder of them") from None
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {reason(error)}; name a run directory or a folder of them") from None
        if not directories:
            raise InputError(f"{path} holds no run: there is no job.json in or below it")
        runs.extend(Run(directory) for directory in directories)
    return list({run.directory.resolve(): run for run in runs}.values())


def _run_directories(path: Path) -> list[Path]:
    """The folders in or below `path` that hold a job.json, in order; and those that cannot be listed, which may, and
    those that lost theirs, so that reading them as runs says what is wrong.

    Raises:
        OSError: `path` itself cannot be listed.
    """
    directories: set[Path] = set()

    def unlisted(error: OSError) -> None:
        if Path(error.filename) == path:
            raise error
        directories.add(Path(error.filename))

    if path.is_dir():
        for folder, folders, files in os.walk(path, onerror=unlisted):
            place = Path(folder)
            lost = "events.jsonl" in files and directories.isdisjoint(place.parents)  # else it is one of its hosts'
            if "job.json" in (*folders, *files) or lost:
                directories.add(place)
    return sorted(directories)


def find_run(path: Path) -> Run:
    """The one run that `path` names.

    Raises:
        InputError: it names none, or several.
    """
    runs = find_runs([path])
    if len(runs) > 1:
        names = ", ".join([run.id for run in runs[:3]] + ["..."] * (len(runs) > 3))
        raise InputError(f"{path} holds {len(runs)} runs ({names}); name the directory of one")
    return runs[0]

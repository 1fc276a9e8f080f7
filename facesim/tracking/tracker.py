"""What a tracker gets of a run, the same of one that is running and of one that has ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cluster import clock
from facesim.metrics.announced import FILE
from facesim.metrics.files import SampleTail
from facesim.metrics.points import Point, Points
from facesim.report.settings import settings
from facesim.runs.directory import Run
from facesim.runs.record import read_json
from facesim.runs.records import JobFields, Result, Scalar
from facesim.runs.states import RunState
from facesim.tracking import TRACKERS, needing_packages
from facesim.util.errors import FacesimError, InputError

#: What the end of a run is compared by: fields of its result.
_RESULTS = (
    "held_out_accuracy", "held_out_loss", "training_accuracy", "images_per_s", "training_s", "total_s", "examples_seen",
    "updates", "wire_bytes", "cost_usd", "spot_cost_usd",
)  # fmt: skip


@dataclass(frozen=True)
class TrackedRun:
    """What is known of a run besides its samples. `results` are of one that has ended, else empty."""

    id: str
    directory: Path
    launched_unix_s: float
    ended_unix_s: float
    state: RunState
    parameters: dict[str, Scalar]
    tags: dict[str, str]
    results: dict[str, float]

    @classmethod
    def of(cls, run: Run) -> TrackedRun:
        """`run` as it is now.

        Raises:
            InputError: what it left cannot be read.
        """
        job, result, events = JobFields.read(run.job_file), run.result(), run.events()
        known = {
            **job.experiment, **job.shape, **settings(job), "strategy": job.strategy, "backend": job.backend,
            "framework": job.framework, "spot": job.spot is not None,
        }  # fmt: skip
        times = [event.time_unix_s for event in events] or [clock.time_unix_s()]
        return cls(
            id=run.id,
            directory=run.directory.resolve(),
            launched_unix_s=times[0],
            ended_unix_s=times[-1],
            state=result.state if result else RunState.UNFINISHED,
            parameters={name: value for name, value in known.items() if value is not None},
            tags={"run_id": run.id, "directory": str(run.directory.resolve()), **_tags(run), **_ended(result)},
            results={f"result/{name}": float(result[name]) for name in _RESULTS if result and name in result},
        )


def _tags(run: Run) -> dict[str, str]:
    """The tags that the user gave the run."""
    backend = read_json(run.job_file).get("backend")
    given = backend.get("tags") if isinstance(backend, dict) else None
    return {str(key): str(value) for key, value in (given or {}).items()}


def _ended(result: Result | None) -> dict[str, str]:
    """What there is to say of a run's end in words."""
    if result is None:
        return {}
    tags: dict[str, Any] = {
        "state": result.state,
        "measurement": result.measurement,
        "trained_together": result.sync_audit.verdict,
        "failure": result.failure,
        "disturbed": " and ".join(result.disturbances),
    }
    return {name: str(value) for name, value in tags.items() if value}


class Tracker(ABC):
    """A place that shows runs: it gets one after another.

    `folder` is where it keeps what it keeps on this machine. A run that is sent again is another run there.

    Raises:
        InputError: it cannot be reached, or `folder` cannot be written.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the runs are: a folder, or a URL."""

    @abstractmethod
    def start(self, run: TrackedRun) -> None:
        """A run begins."""

    @abstractmethod
    def log(self, points: Sequence[Point]) -> None:
        """What was measured of that run since the last call, in the order of time."""

    @abstractmethod
    def end(self, run: TrackedRun, report: Path | None) -> None:
        """The run has ended, or nothing more of it is sent. `report` is an HTML file that is removed afterwards."""


def open_tracker(name: str, folder: Path, option: str = "track") -> Tracker:
    """The tracker called `name`, ready to get runs.

    Raises:
        InputError: there is none, what it needs is not installed, or it cannot be used.
    """
    try:
        with needing_packages(name, option):
            return TRACKERS[TRACKERS.check(name)](folder)
    except ValueError as error:
        message = f"--{option} {name!r} is not allowed: {error}"
        raise InputError(message, field=option, value=name, allowed=list(TRACKERS)) from None
    except FacesimError:
        raise
    except Exception as error:  # whatever another library raises where it cannot be used
        message = f"--{option} {name} cannot be used: {type(error).__name__}: {error}"
        raise InputError(message, field=option, value=name) from error


@contextmanager
def _sending(name: str) -> Iterator[None]:
    """Within it, whatever another library raises is an error in words."""
    try:
        yield
    except FacesimError:
        raise
    except Exception as error:
        later = f"`facesim export-run --to {name} RUN` sends the run when that is mended"
        raise FacesimError(f"{name}: {type(error).__name__}: {error}; {later}") from error


class Feed:
    """Tells the tracker called `name` of one run, from the files that the run leaves, as they grow. What a training
    elsewhere announced is told at once, and not again when what it recorded comes home.

    Raises, in each of its methods:
        FacesimError: the tracker does not take it, or the run cannot be read.
    """

    def __init__(self, run: Run, tracker: Tracker, name: str):
        self._run, self._tracker, self._name = run, tracker, name
        self._announced = SampleTail(run.metrics, FILE)
        self._recorded = SampleTail(run.metrics, without=FILE)
        self._points: tuple[Points, Points] | None = None  # of what was announced, and of what was recorded
        self._told: set[tuple[str, int]] = set()  # of what was announced: metric and step

    def begin(self) -> None:
        with _sending(self._name):
            self._tracker.start(TrackedRun.of(self._run))

    def send(self) -> None:
        """Tell what has been measured since the last time."""
        with _sending(self._name):
            announced, recorded = self._announced.new(), self._recorded.new()
            if not announced and not recorded:
                return
            if self._points is None:
                first_unix_s = min(sample.time_unix_s for sample in (*announced, *recorded))
                launched_unix_s = min(first_unix_s, TrackedRun.of(self._run).launched_unix_s)
                self._points = Points(launched_unix_s), Points(launched_unix_s)
            of_announced, of_recorded = self._points
            new = []
            for point in of_announced.of(announced):
                if (point.name, point.step) not in self._told:  # after a restart it announces again
                    new.append(point)
                if point.step:  # earlier versions announce none
                    self._told.add((point.name, point.step))
            new += [point for point in of_recorded.of(recorded) if (point.name, point.step) not in self._told]
            if new:
                self._tracker.log(sorted(new, key=lambda point: point.time_unix_s))

    def finish(self) -> None:
        """Tell the rest, and the end, with a report of this run alone."""
        self.send()
        with _sending(self._name), TemporaryDirectory() as folder:
            self._tracker.end(TrackedRun.of(self._run), self._report(Path(folder) / "report.html"))

    def _report(self, file: Path) -> Path:
        from facesim.report import compare
        from facesim.report.html import write_html

        write_html(compare([self._run]), file)
        return file


def rows_by_time(points: Sequence[Point]) -> Iterator[tuple[float, dict[str, float]]]:
    """(time_unix_s, value by name) of each instant, with `since_launch_s` among the values."""
    rows: dict[float, dict[str, float]] = {}
    for point in points:
        row = rows.setdefault(point.time_unix_s, {"since_launch_s": point.since_launch_s})
        row[point.name] = point.value
    yield from rows.items()

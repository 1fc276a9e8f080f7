"""From a run directory to a `RunRecord`: everything that a report says is read here, and validated here.

A run that was killed has no `result.json`: it is a record in state `Unfinished`, with what it left until then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from facesim.metrics.collectors import ranks
from facesim.metrics.files import samples_in
from facesim.metrics.schema import DURATION, METRICS
from facesim.runs.directory import Run
from facesim.runs.events import Event, Restored, Submitted
from facesim.runs.forecasts import ForecastRecord
from facesim.runs.records import Evaluation, JobFields, Result
from facesim.runs.states import Measurement, RunState

if TYPE_CHECKING:
    import pandas

MONITOR = "monitor"

#: What tells one task, or host, from another in `RunRecord.utilisation`.
TASK = ["host", "role", "task_index"]


class Life(NamedTuple):
    """From a submission of the run until the last that happened before the next: seconds since 1970, and the shape and
    framework that it was submitted with, None where that was not recorded.
    """

    begin_unix_s: float
    end_unix_s: float
    shape: dict[str, Any] | None = None
    framework: str | None = None


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run as it lies on disk.

    Attributes:
        phases: seconds by phase, from `result.json` or, for a run without one, from its samples.
        history: one row an instant at which the training task recorded: `time_unix_s`, `since_launch_s`,
            `since_first_step_s` and a column a training metric, NaN where an instant lacks it.
        utilisation: one row a task (or host) and instant: `TASK`, `time_unix_s`, `since_launch_s`, a column a metric.
        evaluations: what `facesim evaluate` found, by the data that it was asked about, the newest last.
        lives: one for each time that it was submitted, more than one if it was resumed; none if it left neither events
            nor samples. Between them no time counts.
        forecast: what was forecast of it before it began, if anything was.
        first_step_s: when the first training step began, in seconds since launch; None if the run did not record it.
    """

    run: Run
    job: JobFields
    result: Result
    phases: dict[str, float]
    history: pandas.DataFrame
    utilisation: pandas.DataFrame
    events: list[Event]
    evaluations: dict[str, Evaluation]
    lives: tuple[Life, ...]
    first_step_s: float | None
    forecast: ForecastRecord | None = None

    @property
    def is_forecast(self) -> bool:
        """Whether nobody ran it: its numbers were computed."""
        return self.result.measurement is Measurement.FORECAST

    @property
    def completed(self) -> bool:
        return self.result.state is RunState.COMPLETED

    @property
    def launched_unix_s(self) -> float | None:
        """When it was first submitted."""
        return self.lives[0].begin_unix_s if self.lives else None

    @property
    def resumed(self) -> int:
        """How often it was resumed."""
        return max(0, len(self.lives) - 1)

    @property
    def frameworks(self) -> list[str]:
        """What trained it, in order: more than one if it was resumed with another."""
        told = [life.framework for life in self.lives if life.framework is not None]
        return list(dict.fromkeys([*told, self.job.framework]))

    @property
    def earlier_shapes(self) -> list[dict[str, Any]]:
        """The shapes that it had before its last resume, where they were recorded."""
        return [life.shape for life in self.lives[:-1] if life.shape is not None]


def load(run: Run) -> RunRecord:
    """Read what `run` left.

    Raises:
        InputError: a file of it is there but is not what facesim writes, or cannot be read.
    """
    job = JobFields.read(run.job_file)
    result = run.result()
    if result is None:
        seed = job.experiment.get("seed", 0)
        result = Result(strategy=job.strategy, backend=job.backend, seed=seed, state=RunState.UNFINISHED)
    # What measuring costs is on record, but it is not the job's use of the host.
    used = {role: used for role, used in result.resources.items() if role != MONITOR}
    result = result.model_copy(update={"resources": used})
    events = run.events()
    samples = samples_in(run.metrics)
    recorded = samples[samples["name"].map(lambda name: METRICS[name].kind == DURATION).astype(bool)]
    phases = dict(zip(recorded["name"], recorded["value"].astype(float), strict=True))
    phases |= {name: seconds for name, seconds in result.phases.items() if seconds is not None}
    lives = _lives(events, samples)
    trained = _without_lost_work(samples[samples["source"] == "training"], events)
    record = RunRecord(
        run=run,
        job=job,
        result=result,
        phases=phases,
        history=_wide(trained[trained["role"] == "chief"].drop(recorded.index, errors="ignore"), ["time_unix_s"]),
        utilisation=_wide(
            samples[samples["source"].isin(ranks()) & (samples["role"] != MONITOR)], ["time_unix_s", *TASK]
        ),
        events=events,
        evaluations=run.evaluations(),
        lives=lives,
        first_step_s=_first_step_s(phases, samples, lives),
        forecast=run.forecast(),
    )
    for table in (record.history, record.utilisation):
        table["since_launch_s"] = table["time_unix_s"].map(lambda moment: since_launch_s(lives, moment)).astype(float)
    first_step_s = float("nan") if record.first_step_s is None else record.first_step_s
    record.history["since_first_step_s"] = record.history["since_launch_s"] - first_step_s
    return record


def since_launch_s(lives: Sequence[Life], moment_unix_s: float) -> float:
    """Seconds that a run had gone on at a moment: those between two of its lives do not count, as in its total time."""
    if not lives:
        return moment_unix_s
    before = [life for life in lives[1:] if life.begin_unix_s <= moment_unix_s]
    whole = sum(life.end_unix_s - life.begin_unix_s for life in lives[: len(before)])
    current = lives[len(before)]
    if len(before) + 1 < len(lives):  # what is late of a life that is over belongs to its end
        moment_unix_s = min(moment_unix_s, current.end_unix_s)
    return whole + moment_unix_s - current.begin_unix_s


def _without_lost_work(samples: pandas.DataFrame, events: list[Event]) -> pandas.DataFrame:
    """The samples but those of instants after the checkpoint from which training went on: it was trained again."""
    reached = (
        samples["time_unix_s"]
        .map(samples[samples["name"] == "examples"].groupby("time_unix_s")["value"].max())
        .fillna(0)
    )
    lost = reached < 0
    for event in events:
        if isinstance(event, Restored):
            lost |= (samples["time_unix_s"] < event.time_unix_s) & (reached > event.examples)
    return samples[~lost]


def _wide(samples: pandas.DataFrame, keys: list[str]) -> pandas.DataFrame:
    """Long to wide: one row a value of `keys`, one column a metric's name, NaN where a sample is missing."""
    values = samples.assign(value=samples["value"].astype(float))
    return (
        values.pivot_table(index=keys, columns="name", values="value", aggfunc="last")
        .reset_index()
        .rename_axis(columns=None)
    )


def _lives(events: list[Event], samples: pandas.DataFrame) -> tuple[Life, ...]:
    lives: list[Life] = []
    for event in events:
        at = event.time_unix_s
        if isinstance(event, Submitted) or not lives:
            told = (event.shape, event.framework) if isinstance(event, Submitted) else (None, None)
            lives.append(Life(at, at, *told))
        lives[-1] = lives[-1]._replace(end_unix_s=at)
    if not lives and not samples.empty:
        return (Life(*(float(samples["time_unix_s"].iloc[end]) for end in (0, -1))),)
    return tuple(lives)


def _first_step_s(phases: dict[str, float], samples: pandas.DataFrame, lives: Sequence[Life]) -> float | None:
    """From the first record of that step where there is one: phases add up over every start of the training task."""
    recorded = samples[(samples["name"] == "first_step_s") & (samples["role"] == "chief")]
    if len(recorded) and lives:
        first = recorded.iloc[0]
        return since_launch_s(lives, float(first["time_unix_s"]) - float(first["value"]))
    done = phases.get("launch_to_first_step_s")
    return None if done is None else done - phases.get("first_step_s", 0.0)

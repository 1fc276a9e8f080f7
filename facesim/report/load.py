"""From a run directory to a `RunRecord`: everything that a report says is read here, and validated here.

A run that was killed has no `result.json`: it is a record in state `Unfinished`, with what it left until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from facesim.metrics.collectors import ranks
from facesim.metrics.schema import COUNTER, DURATION, METRICS, MONITOR
from facesim.runs.directory import Run
from facesim.runs.evaluations import Evaluation
from facesim.runs.events import Event, MachineDivided, Restored, Submitted
from facesim.runs.forecasts import ForecastRecord
from facesim.runs.records import JobFields, Result
from facesim.runs.states import Measurement, RunState

if TYPE_CHECKING:
    import numpy as np
    import pandas

    from facesim.metrics.table import Points, SampleTable


class TaskKey(NamedTuple):
    """What tells one task, or host, from another."""

    host: str
    role: str
    task_index: int


#: What each task used, by metric: seconds since launch and values.
Utilisation: TypeAlias = "Mapping[TaskKey, Mapping[str, tuple[np.ndarray, np.ndarray]]]"


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
        utilisation: what each task, and host, used.
        evaluations: what `facesim evaluate` found of the model that the run has now, the newest last.
        outdated: what it found of an earlier model of the run.
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
    utilisation: Utilisation
    events: list[Event]
    evaluations: Sequence[Evaluation]
    outdated: Sequence[Evaluation]
    lives: tuple[Life, ...]
    first_step_s: float | None
    forecast: ForecastRecord | None = None

    @property
    def is_forecast(self) -> bool:
        """Whether nobody ran it: its numbers were computed."""
        return self.result.measurement is Measurement.FORECAST

    def evaluation_with(self, part: str) -> Evaluation | None:
        """The newest evaluation of its model of which a report can show a part, such as `verification`."""
        return next((one for one in reversed(self.evaluations) if one.shows(part)), None)

    def curve(self, metric: str, clock: str) -> tuple[np.ndarray, np.ndarray]:
        """A column of the history against another, `clock`, where it has both; empty arrays if it lacks one."""
        import numpy as np

        if metric not in self.history:
            return np.empty(0), np.empty(0)
        times, values = (self.history[name].to_numpy() for name in (clock, metric))
        known = ~(np.isnan(times) | np.isnan(values))
        return times[known], values[known]

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
        recorded = [life.framework for life in self.lives if life.framework is not None]
        return list(dict.fromkeys([*recorded, self.job.framework]))

    @property
    def earlier_shapes(self) -> list[dict[str, Any]]:
        """The shapes that it had before its last resume, where they were recorded."""
        return [life.shape for life in self.lives[:-1] if life.shape is not None]

    @property
    def cpu_factors(self) -> list[str]:
        """What hosts were given of their processors and network, in figures, where a machine played them: more than one
        if that has changed.
        """
        factors = (event.cpu_factor for event in self.events if isinstance(event, MachineDivided))
        return list(dict.fromkeys(f"{factor:.3g}" for factor in factors if factor is not None))


def load(run: Run) -> RunRecord:
    """Read what `run` left.

    Raises:
        InputError: a file of it is there but is not what facesim writes, or cannot be read.
    """
    from facesim.metrics.table import read_table

    job = JobFields.read(run.job_file)
    result = run.result()
    if result is None:
        seed = job.experiment.get("seed", 0)
        result = Result(strategy=job.strategy, backend=job.backend, seed=seed, state=RunState.UNFINISHED)
    # What measuring costs is on record, but it is not the job's use of the host.
    used = {role: used for role, used in result.resources.items() if role != MONITOR}
    result = result.model_copy(update={"resources": used})
    events = run.events()
    samples = read_table(run.metrics)
    phases = _phases(samples) | {name: seconds for name, seconds in result.phases.items() if seconds is not None}
    lives = _lives(events, samples)
    evaluations, outdated = run.evaluations_by_model()
    record = RunRecord(
        run=run,
        job=job,
        result=result,
        phases=phases,
        history=_history(samples, events),
        utilisation=_utilisation(samples, lives, events),
        events=events,
        evaluations=evaluations,
        outdated=outdated,
        lives=lives,
        first_step_s=_first_step_s(phases, samples, lives),
        forecast=run.forecast(),
    )
    history = record.history
    history["since_launch_s"] = since_launch_s(lives, history["time_unix_s"].to_numpy())
    first_step_s = float("nan") if record.first_step_s is None else record.first_step_s
    history["since_first_step_s"] = history["since_launch_s"] - first_step_s
    return record


def since_launch_s(lives: Sequence[Life], moment_unix_s: Any) -> Any:
    """Seconds that a run had gone on at a moment, or at each of an array of them: those between two of its lives do not
    count, as in its total time.
    """
    import numpy as np

    if not lives:
        return moment_unix_s
    since_s, whole_s = moment_unix_s - lives[0].begin_unix_s, 0.0
    for life, following in zip(lives, lives[1:]):
        whole_s += life.end_unix_s - life.begin_unix_s
        # What is late of a life that is over belongs to its end.
        since_s = np.where(
            moment_unix_s < following.begin_unix_s,
            np.minimum(since_s, whole_s),
            whole_s + moment_unix_s - following.begin_unix_s,
        )
    return since_s


def _phases(samples: SampleTable) -> dict[str, float]:
    """Of every phase what was recorded last."""
    last: dict[str, tuple[float, float]] = {}
    for series, points in samples.series.items():
        if METRICS[series.name].kind == DURATION:
            newest = (float(points.time_unix_s[-1]), float(points.value[-1]))
            last[series.name] = max(newest, last.get(series.name, newest), key=lambda time_and_value: time_and_value[0])
    return {name: value for name, (_, value) in last.items()}


def _history(samples: SampleTable, events: list[Event]) -> pandas.DataFrame:
    """What the training task recorded, without work that was lost: one row an instant."""
    import numpy as np
    import pandas

    from facesim.metrics.table import joined

    training = samples.select(lambda series: series.source == "training")
    recorded = {}
    for series, points in training.series.items():
        if series.role == "chief" and METRICS[series.name].kind != DURATION:
            kept = ~np.isnan(points.value) & ~_lost(points.time_unix_s, training, events)
            recorded[series.name] = (points.time_unix_s[kept], points.value[kept])
    moments = np.unique(joined(times for times, _ in recorded.values()))
    columns = {"time_unix_s": moments}
    for name, (times, values) in sorted(recorded.items()):
        if len(values):
            column = columns[name] = np.full(len(moments), np.nan)
            column[np.searchsorted(moments, times)] = values
    return pandas.DataFrame(columns)


def _lost(moments: np.ndarray, training: SampleTable, events: list[Event]) -> np.ndarray:
    """Which moments are after the checkpoint from which training went on: their work was done again."""
    import numpy as np

    from facesim.metrics.table import merged

    restored = [event for event in events if isinstance(event, Restored)]
    counted = [points for series, points in training.series.items() if series.name == "examples"]
    lost = np.zeros(len(moments), bool)
    if restored and counted:
        counts = merged(counted)
        at, nth = np.unique(counts.time_unix_s, return_inverse=True)
        highest = np.zeros(len(at))
        np.maximum.at(highest, nth, counts.value)
        place = np.minimum(np.searchsorted(at, moments), len(at) - 1)
        reached = np.where(at[place] == moments, highest[place], 0)
        for event in restored:
            lost |= (moments < event.time_unix_s) & (reached > event.examples)
    return lost


def _utilisation(samples: SampleTable, lives: Sequence[Life], events: Sequence[Event]) -> Utilisation:
    """Where several sources have a metric of a task, all that they have. Counters are over all processes of a task."""
    import numpy as np

    from facesim.metrics.counters import counted
    from facesim.metrics.table import Points, merged

    sources = ranks()
    points_by_task: dict[TaskKey, dict[str, list[Points]]] = {}
    for series, points in samples.series.items():
        if series.source in sources and series.role != MONITOR:
            task = TaskKey(series.host, series.role, series.task_index)
            points_by_task.setdefault(task, {}).setdefault(series.name, []).append(points)
    used: dict[TaskKey, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for task, by_name in points_by_task.items():
        for name, several in by_name.items():
            times, values = merged(several)
            known = ~np.isnan(values)
            times, values = times[known], values[known]
            if METRICS[name].kind == COUNTER:
                values = counted(Points(times, values), name, task.role, task.task_index, events)
            used.setdefault(task, {})[name] = (since_launch_s(lives, times), values)
    return used


def _lives(events: list[Event], samples: SampleTable) -> tuple[Life, ...]:
    lives: list[Life] = []
    for event in events:
        at = event.time_unix_s
        if isinstance(event, Submitted) or not lives:
            shape, framework = (event.shape, event.framework) if isinstance(event, Submitted) else (None, None)
            lives.append(Life(at, at, shape, framework))
        lives[-1] = lives[-1]._replace(end_unix_s=at)
    if not lives and (span := samples.span_unix_s()):
        return (Life(*span),)
    return tuple(lives)


def _first_step_s(phases: dict[str, float], samples: SampleTable, lives: Sequence[Life]) -> float | None:
    """From the first record of that step where there is one: phases add up over every start of the training task."""
    firsts = [
        (float(points.time_unix_s[0]), float(points.value[0]))
        for series, points in samples.series.items()
        if series.name == "first_step_s" and series.role == "chief"
    ]
    if firsts and lives:
        ended_unix_s, first_step_s = min(firsts)
        return float(since_launch_s(lives, ended_unix_s - first_step_s))
    done = phases.get("launch_to_first_step_s")
    return None if done is None else done - phases.get("first_step_s", 0.0)

"""From a run directory to a `RunRecord`: everything that a report says is read here, and validated here.

A run that was killed has no `result.json`: it is a record in state `Unfinished`, with what it left until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from facesim.metrics.files import read_samples
from facesim.metrics.schema import DURATION, METRICS
from facesim.runs.directory import Run
from facesim.runs.events import Event, Restored
from facesim.runs.records import Evaluation, JobFields, Result
from facesim.runs.states import RunState

if TYPE_CHECKING:
    import pandas

MONITOR = "monitor"

#: The sources that say what tasks and hosts use.
_COLLECTORS = ("psutil", "sockets", "docker", "cloudwatch")

#: What tells one task, or host, from another in `RunRecord.utilisation`.
TASK = ["host", "role", "task_index"]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One run as it lies on disk.

    Attributes:
        phases: seconds by phase, from `result.json` or, for a run without one, from its samples.
        history: one row an instant at which the training task recorded: `time_unix_s`, `since_launch_s`,
            `since_first_step_s` and a column a training metric, NaN where an instant lacks it.
        utilisation: one row a task (or host) and instant: `TASK`, `time_unix_s`, `since_launch_s`, a column a metric.
        evaluations: what `facesim evaluate` found, by the data that it was asked about, the newest last.
        launched_unix_s: when the run was submitted; None if it left neither events nor samples.
    """

    run: Run
    job: JobFields
    result: Result
    phases: dict[str, float]
    history: pandas.DataFrame
    utilisation: pandas.DataFrame
    events: list[Event]
    evaluations: dict[str, Evaluation]
    launched_unix_s: float | None

    @property
    def completed(self) -> bool:
        return self.result.state is RunState.COMPLETED

    @property
    def first_step_s(self) -> float | None:
        """When the first training step began, in seconds since launch; None if the run did not record it."""
        done = self.phases.get("launch_to_first_step_s")
        return None if done is None else done - self.phases.get("first_step_s", 0.0)


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
    samples = read_samples(run.metrics)
    recorded = samples[samples["name"].map(lambda name: METRICS[name].kind == DURATION).astype(bool)]
    phases = dict(zip(recorded["name"], recorded["value"].astype(float), strict=True))
    phases |= {name: seconds for name, seconds in result.phases.items() if seconds is not None}
    trained = _without_lost_work(samples[samples["source"] == "training"], events)
    record = RunRecord(
        run=run,
        job=job,
        result=result,
        phases=phases,
        history=_in_percent(
            _wide(trained[trained["role"] == "chief"].drop(recorded.index, errors="ignore"), ["time_unix_s"])
        ),
        utilisation=_wide(
            samples[samples["source"].isin(_COLLECTORS) & (samples["role"] != MONITOR)], ["time_unix_s", *TASK]
        ),
        events=events,
        evaluations=run.evaluations(),
        launched_unix_s=_launched(events, samples),
    )
    for table in (record.history, record.utilisation):
        table["since_launch_s"] = table["time_unix_s"] - (record.launched_unix_s or 0.0)
    first_step_s = float("nan") if record.first_step_s is None else record.first_step_s
    record.history["since_first_step_s"] = record.history["since_launch_s"] - first_step_s
    return record


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


def _in_percent(history: pandas.DataFrame) -> pandas.DataFrame:
    """Accuracies, 0-1 in samples, in percent and named so."""
    shares = {name: f"{name}_percent" for name in history.columns if name.endswith("_accuracy")}
    return history.assign(**{percent: 100 * history[name] for name, percent in shares.items()}).drop(
        columns=list(shares)
    )


def _launched(events: list[Event], samples: pandas.DataFrame) -> float | None:
    if events:
        return events[0].time_unix_s
    return None if samples.empty else float(samples["time_unix_s"].iloc[0])

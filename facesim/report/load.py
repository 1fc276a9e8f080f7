"""From a run directory to a `RunRecord`: everything that a report says is read here, and validated here.

A run that was killed has no `result.json`: it is a record in state `Unfinished`, with what it left until then.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from facesim.errors import InputError
from facesim.metrics.files import read_samples
from facesim.metrics.schema import DURATION, METRICS
from facesim.run import Run, State
from facesim.unused import Unused

if TYPE_CHECKING:
    from pathlib import Path

    import pandas

UNFINISHED = "Unfinished"

MONITOR = "monitor"

#: The sources that say what tasks and hosts use.
_COLLECTORS = ("psutil", "sockets", "docker", "cloudwatch")

#: What tells one task, or host, from another in `RunRecord.utilisation`.
TASK = ["host", "role", "task_index"]


#: A share, 0-1, on disk; in percent here.
Percent = Annotated[float | None, AfterValidator(lambda share: None if share is None else 100 * share)]


class _Read(BaseModel):
    """Something that an earlier, or a later, facesim may have written: null is the same as missing, more is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, content: Any) -> Any:
        return {k: v for k, v in content.items() if v is not None} if isinstance(content, dict) else content


class JobFields(_Read):
    """A job as `job.json` has it. Not a `Job`: a run stays readable after facesim's own fields have changed."""

    experiment: dict[str, Any]
    strategy: str
    shape: dict[str, Any]
    backend: str
    spot: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, content: Any) -> Any:
        """Strategy and backend by their names; what is the strategy's own stands beside the shape."""
        if not isinstance(content, dict):
            return content
        content = dict(content)
        for part, beside in (("strategy", "shape"), ("backend", None)):
            if isinstance(content.get(part), dict):
                own = dict(content[part])
                content[part] = own.pop("name", None)
                if beside and isinstance(content.get(beside), dict):
                    content[beside] = {**content[beside], **own}
        return content


class Resources(_Read):
    """What the tasks of one role used, or the whole host: means and peaks over the run, bytes in total."""

    tasks: int | None = None
    cpu_percent_mean: float | None = None
    memory_peak_bytes: float | None = None
    net_sent_bytes: float | None = None
    net_received_bytes: float | None = None


class Data(_Read):
    """The data set as it was split."""

    name: str | None = None
    identities: int | None = None
    training_examples: int | None = None
    held_out_examples: int | None = None
    chance_accuracy_percent: Percent = Field(None, validation_alias="chance_accuracy")
    not_used: tuple[Unused, ...] = ()
    notes: tuple[str, ...] = ()


class Audit(_Read):
    """Whether the replicas trained together: `together`, `apart`, `unknown`, or `single` when there is one replica."""

    verdict: str = "unknown"
    evidence: tuple[str, ...] = ()


class StateSpan(_Read):
    """A state that a run was in, in seconds since 1970, and whether it is billed."""

    state: str
    begin_unix_s: float
    end_unix_s: float
    billable: bool

    @property
    def seconds(self) -> float:
        return self.end_unix_s - self.begin_unix_s


class Billing(_Read):
    """The bill, as `facesim.billing.bill` makes it: seconds are of the wall clock, dollars of all hosts."""

    transitions: tuple[StateSpan, ...] = ()
    spot: bool = False
    spot_discount: float = 0.0
    hosts: int
    training_s: float
    billable_s: float
    waiting_s: float
    on_demand_usd: float
    spot_usd: float
    cost_usd: float
    savings_percent: float = 0.0
    interruptions: int = 0
    lost_work_s: float = 0.0
    lost_work_usd: float = 0.0
    restart_s: float = 0.0
    restart_usd: float = 0.0


def _without_monitor(by_role: dict[str, Any]) -> dict[str, Any]:
    """What measuring costs is on record, but it is not the job's use of the host."""
    return {role: used for role, used in by_role.items() if role != MONITOR}


class Result(_Read):
    """`result.json`. Its accuracies, 0-1, are in percent here, as a report shows them."""

    strategy: str
    backend: str
    seed: int
    state: str
    measurement: str | None = None
    failure: str | None = None
    held_out_accuracy_percent: Percent = Field(None, validation_alias="held_out_accuracy")
    training_accuracy_percent: Percent = Field(None, validation_alias="training_accuracy")
    held_out_loss: float | None = None
    images_per_s: float | None = None
    training_s: float | None = None
    total_s: float | None = None
    examples_seen: int | None = None
    updates: int | None = None
    cost_usd: float | None = None
    spot_cost_usd: float | None = None
    billing: Billing | None = None
    instance_type: str | None = None
    hosts: int | None = None
    phases: dict[str, float | None] = {}
    resources: Annotated[dict[str, Resources], AfterValidator(_without_monitor)] = {}
    wire_bytes: float | None = None
    parameters: int | None = None
    parameter_bytes: int | None = None
    data: Data = Data()
    sync_audit: Audit = Audit()
    recovery: dict[str, float] = {}
    collector_errors: dict[str, float] = {}
    machine: dict[str, Any] = {}


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
    events: list[dict[str, Any]]
    evaluations: dict[str, dict[str, Any]]
    launched_unix_s: float | None

    @property
    def completed(self) -> bool:
        return self.result.state == State.COMPLETED.value

    @property
    def first_step_s(self) -> float | None:
        """When the first training step began, in seconds since launch; None if the run did not record it."""
        done = self.phases.get("launch_to_first_step_s")
        return None if done is None else done - self.phases.get("first_step_s", 0.0)


def load(run: Run) -> RunRecord:
    """Read what `run` left.

    Raises:
        InputError: `job.json` or `result.json` is there but is not what facesim writes.
    """
    job = _validated(JobFields, run.job_file, _read_json(run.job_file))
    if run.result_file.exists():
        result = _validated(Result, run.result_file, _read_json(run.result_file))
    else:
        seed = job.experiment.get("seed", 0)
        result = Result(strategy=job.strategy, backend=job.backend, seed=seed, state=UNFINISHED)
    events = [event for event in run.events() if isinstance(event, dict)]
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
        evaluations=_read_json(run.evaluation_file) if run.evaluation_file.exists() else {},
        launched_unix_s=_launched(events, samples),
    )
    for table in (record.history, record.utilisation):
        table["since_launch_s"] = table["time_unix_s"] - (record.launched_unix_s or 0.0)
    first_step_s = float("nan") if record.first_step_s is None else record.first_step_s
    record.history["since_first_step_s"] = record.history["since_launch_s"] - first_step_s
    return record


def _without_lost_work(samples: pandas.DataFrame, events: list[dict[str, Any]]) -> pandas.DataFrame:
    """The samples but those of instants after the checkpoint from which training went on: it was trained again."""
    reached = (
        samples["time_unix_s"]
        .map(samples[samples["name"] == "examples"].groupby("time_unix_s")["value"].max())
        .fillna(0)
    )
    lost = reached < 0
    for event in events:
        if event.get("event") == "restored":
            lost |= (samples["time_unix_s"] < event["time_unix_s"]) & (reached > event["examples"])
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


def _launched(events: list[dict[str, Any]], samples: pandas.DataFrame) -> float | None:
    times = [event["time_unix_s"] for event in events if isinstance(event.get("time_unix_s"), (int, float))]
    if times:
        return float(times[0])
    return None if samples.empty else float(samples["time_unix_s"].iloc[0])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; {_REMEDY}") from None


def _validated(model: Any, path: Path, content: Any) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "its content"
        raise InputError(f"{path} is not what facesim writes: {field}: {problem['msg']}; {_REMEDY}") from None


_REMEDY = "leave this run out of the report, or run the job again"

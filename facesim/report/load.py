"""From a run directory to a `RunRecord`: everything that a report says is read here, and validated here.

A run that was killed has no `result.json`: it is a record in state `Unfinished`, with what it left until then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from facesim.errors import InputError
from facesim.metrics.disturbance import Load
from facesim.metrics.files import samples_in
from facesim.metrics.schema import DURATION, METRICS
from facesim.run import Run, State
from facesim.spec.data import DataSpec
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

    @model_validator(mode="after")
    def _has_data(self) -> JobFields:
        assert self.data_spec  # raises what is wrong with it
        return self

    @cached_property
    def data_spec(self) -> DataSpec:
        """What decides which images are trained on and tested."""
        return DataSpec.of(self.experiment)


class Resources(_Read):
    """What the tasks of one role used, or the whole host: means and peaks over the run, bytes in total."""

    tasks: int | None = None
    cpu_percent_mean: float | None = None
    memory_peak_bytes: float | None = None
    net_sent_bytes: float | None = None
    net_received_bytes: float | None = None


class Data(_Read):
    """The data set as it was split.

    `content_sha256` is of all images and labels, `tested_sha256` of the held-out images with their people, as
    `facesim.spec.data` defines it; runs of before they were recorded have none.
    """

    name: str | None = None
    identities: int | None = None
    training_examples: int | None = None
    held_out_examples: int | None = None
    chance_accuracy_percent: Percent = Field(None, validation_alias="chance_accuracy")
    content_sha256: str | None = None
    tested_sha256: str | None = None
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


class BilledGroup(_Read):
    """Instances of one type."""

    instance_type: str
    count: int


class BilledLife(_Read):
    """The part of a bill that belongs to one submission of the run, which may have had other instances."""

    groups: tuple[BilledGroup, ...]
    training_s: float
    cost_usd: float

    @property
    def hosts(self) -> int:
        return sum(group.count for group in self.groups)


class Billing(_Read):
    """The bill, as `facesim.billing.bill` makes it: seconds are of the wall clock, dollars of all hosts."""

    transitions: tuple[StateSpan, ...] = ()
    lives: tuple[BilledLife, ...] = ()
    spot: bool = False
    spot_discount: float = 0.0
    hosts: int
    instance_s: float | None = None
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
    load: Load | None = None

    @property
    def disturbances(self) -> tuple[str, ...]:
        """Why other load than its own disturbed the run's times, in words; empty if none is known to have."""
        return (self.load or self._load_by_roles).disturbances

    @property
    def _load_by_roles(self) -> Load:
        """For runs of before the load was recorded: what the host used, less what its tasks did."""
        host = self.resources.get("host")
        tasks = [used.cpu_percent_mean for role, used in self.resources.items() if role != "host"]
        if host is None or host.cpu_percent_mean is None or not tasks or None in tasks:
            return Load()
        return Load(foreign_cpu_percent=max(0.0, host.cpu_percent_mean - sum(tasks)))


class Life(NamedTuple):
    """From a submission of the run until the last that happened before the next: seconds since 1970, and the shape that
    it was submitted with, None where that was not recorded.
    """

    begin_unix_s: float
    end_unix_s: float
    shape: dict[str, Any] | None


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
        first_step_s: when the first training step began, in seconds since launch; None if the run did not record it.
    """

    run: Run
    job: JobFields
    result: Result
    phases: dict[str, float]
    history: pandas.DataFrame
    utilisation: pandas.DataFrame
    events: list[dict[str, Any]]
    evaluations: dict[str, dict[str, Any]]
    lives: tuple[Life, ...]
    first_step_s: float | None

    @property
    def completed(self) -> bool:
        return self.result.state == State.COMPLETED.value

    @property
    def launched_unix_s(self) -> float | None:
        """When it was first submitted."""
        return self.lives[0].begin_unix_s if self.lives else None

    @property
    def resumed(self) -> int:
        """How often it was resumed."""
        return max(0, len(self.lives) - 1)

    @property
    def earlier_shapes(self) -> list[dict[str, Any]]:
        """The shapes that it had before its last resume, where they were recorded."""
        return [life.shape for life in self.lives[:-1] if life.shape is not None]


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
        history=_in_percent(
            _wide(trained[trained["role"] == "chief"].drop(recorded.index, errors="ignore"), ["time_unix_s"])
        ),
        utilisation=_wide(
            samples[samples["source"].isin(_COLLECTORS) & (samples["role"] != MONITOR)], ["time_unix_s", *TASK]
        ),
        events=events,
        evaluations=_read_json(run.evaluation_file) if run.evaluation_file.exists() else {},
        lives=lives,
        first_step_s=_first_step_s(phases, samples, lives),
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


def _lives(events: list[dict[str, Any]], samples: pandas.DataFrame) -> tuple[Life, ...]:
    lives: list[Life] = []
    for event in events:
        at = event.get("time_unix_s")
        if not isinstance(at, (int, float)):
            continue
        if event.get("event") == "submitted" or not lives:
            lives.append(Life(float(at), float(at), event.get("shape")))
        lives[-1] = lives[-1]._replace(end_unix_s=float(at))
    if not lives and not samples.empty:
        return (Life(*(float(samples["time_unix_s"].iloc[end]) for end in (0, -1)), None),)
    return tuple(lives)


def _first_step_s(phases: dict[str, float], samples: pandas.DataFrame, lives: Sequence[Life]) -> float | None:
    """From the first record of that step where there is one: phases add up over every start of the training task."""
    recorded = samples[(samples["name"] == "first_step_s") & (samples["role"] == "chief")]
    if len(recorded) and lives:
        first = recorded.iloc[0]
        return since_launch_s(lives, float(first["time_unix_s"]) - float(first["value"]))
    done = phases.get("launch_to_first_step_s")
    return None if done is None else done - phases.get("first_step_s", 0.0)


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

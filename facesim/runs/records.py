"""The files of a run that are written once, at its end: what training found, and the result.

Each is one type, by which it is written and read. Reading is tolerant where versions of facesim differ: a field that
is null or missing has its default, one that this version does not know is left out. What is there must be right.

Accuracies are shares, 0-1; times are seconds; sizes are bytes.
"""

from __future__ import annotations

from functools import cached_property
from types import NoneType
from typing import Annotated, Any, Union

from pydantic import ConfigDict, Field, ValidationError, model_validator

from facesim.runs.record import Moment, Record
from facesim.runs.states import Measurement, RunState
from facesim.spec.data import DataSpec
from facesim.util.unused import Unused

#: The version of the files that this facesim writes. It grows when an earlier facesim could misunderstand them.
SCHEMA_VERSION = 1

#: A value of a job's, or a fact about a machine.
Scalar = Union[str, int, float, bool, None]  # noqa: UP007 - pydantic reads it while Python 3.10 runs, too


class JobFields(Record):
    """A job as `job.json` has it. Not a `Job`: a run stays readable after facesim's own fields have changed."""

    experiment: dict[str, Scalar]
    strategy: str
    shape: dict[str, Scalar]
    backend: str
    framework: str = "tensorflow"
    spot: dict[str, Any] | None = None
    backend_options: dict[str, Any] = {}
    recovery: dict[str, Any] = {}
    faults: list[dict[str, Any]] = []
    sampling_s: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, content: Any) -> Any:
        """Strategy and backend by their names; what is the strategy's own stands beside the shape."""
        if not isinstance(content, dict):
            return content
        content = dict(content)
        for part, beside in (("strategy", "shape"), ("backend", "backend_options")):
            if isinstance(content.get(part), dict):
                fields = dict(content[part])
                content[part] = fields.pop("name", None)
                if isinstance(others := content.get(beside, {}), dict):
                    content[beside] = {**others, **fields}
        return content

    @model_validator(mode="after")
    def _has_fields_as_facesim_names_them(self) -> JobFields:
        if not isinstance(self.experiment.get("pretrained"), (str, NoneType)):
            raise ValueError(f"experiment.pretrained is {self.experiment['pretrained']!r}, which is no text")
        self.data_spec  # noqa: B018 - raises what is wrong with it
        return self

    @cached_property
    def data_spec(self) -> DataSpec:
        """What decides which images are trained on and tested."""
        return DataSpec.of(self.experiment)


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
#: A share as it was computed: rounding may take it a hair beyond.
Rate = Annotated[float, Field(ge=-1e-9, le=1 + 1e-9)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
#: Of seconds, dollars and whatever else cannot be below 0.
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Data(Record):
    """The data set as it was split.

    `content_sha256` is of all images and labels, `tested_sha256` of the held-out images with their people, as
    `facesim.spec.data` defines it; runs of before they were recorded have none.
    """

    name: str | None = None
    identities: Count | None = None
    training_examples: Count | None = None
    held_out_examples: Count | None = None
    chance_accuracy: Share | None = None
    content_sha256: str | None = None
    tested_sha256: str | None = None
    not_used: tuple[Unused, ...] = ()
    notes: tuple[str, ...] = ()


class Counts(Record):
    """What a training task counted, which the sync audit asks for. `staleness` is updates by how stale they were.

    `first_step_updates` are those that were known when the first step of its process was done, of all its processes: at
    the end of the phase `first_step_s`. Earlier versions took one for it.
    """

    examples_due: int
    examples: int
    updates: int
    last_version: int
    steps_by_worker: dict[int, int] = {}
    examples_by_worker: dict[int, int] = {}
    staleness: dict[int, int] = {}
    steps_per_exchange: int | None = None
    exchange_bytes: int = 0
    steps_since_resized: dict[int, int] | None = None
    first_step_updates: int = 1


class Findings(Record):
    """What training found: null where it did not get that far."""

    held_out_accuracy: Share | None = None
    held_out_loss: float | None = None
    training_accuracy: Share | None = None
    images_per_s: Amount | None = None
    training_s: Amount | None = None
    examples_seen: Count | None = None
    updates: Count | None = None
    phases: dict[str, float | None] = {}
    parameters: Count | None = None
    parameter_bytes: Count | None = None
    data: Data = Data()
    counted: Counts | None = None

    @property
    def updates_after_first_step(self) -> int:
        """Updates that were made in what is left of `training_s` without the phase `first_step_s`."""
        first = self.counted.first_step_updates if self.counted else 1
        return max(0, (self.updates or 0) - first)


class TaskOutcome(Findings):
    """`outcome.json`: what one training task found. `stopped`: it was asked to end early.

    For the audit: `parameters_sha256` is of the bytes of the parameters of each replica that the task holds, `devices`
    the accelerators that they computed on, None where that was not recorded.
    """

    schema_version: int = SCHEMA_VERSION
    counted: Counts
    stopped: bool = False
    parameters_sha256: list[str] = []
    pretrained_sha256: str | None = None
    devices: list[str] | None = None


class StateSpan(Record):
    """A state that a run was in, in seconds since 1970, and whether it is billed."""

    state: str
    begin_unix_s: Moment
    end_unix_s: Moment
    billable: bool

    @property
    def seconds(self) -> float:
        return self.end_unix_s - self.begin_unix_s


class BilledGroup(Record):
    """Instances of one type, with the AWS region whose price they are billed at: `own` where the user gave it."""

    model_config = ConfigDict(extra="allow")

    instance_type: str
    count: int
    price_region: str | None = None


class BilledLife(Record):
    """The part of a bill that belongs to one submission of the run, which may have had other instances."""

    model_config = ConfigDict(extra="allow")

    groups: tuple[BilledGroup, ...]
    training_s: float
    cost_usd: float

    @property
    def hosts(self) -> int:
        return sum(group.count for group in self.groups)


class Billing(Record):
    """The bill, as `facesim.billing.bill` makes it: seconds are of the wall clock, dollars of all hosts."""

    model_config = ConfigDict(extra="allow")

    transitions: tuple[StateSpan, ...] = ()
    lives: tuple[BilledLife, ...] = ()
    spot: bool = False
    spot_discount: float = 0.0
    groups: tuple[BilledGroup, ...] = ()
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


class Resources(Record):
    """What the tasks of one role used, or the whole host: means and peaks over the run, bytes in total."""

    tasks: int | None = None
    cpu_percent_mean: float | None = None
    memory_peak_bytes: float | None = None
    net_sent_bytes: float | None = None
    net_received_bytes: float | None = None


class Audit(Record):
    """Whether the replicas trained together: `together`, `apart`, `unknown`, or `single` when there is one replica.

    `idle_accelerators` says, in a sentence, which accelerators were paid for and not computed on; None where none were.
    """

    verdict: str = "unknown"
    evidence: tuple[str, ...] = ()
    idle_accelerators: str | None = None


#: Of all CPU time of the machine, in percent, what other programs may use. An idle system's services use 1 to 3.
MAX_FOREIGN_CPU_PERCENT = 10.0

#: Of all CPU time of the machine, in percent, what its hypervisor may give to others while programs here want it.
MAX_STEAL_PERCENT = 3.0


class Load(Record):
    """What else used the machine's CPUs, 0-100 % of all of them, mean over the run; None where it was not measured.

    foreign_cpu_percent: by programs that are not the run's. steal_percent: by other guests of the hypervisor. beside:
    how many other runs of its study may have gone on at the same time, each on CPUs of its own.
    """

    foreign_cpu_percent: float | None = None
    steal_percent: float | None = None
    beside: int = 0

    @property
    def disturbances(self) -> tuple[str, ...]:
        """What is beyond its share, in words; empty if nothing is known to be."""
        causes = []
        if self.beside:
            others = "another run" if self.beside == 1 else f"up to {self.beside} other runs"
            causes.append(f"{others} of its study ran beside it, on CPUs of their own")
        elif (self.foreign_cpu_percent or 0.0) > MAX_FOREIGN_CPU_PERCENT:
            causes.append(f"other programs used {self.foreign_cpu_percent:.0f} % of the machine's CPU time")
        if (self.steal_percent or 0.0) > MAX_STEAL_PERCENT:
            causes.append(f"the hypervisor took {self.steal_percent:.0f} % of the machine's CPU time for others")
        return tuple(causes)


class Result(Findings):
    """`result.json`: the end of a run, with what was measured and what it cost. `failure` says why a run failed;
    `total_s` is the time for which it went on, over all the times that it was submitted.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: str | None = None
    job: dict[str, Any] = {}
    strategy: str
    backend: str
    seed: int
    state: RunState
    measurement: Measurement | None = None
    failure: str | None = None
    total_s: Amount | None = None
    instance_type: str | None = None
    hosts: Count | None = None
    cost_usd: Amount | None = None
    spot_cost_usd: Amount | None = None
    billing: Billing | None = None
    resources: dict[str, Resources] = {}
    recovery: dict[str, float] = {}
    wire_bytes: float | None = None
    collector_errors: dict[str, float] = {}
    sync_audit: Audit = Audit()
    machine: dict[str, Scalar] = {}
    load: Load | None = None

    def differs_from(self, job: JobFields) -> str:
        """In what the job that this result recorded is not `job`, in words; empty if in nothing that both have."""
        try:
            recorded = JobFields.model_validate(self.job)
        except ValidationError:  # it recorded none
            return ""
        mine, others = ({**one.experiment, "strategy": one.strategy, "backend": one.backend} for one in (recorded, job))
        differing = [name for name in mine if name in others and mine[name] != others[name]]
        return ", ".join(f"{name} {mine[name]!r}, not {others[name]!r}" for name in differing)

    @property
    def tested_in_words(self) -> str:
        """What its accuracy was measured on: `held-out` images, or `validation` ones."""
        return DataSpec.of(self.job.get("experiment", {})).tested_in_words

    @property
    def instances(self) -> dict[str, int | None]:
        """How many hosts it had of each instance type, as it was last submitted: None where that was not recorded."""
        if self.billing is not None and self.billing.groups:
            counts: dict[str, int | None] = {}
            for group in self.billing.groups:  # servers on hosts of their own may have the workers' type
                counts[group.instance_type] = (counts.get(group.instance_type) or 0) + group.count
            return counts
        return {self.instance_type: self.hosts} if self.instance_type else {}

    @property
    def disturbances(self) -> tuple[str, ...]:
        """Why other load than its own disturbed the run's times, in words; empty if none is known to have."""
        return (self.load or self._load_by_roles).disturbances

    @property
    def _load_by_roles(self) -> Load:
        """For runs of before the load was recorded: what the host used, less what its tasks did."""
        host = self.resources.get("host")
        tasks = [used.cpu_percent_mean for role, used in self.resources.items() if role not in ("host", "monitor")]
        measured = [percent for percent in tasks if percent is not None]
        if host is None or host.cpu_percent_mean is None or not tasks or len(measured) < len(tasks):
            return Load()
        return Load(foreign_cpu_percent=max(0.0, host.cpu_percent_mean - sum(measured)))

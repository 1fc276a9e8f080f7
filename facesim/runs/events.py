"""What happens in a run, a type for each kind; `events.jsonl` has one a line.

Readers match on the types. An event of a kind that this facesim does not know, or one without what its kind must have,
is read as a plain `Event`: it can be shown, and nothing follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field, ValidationError

from cluster import clock
from facesim.runs.record import Moment, Record
from facesim.runs.states import Outcome, RunState


class Event(Record):
    """Something that happened. `host` is the one of several that told it; fields that are not known here are kept."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    time_unix_s: Moment = Field(default_factory=clock.time_unix_s)
    event: str
    host: str | None = None

    def details(self) -> dict[str, Any]:
        """Everything but when and what, as the file has it."""
        fields = self.model_dump(mode="json", exclude_none=True)
        return {name: value for name, value in fields.items() if name not in ("time_unix_s", "event")}


class Submitted(Event):
    """The run begins, or is continued, with this shape, on these instances, trained by this framework and these
    `kernels`. So many others of its study as `beside` may continue at the same time on the same machine, each on CPUs
    of its own. `capacity_sha256` is of the user's file by which spot capacity was played.
    """

    event: Literal["submitted"] = "submitted"
    shape: dict[str, Any] | None = None
    kernels: str | None = None
    groups: tuple[tuple[str, int], ...] | None = None
    discount: float | None = None
    beside: int | None = None
    framework: str | None = None
    capacity_sha256: str | None = None


class StateEntered(Event):
    """The run is in another state from now on. `at` is who says so, where it is not this machine."""

    event: Literal["state"] = "state"
    state: RunState
    at: str | None = None
    reason: str | None = None
    attempt: int | None = None


class NodeStarted(Event):
    """The process that starts a host's tasks runs."""

    event: Literal["node_started"] = "node_started"
    pid: int | None = None


class NodeEnded(Event):
    """Nothing of the execution runs any more: always its last event."""

    event: Literal["node_ended"] = "node_ended"
    outcome: Outcome
    reason: str | None = None
    exit_code: int | None = None


class Network(Event):
    """Whether the tasks have a network of their own, which nobody else reaches."""

    event: Literal["network"] = "network"
    private: bool


class MachineDivided(Event):
    """How a machine is divided among the hosts that it plays: each has `cpu_factor` of its processors and network."""

    event: Literal["emulation"] = "emulation"
    cpu_factor: float | None = None


class TaskStarted(Event):
    event: Literal["task_started"] = "task_started"
    task: str
    pid: int | None = None


class TaskEnded(Event):
    """`signal` names what killed the task, if that was a signal."""

    event: Literal["task_ended"] = "task_ended"
    task: str
    exit_code: int | None = None
    signal: str | None = None
    pid: int | None = None


class MonitorEnded(Event):
    """The process that measures ended before the tasks did."""

    event: Literal["monitor_ended"] = "monitor_ended"
    task: str
    exit_code: int | None = None
    signal: str | None = None
    pid: int | None = None


class Recovering(Event):
    """`task` failed, and the tasks `starting` are started again in `in_s` seconds, for the `restart`-th time."""

    event: Literal["recovering"] = "recovering"
    task: str
    restart: int
    starting: tuple[str, ...]
    in_s: float = 0.0
    why: str | None = None


class Hung(Event):
    """A task, or the node, is `silent`, or made no progress, for `for_s` seconds: it is treated as dead."""

    event: Literal["hung"] = "hung"
    task: str
    silent: bool
    for_s: float
    limit_s: float
    doing: str | None = None


class TaskFailed(Event):
    """Why a task failed, as it says itself."""

    event: Literal["task_failed"] = "task_failed"
    task: str
    why: str


class NotConnected(Event):
    event: Literal["not_connected"] = "not_connected"
    task: str
    why: str


class GaveUp(Event):
    event: Literal["gave_up"] = "gave_up"
    task: str
    restarts: int


class Checkpoint(Event):
    """A checkpoint was written, in `seconds`."""

    event: Literal["checkpoint"] = "checkpoint"
    task: str | None = None
    file: str
    step: int
    examples: int
    seconds: float
    bytes: int


class CheckpointFailed(Event):
    """A checkpoint could not be written; without a `step`, those of a host, `task`, could not be stored elsewhere."""

    event: Literal["checkpoint_failed"] = "checkpoint_failed"
    task: str | None = None
    step: int | None = None
    why: str


class CheckpointDamaged(Event):
    event: Literal["checkpoint_damaged"] = "checkpoint_damaged"
    task: str | None = None
    file: str
    why: str


class Restored(Event):
    """Training goes on from a checkpoint, or from the beginning (`file` is null). What was trained on since is lost."""

    event: Literal["restored"] = "restored"
    task: str | None = None
    file: str | None = None
    step: int
    examples: int
    epoch: int
    lost_examples: int = 0
    lost_s: float = 0.0


class FaultDone(Event):
    """Something was done to the run on purpose. `number` is its place in the job's faults."""

    event: Literal["fault"] = "fault"
    number: int | None = None
    kind: str
    target: str
    for_s: float | None = None
    notice_s: float | None = None


class FaultEnded(Event):
    event: Literal["fault_ended"] = "fault_ended"
    kind: str
    target: str


class FaultFailed(Event):
    event: Literal["fault_failed"] = "fault_failed"
    kind: str
    target: str
    why: str


class Stopping(Event):
    """The tasks end within `grace_s`. `why` says what ends them, if that is not the user."""

    event: Literal["stopping"] = "stopping"
    grace_s: float
    why: str | None = None


class GraceExceeded(Event):
    event: Literal["grace_exceeded"] = "grace_exceeded"
    task: str


class Interruption(Event):
    """Spot capacity is taken away, `notice_s` from now."""

    event: Literal["interruption"] = "interruption"
    number: int
    notice_s: float


class Waiting(Event):
    event: Literal["waiting"] = "waiting"
    capacity_in_s: float


class LimitExceeded(Event):
    """A limit of the run's own ends it: `limit` is `max_run_s` or `max_wait_s`."""

    event: Literal["limit_exceeded"] = "limit_exceeded"
    limit: str
    limit_s: float


class Uploading(Event):
    event: Literal["uploading"] = "uploading"
    file: str
    sent_bytes: int
    bytes: int


class Uploaded(Event):
    event: Literal["uploaded"] = "uploaded"
    file: str
    to: str
    bytes: int


class TrainingJobCreated(Event):
    """The run is a training job at AWS from now on."""

    event: Literal["training_job"] = "training_job"
    name: str
    region: str


class JobSetCreated(Event):
    """The run is a JobSet of a Kubernetes cluster from now on: of that at the address `server`, to which `context` of
    the user's configuration led.
    """

    event: Literal["jobset"] = "jobset"
    name: str
    namespace: str
    context: str | None = None
    server: str | None = None


class PodPending(Event):
    """A pod does not start, for now."""

    event: Literal["pod_pending"] = "pod_pending"
    pod: str
    why: str


class OutOfReach(Event):
    event: Literal["out_of_reach"] = "out_of_reach"
    what: str | None = None
    why: str


class Emulated(Event):
    """What stands for AWS is not AWS."""

    event: Literal["emulated"] = "emulated"
    endpoint: str


class ResultsMissing(Event):
    event: Literal["results_missing"] = "results_missing"
    what: str


class Billed(Event):
    """What AWS says of the bill. `cost_usd` is that of the instances while the job had them. On top come `volume_usd`,
    and `kept_usd`: what instances cost at the most while they are kept for another job.
    """

    event: Literal["billed"] = "billed"
    training_s: float
    billable_s: float
    cost_usd: float
    instance_s: float | None = None
    savings_percent: float | None = None
    spot: bool | None = None
    volume_usd: float | None = None
    kept_usd: float | None = None
    emulated: bool | None = None


#: The type of each kind of event, by the name that it has in the file.
KINDS: dict[str, type[Event]] = {
    get_args(kind.model_fields["event"].annotation)[0]: kind for kind in Event.__subclasses__()
}


def event_of(message: Event | dict[str, Any]) -> Event:
    """What a backend told, as an event: of now, if it does not say when.

    Raises:
        ValueError: it is no event.
    """
    event = message if isinstance(message, Event) else parse_event({"time_unix_s": clock.time_unix_s(), **message})
    if event is None:
        raise ValueError(f"no event of a run: {message}")
    return event


def parse_event(content: Any) -> Event | None:
    """One event as it was written; None if it is none at all: it has no time, or no name."""
    if not isinstance(content, dict) or content.get("time_unix_s") is None or not isinstance(content.get("event"), str):
        return None
    for kind in (KINDS.get(content["event"], Event), Event):
        try:
            return kind.model_validate(content)
        except ValidationError:
            continue
    return None


def events_in(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events in lines of `events.jsonl`; a line that a crash tore, or that is no event, is left out, and so is one
    that was there already: nothing happens twice at one instant, but files are joined.
    """
    for line in dict.fromkeys(lines):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if event := parse_event(content):
            yield event

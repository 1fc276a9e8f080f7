"""A cluster's truth on one machine by time dilation: what a container is given is a host's divided by one factor, so
what is measured, divided by that factor, is what hosts of that size would do.

The hosts of a job have one processor each and a link; all are scaled down by the same factor until they fit on this
machine. A second that passes here is then `cpu_factor` seconds there. Times that the factor does not stretch alike
(loading, building, evaluating) are kept apart.

Source: Gupta et al., "DieCast: testing distributed systems with an accurate scale model", NSDI 2008; Gupta et al., "To
infinity and beyond: time-warped network emulation", NSDI 2006.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict, Field

from facesim.forecast.constants import constants
from facesim.forecast.hosts import HostType, hosts
from facesim.forecast.model import Forecast, SpotRisk, forecast_job
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape
from facesim.metrics.files import samples_in
from facesim.runs.directory import Run
from facesim.runs.events import MachineDivided
from facesim.runs.records import Result
from facesim.spec.job import Job, make_job
from facesim.util.errors import InputError
from facesim.util.files import read_toml

if TYPE_CHECKING:
    import pandas

#: A type of the catalogue whose memory is enough; its processors and network are replaced.
INSTANCE_TYPE = "ml.m5.2xlarge"

#: Of the jobs that are run: no checkpoints.
_SAVES_NOTHING = SpotRisk(checkpoint_s=0.0)

#: Epochs of a job that is so long that starting it bounds nothing.
_LONG = 10_000

#: The part of a run after which its tasks' CPU time is that of training alone.
_IN_STRIDE = 0.25

#: Of what a shaped link carries, the part that is payload: 1448 of the 1514 bytes of a packet, less acknowledgements.
GOODPUT = 0.94


class DilatedShape(BaseModel):
    """What is run: a strategy on so many hosts of `host_cpus` processors and a link of `gbps` each.

    `ps_hosts`: parameter servers have hosts of their own, in place of the workers'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str
    workers: int = Field(ge=1)
    ps: int = Field(1, ge=1)
    ps_hosts: bool = False
    gbps: float = Field(gt=0)
    model: str
    batch: int = Field(32, ge=1)
    image_size: int = Field(32, ge=8)
    host_cpus: float = Field(1.0, gt=0)

    @property
    def name(self) -> str:
        servers = f"-{self.ps}ps{'-own' if self.ps_hosts else ''}" if self.served else ""
        usual = DilatedShape.model_fields
        batch = "" if self.batch == usual["batch"].default else f"-batch{self.batch}"
        size = "" if self.image_size == usual["image_size"].default else f"-{self.image_size}px"
        what = f"{self.strategy}-{self.workers}w{servers}-{self.gbps:g}gbps-{self.model}"
        return f"{what}{batch}{size}{self.cpus_in_name}"

    @property
    def cpus_in_name(self) -> str:
        """A part of a name: the processors of a host, where they are not as usual."""
        return "" if self.host_cpus == DilatedShape.model_fields["host_cpus"].default else f"-{self.host_cpus:g}cpus"

    @property
    def cluster(self) -> ClusterShape:
        """As the forecast knows it."""
        return ClusterShape(
            strategy=self.strategy,
            instance_type=INSTANCE_TYPE,
            workers=self.workers,
            ps=self.ps,
            ps_instance_type=INSTANCE_TYPE if self.ps_hosts else None,
        )

    @property
    def served(self) -> bool:
        """Whether it has parameter servers."""
        return self.strategy.startswith("ps-")

    @property
    def hosts(self) -> int:
        return self.workers + (self.ps if self.ps_hosts else 0)

    @property
    def on_one_host(self) -> DilatedShape:
        """One asynchronous worker, beside its chief and its server on one host: nothing passes a link."""
        one = {"strategy": "ps-async", "workers": 1, "ps": 1, "ps_hosts": False, "gbps": 1.0}
        return self.model_copy(update=one)

    @property
    def computing(self) -> DilatedShape:
        """As many hosts, each of which trains for itself: nothing is sent."""
        strategy = "independent" if self.hosts > 1 else "single"
        return self.model_copy(update={"strategy": strategy, "workers": self.hosts, "ps": 1, "ps_hosts": False})

    def job(self, data: str, epochs: int) -> Job:
        """The job that is run. It writes no checkpoints and evaluates once, for these are not training."""
        return make_job(
            strategy=self.strategy,
            workers=self.workers,
            ps=self.ps,
            ps_instance_type=INSTANCE_TYPE if self.ps_hosts else None,
            instance_type=INSTANCE_TYPE,
            backend="docker",
            host_cpus=self.host_cpus,
            host_gbps=self.gbps,
            threads=max(1, round(self.host_cpus)),
            model=self.model,
            batch=self.batch,
            image_size=self.image_size,
            data=data,
            epochs=epochs,
            evaluate_every=epochs,
            checkpoint_s=0.0,
            max_restarts=0,
        )


#: One to six workers, one and two servers, 0.2 to 1 Gbit/s, a network that computes much and one that sends much.
DEFAULT_SHAPES = tuple(
    DilatedShape(strategy=strategy, workers=workers, ps=ps, ps_hosts=ps_host, gbps=gbps, model=model)
    for strategy, workers, ps, ps_host, gbps, model in (
        ("ps-async", 1, 1, False, 1.0, "compact-cnn"),
        ("ps-async", 2, 1, False, 1.0, "compact-cnn"),
        ("ps-async", 4, 1, False, 1.0, "compact-cnn"),
        ("ps-async", 6, 1, False, 0.5, "compact-cnn"),
        ("ps-async", 2, 1, True, 0.5, "paper-cnn"),
        ("ps-async", 4, 1, False, 0.2, "paper-cnn"),
        ("ps-async", 4, 2, False, 0.2, "paper-cnn"),
        ("ps-async", 6, 2, False, 1.0, "paper-cnn"),
        ("ps-sync", 2, 1, False, 0.5, "compact-cnn"),
        ("ps-sync", 4, 2, False, 0.5, "paper-cnn"),
        ("allreduce", 2, 1, False, 0.5, "paper-cnn"),
        ("allreduce", 3, 1, False, 1.0, "compact-cnn"),
        ("allreduce", 4, 1, False, 0.2, "compact-cnn"),
        ("allreduce", 6, 1, False, 0.2, "paper-cnn"),
    )
)


def shapes_of(source: str) -> tuple[DilatedShape, ...]:
    """The shapes called `default`, or those of a TOML file with a table [[shape]] each.

    Raises:
        InputError: the file cannot be read, a shape has a field that is unknown or a value that is not allowed, or two
            are the same.
    """
    if source == "default":
        return DEFAULT_SHAPES
    rows = read_toml(source, "--shapes").get("shape")
    if not isinstance(rows, list) or not rows:
        raise InputError(f"--shapes {source} must have a table [[shape]] for each shape")
    shapes = []
    for number, row in enumerate(rows, 1):
        try:
            shapes.append(DilatedShape.model_validate(row))
            assert shapes[-1].cluster
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            # What is not of one field is of the strategy.
            field = ".".join(str(part) for part in first["loc"]) or "strategy"
            problem, seen = first["msg"].removeprefix("Value error, "), row.get(field) if isinstance(row, dict) else row
            raise InputError(f"--shapes {source}: shape {number}: {field} is {seen!r}: {problem}") from None
    names = [shape.name for shape in shapes]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"--shapes {source}: {double} is there {names.count(double)} times; name each shape once")
    return tuple(shapes)


def host_of(shape: DilatedShape, profile: Profile, speed: float = 1.0) -> HostType:
    """What a container of the shape is, undilated: `speed` times as fast as the profile's machine, processor for
    processor, with a link that has no better phase.
    """
    each_gflops = profile.machine.sgemm_gflops / profile.machine.cores
    reference = constants("reference_core").values["sgemm_gflops"]
    return hosts()[INSTANCE_TYPE].model_copy(
        update={
            "vcpu": max(1, round(shape.host_cpus)),
            "cores": max(1, round(shape.host_cpus)),
            "relative_speed": speed * shape.host_cpus * each_gflops / reference,
            "speed_origin": "measured",
            "network_base_gbps": shape.gbps,
            "network_peak_gbps": shape.gbps,
            "network_burst_s": None,
            "network_assumed": False,
            "single_flow_gbps": None,
            "goodput": GOODPUT,
        }
    )


@dataclass(frozen=True)
class Figures:
    """What is forecast and measured, both without dilation: updates a second while all workers have something to do,
    seconds of training with each epoch's end, bytes that one update sends, mean staleness in updates.
    """

    updates_per_s: float | None
    training_s: float
    wire_bytes_per_update: float | None
    staleness: float | None


def forecast_of(shape: DilatedShape, profile: Profile, epochs: int, speed: float = 1.0) -> tuple[Forecast, Figures]:
    """The forecast of a shape on hosts of its size, and what bounds its training; `speed` as of `host_of`."""
    known = {INSTANCE_TYPE: host_of(shape, profile, speed)}
    options = {"batch": shape.batch, "known_hosts": known, "spot_risk": _SAVES_NOTHING}
    forecast, long = (forecast_job(profile, shape.cluster, epochs=count, **options) for count in (epochs, _LONG))
    forecast = replace(forecast, bound=long.bound)
    return forecast, Figures(
        1 / forecast.update_s, forecast.phases.training_s, forecast.wire_bytes_per_update, forecast.staleness
    )


@dataclass(frozen=True)
class Measured:
    """A run's figures, the factor that they were divided by, its phases as they passed here, and what else used the
    machine meanwhile.
    """

    figures: Figures
    cpu_factor: float
    updates: int
    phases_s: dict[str, float | None]
    total_s: float
    load: dict[str, float | None]
    disturbances: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measured(run: Run) -> Measured:
    """What a completed run tells. Its first epoch, in which every worker compiles its step, is left out of its times.

    Raises:
        InputError: the run did not complete, or was of one epoch only.
    """
    result, job = run.result(), run.job()
    if result is None or result.state != "Completed":
        raise InputError(f"the run {run.directory} did not complete: {result.failure if result else 'no result'}")
    divided = (event for event in run.events() if isinstance(event, MachineDivided))
    factor = next(event.cpu_factor for event in divided if event.cpu_factor)
    epochs, updates_per_s = _epochs(run, job)
    if len(epochs) < 2:
        raise InputError(
            f"the run {run.directory} has one epoch only, in which steps are compiled; give more --seconds"
        )
    later = epochs[1:]
    counted = result.counted.staleness if result.counted else {}
    stale = sum(stale * count for stale, count in counted.items()) / max(1, sum(counted.values()))
    figures = Figures(
        updates_per_s=updates_per_s and updates_per_s / factor,
        training_s=sum(later) / len(later) * len(epochs) * factor,
        wire_bytes_per_update=_wire_bytes(run, job, result),
        staleness=stale if job.strategy.name == "ps-async" else None,
    )
    return Measured(
        figures,
        factor,
        result.updates,
        result.phases,
        result.total_s,
        result.load.model_dump() if result.load else {},
        result.disturbances,
    )


def _wire_bytes(run: Run, job: Job, result: Result) -> float | None:
    """Bytes that an update sends: what tasks received from the first step on. What the chief of servers itself sent or
    received is left out, for that is to evaluate the model, and a few words for each step.
    """
    samples = samples_in(run.metrics)
    counted = samples[samples["source"] == "sockets"]
    made = _updates_made(samples)
    if counted.empty or made.empty:
        return None
    # The first step is compiled for seconds, in which nothing is sent.
    began_unix_s = made["time_unix_s"].min() - (result.phases.get("first_step_s") or 0.0)
    sent = 0.0
    for (role, _, name), of_task in counted.groupby(["role", "task_index", "name"]):
        rows = of_task.sort_values("time_unix_s")
        since = rows["value"].max() - np.interp(began_unix_s, rows["time_unix_s"], rows["value"])
        if not (job.strategy.coordinated and role == "chief"):
            sent += since if name == "net_received_bytes" else 0.0
        elif name == "net_sent_bytes":
            sent -= since
    return float(sent) / result.updates


def _epochs(run: Run, job: Job) -> tuple[list[float], float | None]:
    """Seconds of each epoch's training, and updates a second between progress reports of the later epochs, in which
    every worker still had something to do.
    """
    samples = samples_in(run.metrics)
    training = samples[samples["source"] == "training"]
    training = training[training["role"] == "chief"]
    wide = training.pivot_table(index="time_unix_s", columns="name", values="value").sort_index()
    ends = wide.dropna(subset=["epoch", "images_per_s"])
    examples = ends["examples"].diff().fillna(ends["examples"])
    seconds = [float(each) for each in examples / ends["images_per_s"]]
    made, passed = 0.0, 0.0
    for (begin, before), (end, row) in zip(ends.iterrows(), list(ends.iterrows())[1:]):
        inside = wide[(wide.index > begin) & (wide.index < end)]["updates"].dropna()
        inside = inside[(inside <= row["updates"] - job.shape.workers) & (inside > before["updates"])]
        if len(inside) > 1:
            made += inside.iloc[-1] - inside.iloc[0]
            passed += inside.index[-1] - inside.index[0]
    return seconds, float(made / passed) if passed else None


@dataclass(frozen=True)
class Errors:
    """forecast / measured - 1, but for staleness: forecast - measured, in updates."""

    updates_per_s: float | None
    training_s: float | None
    wire_bytes_per_update: float | None
    staleness: float | None


def errors_of(forecast: Figures, measurement: Figures) -> Errors:
    def relative(predicted: float | None, was: float | None) -> float | None:
        return predicted / was - 1 if predicted and was else None

    stale = (
        None
        if measurement.staleness is None or forecast.staleness is None
        else forecast.staleness - measurement.staleness
    )
    return Errors(
        relative(forecast.updates_per_s, measurement.updates_per_s),
        relative(forecast.training_s, measurement.training_s),
        relative(forecast.wire_bytes_per_update, measurement.wire_bytes_per_update),
        stale,
    )


def speed_of(run: Run, shape: DilatedShape, profile: Profile) -> float:
    """How fast hosts compute in a run of `shape.computing`, against the profile: a little slower where several share a
    processor, whose caches each finds as another left them. A real host of this size does not have that.
    """
    seen = measured(run)
    return seen.updates / seen.figures.training_s * float(profile.step_s(np.array(shape.batch)))


def cpu_s_per_update(run: Run) -> dict[str, float]:
    """CPU-seconds of the tasks of each role for an update, once a run has come into its stride."""
    samples = samples_in(run.metrics)
    made = _updates_made(samples)
    first_unix_s, last_unix_s = made["time_unix_s"].min(), made["time_unix_s"].max()
    span = first_unix_s + (last_unix_s - first_unix_s) * _IN_STRIDE, last_unix_s

    def grown(of_one: pandas.DataFrame) -> float:
        rows = of_one.sort_values("time_unix_s")
        return float(np.diff(np.interp(span, rows["time_unix_s"], rows["value"]))[0])

    used: dict[str, float] = {}
    for (role, _), of_task in samples[samples["name"] == "cpu_s"].groupby(["role", "task_index"]):
        used[role] = used.get(role, 0.0) + grown(of_task)
    return {role: cpu_s / grown(made) for role, cpu_s in used.items()}


def _updates_made(samples: pandas.DataFrame) -> pandas.DataFrame:
    """What the chief recorded of how many updates there were."""
    return samples[(samples["source"] == "training") & (samples["role"] == "chief") & (samples["name"] == "updates")]


def with_cpu_s(profile: Profile, cpu_s: Mapping[str, float], speed: float) -> Profile:
    """The profile with what chief, server and worker were seen to need of a processor at the same time: `cpu_s` of each
    role for an update, on hosts that compute `speed` times as fast as the profile's machine.

    The profile measures them one after another, on a machine that may not always be as fast.
    """
    served, of_roles = profile.served, profile.cpu_s_per_update
    known_s = {**of_roles, "worker": profile.undivided_worker_cpu_s}
    more = {role: cpu_s[role] * speed / known_s[role] for role in ("chief", "ps", "worker")}
    seconds = ("update_s", "message_s", "byte_s", "saturation_s")
    of_server = {name: value * more["ps"] for name in seconds if (value := getattr(served, name)) is not None}
    return profile.model_copy(
        update={
            "server": served.model_copy(update=of_server),
            "dispatch_s": profile.dispatch_s * more["chief"],
            "cpu_s_per_update": {role: of_roles[role] * times for role, times in more.items()},
            "worker_cpu_s": profile.undivided_worker_cpu_s * more["worker"],
        }
    )


def forecast_with_cpu_of(run: Run, shape: DilatedShape, profile: Profile, epochs: int) -> Figures | None:
    """The forecast of an asynchronous shape if it is told what the run's tasks needed of a processor: what is left of
    its error is that of the formulas. None of other shapes.
    """
    if shape.strategy != "ps-async":
        return None
    cpu_s = cpu_s_per_update(run)
    cpu_s["ps"] *= profile.servers_cpu_s(1) / profile.servers_cpu_s(shape.ps)
    speed = profile.undivided_worker_cpu_s / cpu_s["worker"]
    return forecast_of(shape, with_cpu_s(profile, cpu_s, speed), epochs, speed)[1]


def epochs_for(shape: DilatedShape, profile: Profile, seconds: float, cpus: float) -> int:
    """So many epochs that training takes about `seconds` here, dilated: at least three, because the first tells
    nothing.
    """
    factor = min(1.0, cpus / (shape.host_cpus * shape.hosts))
    forecast, figures = forecast_of(shape, profile, epochs=1)
    return max(3, min(50, round(seconds * factor / figures.training_s)))


def stamp() -> dict[str, Any]:
    now = time.time()
    return {"unix_s": now, "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))}


def profile_file(folder: Path, shape: DilatedShape) -> Path:
    return folder / f"{shape.model}-{shape.image_size}-{shape.batch}.json"

"""The forecast of jobs on clusters: time by phase, dollars, an interval, what bounds it, what was assumed.

    forecast_job(profile, ClusterShape(strategy="ps-async", instance_type="ml.m5.2xlarge", workers=4, ps=2), epochs=50)

All shapes are computed together, as arrays; only servers' loads differ in form, and are the same for a number of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facesim.billing.bill import billable_s
from facesim.forecast import laws
from facesim.forecast.constants import constants
from facesim.forecast.hosts import HostType, hosts
from facesim.forecast.intervals import Z80, Widths, bounds, published_widths, quadrature
from facesim.forecast.profile_data import WORKERS, Profile
from facesim.forecast.shapes import ClusterShape, check_strategies
from facesim.forecast.speeds import BOUNDS, SERVER_CPU, START_UP, Bound, Speeds, Table
from facesim.util.errors import InputError

Array = NDArray[np.float64]

#: What is less than this part of the training is not worth a note.
_NOTED = 0.05

#: 80 % half-width of what is measured on a disturbed machine; assumed.
DISTURBED = 0.1


@dataclass(frozen=True)
class Phases:
    """Seconds of a job by phase. Waiting for instances is not billed, all others are."""

    waiting_s: float
    download_s: float
    start_s: float
    training_burst_s: float  # while the network has credit
    training_base_s: float
    drain_s: float
    evaluation_s: float
    checkpoint_s: float  # writing them, while nobody trains
    interrupted_s: float  # work again and starting again after interruptions
    upload_s: float

    @property
    def training_s(self) -> float:
        return self.training_burst_s + self.training_base_s + self.drain_s

    @property
    def billed_s(self) -> float:
        return self.total_s - self.waiting_s

    @property
    def total_s(self) -> float:
        return sum(self.__dict__.values())


@dataclass(frozen=True)
class Forecast:
    """A forecast of one shape. `low_s` to `high_s` and the dollars beside them are 80 % intervals; `half_width` is
    relative. `updates_per_s` and `images_per_s` are while training; `offered_load` is what the workers would ask of the
    busiest server or link if none waited: above 1 it is saturated. `staleness` is the mean, in updates. `bound` is of
    the whole job, `training_bound` of its updates.
    """

    shape: ClusterShape
    phases: Phases
    updates: int
    update_s: float
    images_per_s: float
    cost_usd: float
    half_width: float
    offered_load: float
    wire_bytes_per_update: float
    staleness: float
    bound: Bound
    training_bound: Bound
    assumptions: tuple[str, ...]
    extrapolated: bool

    @property
    def time_s(self) -> float:
        return self.phases.total_s

    @property
    def low_s(self) -> float:
        return float(bounds(self.time_s, self.half_width)[0])

    @property
    def high_s(self) -> float:
        return float(bounds(self.time_s, self.half_width)[1])

    @property
    def low_usd(self) -> float:
        return float(bounds(self.cost_usd, self.half_width)[0])

    @property
    def high_usd(self) -> float:
        return float(bounds(self.cost_usd, self.half_width)[1])


@dataclass(frozen=True)
class SpotRisk:
    """What spot capacity is assumed to do: reclaims of a host an hour, seconds to be back; and after how many seconds
    or updates, whichever come first, a checkpoint is written, on any capacity, 0 for never.
    """

    reclaims_per_hour: float = 0.05
    checkpoint_s: float = 30.0
    checkpoint_steps: int = 0
    restart_s: float = 60.0
    wait_s: float = 120.0


def forecast_job(profile: Profile, shape: ClusterShape, **options: object) -> Forecast:
    """The forecast of one shape; `options` are those of `forecast_jobs`."""
    return forecast_jobs(profile, [shape], **options)[0]  # type: ignore[arg-type]


def update_batch(profile: Profile, batch: int | None) -> int:
    """Examples in one update of a job with this `batch`, the profile's if it is None: no more than there are."""
    return min(profile.batch if batch is None else batch, profile.examples)


def forecast_jobs(
    profile: Profile,
    shapes: Sequence[ClusterShape],
    *,
    epochs: int = 50,
    batch: int | None = None,
    evaluations: int | None = None,
    known_hosts: Mapping[str, HostType] | None = None,
    widths: Widths | None = None,
    outside: Mapping[str, float] | None = None,
    spot_risk: SpotRisk = SpotRisk(),
) -> list[Forecast]:
    """The forecasts of many shapes, in their order.

    Args:
        batch: examples in one update, the profile's if left out. As in a job, ps-async gives it to one worker, the
            other strategies divide it among all.
        evaluations: one after each epoch, if left out.
        known_hosts: host types by name; the catalogue's, if left out.
        widths: half-widths from a user's own runs; published ones, if left out.
        outside: seconds outside of the script, `starting_s`, `download_s` and `upload_s`, where they are known better
            than the constants `sagemaker_phases`.

    Raises:
        InputError: an instance type is not known, or nobody knows how fast it is; epochs or batch are not positive; the
            framework of the profile cannot train by a shape's strategy.
    """
    batch = update_batch(profile, batch)
    for name, value in (("epochs", epochs), ("batch", batch)):
        if value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
    if not shapes:
        return []
    check_strategies(dict.fromkeys(shape.strategy for shape in shapes), profile.framework)
    known = hosts() if known_hosts is None else known_hosts
    table = Table(profile, shapes, known, batch)
    burst, base = Speeds(table, base=False), Speeds(table, base=True)
    updates = -(-profile.examples // batch) * epochs
    count = epochs if evaluations is None else evaluations
    return _forecasts_of(table, burst, base, updates, count, widths or published_widths(), spot_risk, outside)


def _forecasts_of(
    table: Table,
    burst: Speeds,
    base: Speeds,
    updates: int,
    evaluations: int,
    widths: Widths,
    risk: SpotRisk,
    outside: Mapping[str, float] | None,
) -> list[Forecast]:
    profile, fixed = table.profile, table.profile.fixed
    phases = {**constants("sagemaker_phases").values, **(outside or {})}
    base_rate = np.where(table.servers > 0, table.link(base=True, servers=True), table.link(base=True, servers=False))
    bucket = np.array([kind.bucket_bytes for kind in table.server_host])
    burst_s, base_s = laws.two_phase_s(updates, burst.update_s, base.update_s, burst.link_bytes, base_rate, bucket)
    steps = np.where(table.asynchronous, (table.workers - 1) / 2, 0.0)
    one_host = np.array([shape.one_host for shape in table.shapes])
    if profile.drain_steps is not None:  # those that share cores: who is left has more of them
        steps = np.where(one_host, steps * profile.drain_steps / ((WORKERS - 1) / 2), steps)
    update_s = (burst_s + base_s) / updates
    evaluation_s = evaluations * fixed.evaluation_s / table.ratio
    interval_s, checkpoints = _checkpoints(risk, update_s, updates, burst_s + base_s + evaluation_s)
    checkpoint_s = checkpoints * fixed.checkpoint_s
    pauses = max(evaluations, 1) + checkpoints  # asynchronous workers go on from epoch to epoch until one is due
    drain_s = steps * update_s * pauses
    start_s = np.where(one_host, fixed.to_first_step_s(True), fixed.to_first_step_s(False)) / table.ratio
    trained_s = burst_s + base_s + drain_s + evaluation_s + checkpoint_s
    spot = np.array([shape.spot for shape in table.shapes])
    paid = np.array([sum(count for _, count in shape.groups) for shape in table.shapes], dtype=float)
    # Without checkpoints all is done again, as with one at the end.
    lost_s = np.where(checkpoints > 0, interval_s, trained_s)
    stretched = laws.spot_stretch(paid, risk.reclaims_per_hour, lost_s, risk.restart_s)
    interrupted_s = np.where(spot, (stretched - 1) * trained_s, 0.0)
    reclaims = paid * risk.reclaims_per_hour * trained_s / 3600
    waiting_s = phases["starting_s"] + np.where(spot, reclaims * risk.wait_s, 0.0)

    other_batch = (table.worker_batch < profile.batches[0]) | (table.worker_batch > profile.batches[1])
    extrapolated = other_batch | np.array([bool(_without_bfloat16(table, shape)) for shape in table.shapes])
    offered = np.where(base_s > burst_s, base.offered, burst.offered)
    phases_differ = updates * (base.update_s - burst.update_s) * (table.network_assumed & (base_s > 0))
    upload_s = fixed.upload_s / table.ratio + phases["upload_s"]  # the training images are evaluated before
    fixed_s = start_s + phases["download_s"] + upload_s
    training_bound = np.where(base_s > burst_s, base.bound, burst.bound)
    bound = np.where(fixed_s > trained_s, START_UP, training_bound)
    half = _half_widths(table, offered, phases_differ / (2 * (burst_s + base_s)), training_bound, widths)
    idle = np.minimum(base.idle_s / (table.workers * update_s), 1.0)
    staleness = np.where(table.asynchronous, laws.mean_staleness(table.workers, updates / pauses, idle), 0.0)
    assumed: dict[tuple[object, ...], tuple[str, ...]] = {}
    forecasts = []
    for place, shape in enumerate(table.shapes):
        each = Phases(
            float(waiting_s[place]),
            phases["download_s"],
            float(start_s[place]),
            float(burst_s[place]),
            float(base_s[place]),
            float(drain_s[place]),
            float(evaluation_s[place]),
            float(checkpoint_s[place]),
            float(interrupted_s[place]),
            float(upload_s[place]),
        )
        key = (
            shape.strategy,
            shape.instance_type,
            shape.other_workers,
            shape.ps_instance_type,
            shape.spot,
            paid[place] > 1,
            bool(other_batch[place]),
        )
        if key not in assumed:
            assumed[key] = tuple(_assumptions(table, shape, bool(other_batch[place]), risk, outside))
        forecasts.append(
            Forecast(
                shape,
                each,
                updates,
                float(update_s[place]),
                float(table.batch / update_s[place]),
                _cost_usd(table, shape, each.billed_s),
                float(half[place]),
                float(offered[place]),
                float(burst.wire_bytes[place]),
                float(staleness[place]),
                BOUNDS[bound[place]],
                BOUNDS[training_bound[place]],
                assumed[key],
                bool(extrapolated[place]),
            )
        )
    return forecasts


def _checkpoints(risk: SpotRisk, update_s: Array, updates: int, trained_s: Array) -> tuple[Array, Array]:
    """Seconds between two checkpoints, and how many are written in so long a training."""
    steps_s = risk.checkpoint_steps * update_s if risk.checkpoint_steps else np.inf
    interval_s = np.maximum(np.minimum(risk.checkpoint_s or np.inf, steps_s), update_s)
    return interval_s, np.minimum(np.floor(trained_s / interval_s), updates - 1)


def doubted_host(kinds: Mapping[str, HostType], shape: ClusterShape, bound: Bound) -> HostType:
    """Of the types of hosts whose speed counts, the one whose speed is least known: the workers' types, and that of
    servers which their processors bound.
    """
    names = [name for name, _ in (shape.groups if bound == BOUNDS[SERVER_CPU] else shape.worker_hosts)]
    return max((kinds[name] for name in names), key=lambda kind: kind.speed_half_width)


def _half_widths(table: Table, offered: Array, phase: Array, bound: Array, widths: Widths) -> Array:
    """Of the formulas, the host's speed, the phase of the network, the profile's repeats and disturbance: independent.

    Where the network's bucket is assumed, time may be anything between all burst and all base.
    """
    doubted = [doubted_host(table.kinds, shape, BOUNDS[each]) for shape, each in zip(table.shapes, bound)]
    speed = np.array([kind.speed_half_width for kind in doubted])
    profile = table.profile
    disturbed = DISTURBED if profile.disturbed else 0.0
    return quadrature(widths.at(offered), speed, np.minimum(phase, 1.0), Z80 * profile.repeats_cv, disturbed)


def _cost_usd(table: Table, shape: ClusterShape, billed_s: float) -> float:
    """By the rules of the bill: whole seconds, times the hosts; what spot saves is taken off the seconds."""
    total = 0.0
    for name, count in shape.groups:
        kind = table.kinds[name]
        on_demand, paid = kind.price_usd_per_hour, kind.usd_per_hour(shape.spot)
        discount = 1 - paid / on_demand if shape.spot and on_demand else None
        total += on_demand * count * billable_s(round(billed_s), discount) / 3600
    return total


def _assumptions(
    table: Table, shape: ClusterShape, other_batch: bool, risk: SpotRisk, outside: Mapping[str, float] | None
) -> list[str]:
    profile = table.profile
    hosts_used = dict(shape.groups)
    sends = sum(hosts_used.values()) > 1
    assumptions = [text for name in hosts_used for text in table.kinds[name].assumptions(shape.spot, sends)]
    if other_batch:
        least, most = profile.batches
        assumptions.append(f"the batch of a worker is outside of what was measured, {least} to {most}")
    for name in _without_bfloat16(table, shape):
        assumptions.append(
            f"the processors of {name} have no bfloat16 arithmetic: if the machine of the profile has it, steps on "
            f"{name} take longer than forecast, maybe twice as long; a forecast in float32 is surer"
        )
    whole = -(-profile.examples // table.batch) * table.batch
    if whole > (1 + _NOTED) * profile.examples:
        shorter = 100 * (1 - profile.examples / whole)
        assumptions.append(
            f"the last update of an epoch counts as a whole one: training is up to {shorter:.0f} % shorter"
        )
    if shape.spot:
        assumptions.append(
            f"spot capacity loses each host {risk.reclaims_per_hour:g} times an hour and is back after "
            f"{risk.wait_s + risk.restart_s:g} s"
        )
    if profile.disturbed:
        assumptions.append("the machine was disturbed while it was profiled")
    if shape.served and profile.served.saturation_s is None:
        assumptions.append("the servers' speed is not from a saturation test")
    fixed = constants("sagemaker_phases")
    if fixed.assumed and not fixed.values.keys() <= (outside or {}).keys():
        assumptions.append("times to start, to download and to upload are assumed")
    return assumptions


def _without_bfloat16(table: Table, shape: ClusterShape) -> list[str]:
    """The types of workers that compute in bfloat16 and have no arithmetic for it. (What a GPU has is not known.)"""
    if table.profile.precision != "bfloat16":
        return []
    return [name for name, _ in shape.worker_hosts if not (kind := table.kinds[name]).bf16 and not kind.gpus]

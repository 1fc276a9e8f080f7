"""From a job to its forecast, and from that to a run directory whose numbers are all forecast."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from facesim.backends.emulation import emulation_of, shared_capacity
from facesim.billing.bill import Bill, make_bill
from facesim.billing.catalogue import Instance, instance
from facesim.forecast.constants import constants
from facesim.forecast.hosts import HostType
from facesim.forecast.model import Forecast, SpotRisk, forecast_job
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape, forecast_strategies
from facesim.planning.notes import left_out, profile_notes, region_notes
from facesim.planning.saved import saved_hosts, saved_outside, saved_widths
from facesim.profiling.profile import check_measurable
from facesim.runs.directory import Run
from facesim.runs.events import StateEntered, Submitted
from facesim.runs.forecasts import ForecastRecord
from facesim.runs.records import Audit, Billing, Result
from facesim.runs.states import Measurement, RunState
from facesim.spec.job import Job
from facesim.util.errors import InputError

#: A link that bounds nothing: all tasks are on one machine.
_LOOPBACK = {
    "network_base_gbps": 1000.0,
    "network_peak_gbps": 1000.0,
    "network_burst_s": None,
    "single_flow_gbps": None,
    "network_assumed": False,
}

#: Nothing waits for a machine that is there.
_AT_HOME = {"starting_s": 0.0, "download_s": 0.0, "upload_s": 0.0}


def shape_of(job: Job) -> ClusterShape:
    """What a job runs on, as the forecast has it.

    Raises:
        InputError: there is no formula for its strategy.
    """
    name = job.strategy.name
    if job.strategy.declared_formula() is None:
        raise InputError(
            f"there is no forecast of --strategy {name}: there are formulas for {', '.join(forecast_strategies())}"
        )
    if job.shape.workers_per_host > 1 and job.strategy.distributed:
        raise InputError("there is no forecast of workers that share hosts (--workers-per-host)")
    strategy_options = job.strategy.options
    return ClusterShape(
        strategy=name,
        instance_type=job.shape.instance_type,
        workers=job.shape.workers if job.strategy.replicated else 1,
        ps=job.shape.ps if job.strategy.coordinated else 1,
        ps_instance_type=job.shape.ps_instance_type if job.strategy.coordinated and job.backend.own_hosts else None,
        backup_workers=strategy_options.get("backup_workers", 0),
        local_steps=strategy_options.get("local_steps", 8),
        spot=job.spot is not None,
        one_host=not job.backend.own_hosts,
    )


def forecast_of(job: Job, profile: Profile, own_instances: Path | None = None) -> tuple[Forecast, HostType]:
    """The forecast of a job on its backend, and what its workers' hosts are taken for.

    A local run has this machine; a docker run has what the emulation gives each host of it; any other the instances.

    Raises:
        InputError: there is no formula for its strategy or framework, or nobody knows how fast its instances are.
    """
    check_measurable(job)
    shape = shape_of(job)
    known = _hosts_of(job, profile, own_instances)
    experiment = job.experiment
    forecast = forecast_job(
        profile,
        shape,
        epochs=experiment.epochs,
        batch=job.update_batch,
        evaluations=math.ceil(experiment.epochs / experiment.evaluate_every),
        known_hosts=known,
        widths=saved_widths(),
        outside=saved_outside() if job.backend.elsewhere else _AT_HOME,
        spot_risk=spot_risk(job),
    )
    region = getattr(job.backend, "region", None)
    regions = region_notes(region, dict(shape.groups), known)
    assumptions = (*forecast.assumptions, *regions, *left_out(job, forecast.phases))
    return replace(forecast, assumptions=assumptions), known[shape.instance_type]


def spot_risk(job: Job) -> SpotRisk:
    """What the forecast assumes of a job's spot capacity: what the job says, else what `SpotRisk` does."""
    usual = SpotRisk()
    rate = job.spot.rate if job.spot and job.spot.rate is not None else usual.reclaims_per_hour
    wait_s = job.spot.wait_s if job.spot else usual.wait_s
    return SpotRisk(rate, job.recovery.checkpoint_s, job.recovery.checkpoint_steps, usual.restart_s, wait_s)


def _hosts_of(job: Job, profile: Profile, own_instances: Path | None) -> dict[str, HostType]:
    """What the types of a job's hosts are taken for, by name."""
    known = saved_hosts(own_instances)
    if job.spot is not None and (discount := job.spot.discount) is not None:
        known = {
            name: kind.model_copy(
                update={"spot_usd_per_hour": kind.price_usd_per_hour * (1 - discount), "spot_assumed": False}
            )
            for name, kind in known.items()
        }
    if not job.backend.costs_money:
        known = {name: _of_no_doubtful_price(kind) for name, kind in known.items()}
    if job.backend.elsewhere:
        pod_cpus = getattr(job.backend, "pod_cpus", None)
        return known if pod_cpus is None else {name: _with_cpus(kind, pod_cpus) for name, kind in known.items()}
    here = profile.machine.sgemm_gflops / constants("reference_core").values["sgemm_gflops"]
    cores = profile.machine.cores
    # What bfloat16 takes here is what the profile measured.
    measured = {"speed_origin": "measured", "speed_source": "this machine's profile", "bf16": True}
    if not job.backend.own_hosts:
        this_machine = {"relative_speed": here, "cores": cores, **measured, **_LOOPBACK}
        return {name: known[name].model_copy(update=this_machine) for name, _ in job.groups}
    given = emulation_of(job, shared_capacity()[0], math.inf).shapes
    return {
        name: known[name].model_copy(
            update={
                "relative_speed": here * host.cpus / cores,
                "cores": max(1, round(host.cpus)),
                **measured,
                **_LOOPBACK,
                "network_base_gbps": host.bandwidth_bits_per_s / 1e9,
                "network_peak_gbps": host.bandwidth_bits_per_s / 1e9,
            }
        )
        for name, host in given.items()
    }


def _of_no_doubtful_price(kind: HostType) -> HostType:
    """A type for a job that is not paid for by its prices: nothing is assumed of them."""
    prices = {"price_verified": True, "spot_usd_per_hour": kind.usd_per_hour(spot=True), "spot_assumed": False}
    return kind.model_copy(update=prices)


def _with_cpus(kind: HostType, cpus: float) -> HostType:
    """A type whose hosts have so many processors in place of theirs, and are as fast as that makes them."""
    share = cpus / kind.vcpu
    return kind.model_copy(
        update={
            "vcpu": max(1, round(cpus)),
            "cores": max(1, round(kind.cores * share)),
            "relative_speed": kind.relative_speed and kind.relative_speed * share,
        }
    )


def record_of(forecast: Forecast, profile: Profile, kind: HostType, notes: Sequence[str] = ()) -> ForecastRecord:
    """What `forecast.json` keeps of a forecast, with `notes` on its profile."""
    phases, first_step_s = forecast.phases, first_step_s_of(forecast, profile)
    return ForecastRecord(
        made=time.strftime("%Y-%m-%d %H:%M:%S"),
        shape=str(forecast.shape),
        profile=profile_text(profile),
        framework=profile.framework,
        profile_disturbed=profile.disturbed,
        phases={
            "waiting_s": phases.waiting_s,
            "download_s": phases.download_s,
            "start_s": phases.start_s,
            "first_step_s": first_step_s,
            "training_s": phases.training_s,
            "evaluation_s": phases.evaluation_s,
            "checkpoint_s": phases.checkpoint_s,
            "interrupted_s": phases.interrupted_s,
            "upload_s": phases.upload_s,
        },
        updates=forecast.updates,
        update_s=forecast.update_s,
        images_per_s=forecast.images_per_s,
        total_s=forecast.time_s,
        low_s=forecast.low_s,
        high_s=forecast.high_s,
        cost_usd=forecast.cost_usd,
        low_usd=forecast.low_usd,
        high_usd=forecast.high_usd,
        half_width=forecast.half_width,
        offered_load=forecast.offered_load,
        wire_bytes_per_update=forecast.wire_bytes_per_update,
        staleness=forecast.staleness,
        bound=forecast.bound,
        instance_type=kind.name,
        relative_speed=kind.relative_speed or 0.0,
        assumptions=(*forecast.assumptions, *notes),
        extrapolated=forecast.extrapolated,
    )


def first_step_s_of(forecast: Forecast, profile: Profile) -> float:
    """Of the seconds to the first step, those that it takes itself."""
    start_s = profile.fixed.to_first_step_s(forecast.shape.one_host)
    return forecast.phases.start_s * profile.fixed.first_step_s / start_s if start_s else 0.0


def profile_text(profile: Profile) -> str:
    """Of what and when a profile is, in words."""
    when = f", {profile.created}" if profile.created else ""
    where = f" on {profile.machine.processor}" if profile.machine.processor else ""
    return f"{profile.model}, {profile.framework}, batch {profile.batch}{where}{when}"


def write_forecast(
    job: Job,
    profile: Profile,
    directory: Path,
    own_instances: Path | None = None,
    where: str | None = None,
    notes: Sequence[str] = (),
) -> Run:
    """Make a run directory of a job that nobody ran, whose numbers are its forecast and are marked so. `where` says
    which profile was given; None: it is this machine's own. `notes` are kept among what is assumed.

    Raises:
        InputError: the job cannot be forecast, or the directory cannot be written.
    """
    forecast, kind = forecast_of(job, profile, own_instances)
    record = record_of(forecast, profile, kind, [*(profile_notes(profile, job, where) if where else ()), *notes])
    run = Run.create(directory, job)
    try:
        record.write(run.forecast_file)
        known = _hosts_of(job, profile, own_instances)
        discount = _discount(job, known)
        _write_events(run, job, record.phases, discount)
        bill = make_bill(run.events(), job.groups, known={name: _priced(known[name]) for name, _ in job.groups})
        _result(run, job, profile, forecast, record, bill, discount).write(run.result_file)
    finally:
        run.claim.release()
    return run


class Asked(NamedTuple):
    """A job, the profile that it is forecast from, and notes to keep with the forecast."""

    job: Job
    profile: Profile
    notes: Sequence[str] = ()


def write_forecasts(
    jobs: Sequence[Asked], output: Path, own_instances: Path | None = None, where: str | None = None
) -> list[Run]:
    """The same of several jobs, in directories of `output`."""
    stamp = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    runs = []
    for number, (job, profile, notes) in enumerate(jobs, 1):
        place = f"-{number}" if len(jobs) > 1 else ""
        directory = output / f"{stamp}-{job.strategy.name}-seed{job.experiment.seed}-forecast{place}"
        runs.append(write_forecast(job, profile, directory, own_instances, where, notes))
    return runs


def _discount(job: Job, known: Mapping[str, HostType]) -> float:
    """The part of the price, 0-1, that spot capacity saves, or would save, as the forecast has it."""
    usd, spot_usd = (
        sum(known[name].usd_per_hour(spot) * count for name, count in job.groups) for spot in (False, True)
    )
    return 1 - spot_usd / usd if usd else 0.0


def _priced(kind: HostType) -> Instance:
    """The type with the price of the forecast."""
    known = instance(kind.name)
    if not kind.own_price:
        return known
    price = {
        name: getattr(kind, name) for name in ("price_usd_per_hour", "price_verified", "price_date", "price_source")
    }
    return replace(known, price_region="own", **price)


#: Phases of a forecast in which its job is in the state Training.
_IN_TRAINING = ("start_s", "training_s", "evaluation_s", "checkpoint_s", "interrupted_s")


def _write_events(run: Run, job: Job, phases: Mapping[str, float], discount: float) -> None:
    began_unix_s = time.time()
    run.record(
        Submitted(
            time_unix_s=began_unix_s,
            shape=job.shape.model_dump(),
            groups=tuple(job.groups),
            discount=discount if job.spot else None,
        )
    )
    states = (
        (RunState.STARTING, phases["waiting_s"]),
        (RunState.DOWNLOADING, phases["download_s"]),
        (RunState.TRAINING, sum(phases[name] for name in _IN_TRAINING)),
        (RunState.UPLOADING, phases["upload_s"]),
        (RunState.COMPLETED, 0.0),
    )
    at_unix_s = began_unix_s
    for state, lasts_s in states:
        run.record(StateEntered(time_unix_s=at_unix_s, state=state, reason=Measurement.FORECAST))
        at_unix_s += lasts_s


def _result(
    run: Run, job: Job, profile: Profile, forecast: Forecast, record: ForecastRecord, bill: Bill, discount: float
) -> Result:
    first_step_s = record.phases["first_step_s"]
    phases = {
        "startup_s": forecast.phases.start_s - first_step_s,
        "first_step_s": first_step_s,
        "launch_to_first_step_s": forecast.phases.start_s,
        "training_s": record.phases["training_s"] + first_step_s,
        "evaluation_s": record.phases["evaluation_s"],
        "checkpoint_s": record.phases["checkpoint_s"],
        "save_s": record.phases["upload_s"],
    }
    return Result(
        run_id=run.id,
        job=job.model_dump(mode="json"),
        strategy=job.strategy.name,
        backend=job.backend.name,
        seed=job.experiment.seed,
        state=RunState.COMPLETED,
        measurement=Measurement.FORECAST,
        images_per_s=record.images_with_drain_per_s,
        training_s=phases["training_s"],
        examples_seen=profile.examples * job.experiment.epochs,
        updates=forecast.updates,
        phases=phases,
        total_s=forecast.time_s,
        instance_type=job.shape.instance_type,
        hosts=job.hosts,
        cost_usd=bill.on_demand_usd,
        spot_cost_usd=bill.spot_usd(discount),
        billing=Billing.model_validate(bill.to_dict(discount)),
        wire_bytes=forecast.wire_bytes_per_update * forecast.updates,
        parameter_bytes=profile.trained_bytes,
        sync_audit=Audit(verdict="unknown", evidence=("a forecast: nothing was trained, so nothing can be audited",)),
    )

"""The forecast beside what is about to be run, or paid for; it never keeps anything from running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from facesim.planning.quantities import dollars_told, time_told
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.forecast.model import Forecast
    from facesim.preflight.inputs import Inputs
    from facesim.runs.directory import Run
    from facesim.spec.job import Job


def forecasts_told(jobs: Sequence[Job], inputs: Sequence[Inputs]) -> list[str]:
    """What the jobs that cost money are forecast to take and to cost, in words, or how to have that forecast."""
    told: dict[str, None] = {}
    total_usd = low_usd = high_usd = 0.0
    paid = 0
    for job, own in zip(jobs, inputs, strict=True):
        if not job.backend.costs_money:
            continue
        try:
            found = _forecast(job, own)
        except InputError as error:
            told[f"no forecast of {job.strategy.name}: {error}"] = None
            continue
        if found is None:
            told[f"no forecast: {_how(job)} measures this machine for it, in five minutes at the most"] = None
            continue
        paid += 1
        total_usd, low_usd, high_usd = total_usd + found.cost_usd, low_usd + found.low_usd, high_usd + found.high_usd
        told[f"forecast: {forecast_line(found)}"] = None
    if paid > 1:
        told[
            f"forecast of all {paid} jobs: {dollars_told(total_usd)} ({dollars_told(low_usd)} to "
            f"{dollars_told(high_usd)})"
        ] = None
    return list(told)


class Expected(NamedTuple):
    """What a job is forecast to take and, where it is paid for, to cost."""

    time_s: float
    cost_usd: float | None


def expected(job: Job, inputs: Inputs) -> Expected | None:
    """The forecast of a job, from what has been measured before; None where nobody knows."""
    try:
        found = _forecast(job, inputs)
    except InputError:
        return None
    return found and Expected(found.time_s, found.cost_usd if job.backend.costs_money else None)


def forecast_line(forecast: Forecast) -> str:
    """A forecast in one line: time and dollars with their 80 % intervals, and what bounds it."""
    return (
        f"{forecast.shape}: {time_told(forecast.time_s)} ({time_told(forecast.low_s)} to "
        f"{time_told(forecast.high_s)}), "
        f"{dollars_told(forecast.cost_usd)} ({dollars_told(forecast.low_usd)} to {dollars_told(forecast.high_usd)}), "
        f"8 times in 10; bound by {forecast.bound}"
    )


def keep_forecast(run: Run, job: Job, inputs: Inputs) -> None:
    """Leave in a run directory what is forecast of the run, before it begins, if this machine has a profile of its
    experiment and there is a formula for its strategy.
    """
    from facesim.planning.jobs import forecast_of, record_of
    from facesim.planning.profiles import saved_profile

    profile = saved_profile(job, inputs)
    if profile is None:
        return
    try:
        forecast, kind = forecast_of(job, profile)
    except InputError:  # it is not what the user asked for
        return
    record_of(forecast, profile, kind).write(run.forecast_file)


def _forecast(job: Job, inputs: Inputs) -> Forecast | None:
    from facesim.planning.jobs import forecast_of
    from facesim.planning.profiles import saved_profile

    profile = saved_profile(job, inputs)
    return profile and forecast_of(job, profile)[0]


def _how(job: Job) -> str:
    from facesim.planning.profiles import how_to_have_one

    return how_to_have_one(job)

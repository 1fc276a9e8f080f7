"""What jobs that are about to be run, or paid for, are forecast to take; it never keeps anything from running."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from facesim.data.unseen import UnseenData
from facesim.planning.quantities import dollars_text, time_text
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.forecast.model import Forecast
    from facesim.preflight.inputs import Inputs
    from facesim.runs.directory import Run
    from facesim.spec.job import Job


def forecast_lines(jobs: Sequence[Job], inputs: Sequence[Inputs]) -> list[str]:
    """What the jobs that cost money are forecast to take and to cost, in words, or how to have that forecast."""
    lines: dict[str, None] = {}
    total_usd = low_usd = high_usd = 0.0
    paid = with_forecast = 0
    for job, job_inputs in zip(jobs, inputs, strict=True):
        if not job.backend.costs_money:
            continue
        paid += 1
        try:
            forecast = _forecast(job, job_inputs)
        except InputError as error:
            lines[f"no forecast of {job.strategy.name}: {error}"] = None
            continue
        if forecast is None and isinstance(job_inputs.data, UnseenData):
            lines[f"no forecast: how much is to be trained is not known of {job_inputs.data.name}"] = None
            continue
        if forecast is None:
            lines[f"no forecast: {_how(job)} measures this machine for it, in five minutes at the most"] = None
            continue
        with_forecast += 1
        total_usd += forecast.cost_usd
        low_usd += forecast.low_usd
        high_usd += forecast.high_usd
        lines[f"forecast: {forecast_line(forecast)}"] = None
        lines |= dict.fromkeys(_over_limits(job, forecast))
    if with_forecast > 1:
        which = f"all {paid}" if with_forecast == paid else f"{with_forecast} of {paid}"
        lines[
            f"forecast of {which} jobs: {dollars_text(total_usd)} ({dollars_text(low_usd)} to {dollars_text(high_usd)})"
        ] = None
    return list(lines)


class Expected(NamedTuple):
    """What a job is forecast to take and, where it is paid for, to cost."""

    time_s: float
    cost_usd: float | None


def expected(job: Job, inputs: Inputs) -> Expected | None:
    """The forecast of a job, from what has been measured before; None where nobody knows."""
    try:
        forecast = _forecast(job, inputs)
    except InputError:
        return None
    return forecast and Expected(forecast.time_s, forecast.cost_usd if job.backend.costs_money else None)


def forecast_line(forecast: Forecast) -> str:
    """A forecast in one line: time and dollars with their 80 % intervals, and what bounds it."""
    return (
        f"{forecast.shape}: {time_text(forecast.time_s)} ({time_text(forecast.low_s)} to "
        f"{time_text(forecast.high_s)}), "
        f"{dollars_text(forecast.cost_usd)} ({dollars_text(forecast.low_usd)} to {dollars_text(forecast.high_usd)}), "
        f"8 times in 10; bound by {forecast.bound}"
    )


def keep_forecast(run: Run, job: Job, inputs: Inputs) -> None:
    """Leave in a run directory what is forecast of the run, before it begins, if this machine has a profile of its
    experiment and there is a formula for its strategy.
    """
    from facesim.planning.jobs import forecast_of, record_of
    from facesim.planning.profiles import saved_profile

    try:
        profile = saved_profile(job, inputs)
        if profile is None:
            return
        forecast, kind = forecast_of(job, profile)
    except InputError:  # it is not what the user asked for
        return
    record_of(forecast, profile, kind).write(run.forecast_file)


def _forecast(job: Job, inputs: Inputs) -> Forecast | None:
    from facesim.planning.jobs import forecast_of
    from facesim.planning.profiles import saved_profile

    profile = saved_profile(job, inputs)
    return profile and forecast_of(job, profile)[0]


def _over_limits(job: Job, forecast: Forecast) -> Iterator[str]:
    from facesim.planning.notes import over_limits

    return over_limits(job, forecast.phases)


def _how(job: Job) -> str:
    from facesim.planning.profiles import how_to_have_one

    return how_to_have_one(job)

"""The job that measures an instance type: one process that trains for about three minutes, for some cents."""

from __future__ import annotations

import math

from facesim.forecast.model import Forecast
from facesim.forecast.profile_data import Profile
from facesim.planning.jobs import check_profile, forecast_of
from facesim.spec.job import Job
from facesim.spec.strategies import Single

#: Seconds of training that a speed is measured over.
TRAINING_S = 120.0

#: Slower than was forecast by that factor, and the job is ended: it would cost more than was said.
_MOST_TIMES = 4.0


def calibration_job(job: Job, profile: Profile) -> Job:
    """A job like `job`, by one process, for as many epochs as take about `TRAINING_S`, with a limit to what it costs.

    Raises:
        InputError: the profile is of another experiment, or nobody knows how fast the instance is at all.
    """
    check_profile(profile, job, "the profile")
    single = job.model_copy(
        update={"strategy": Single(), "experiment": job.experiment.model_copy(update={"epochs": 1})}
    )
    one = forecast_of(single, profile)[0]
    epoch_s = max(one.phases.training_s, 1e-3)
    epochs = max(1, round(TRAINING_S / epoch_s))
    experiment = single.experiment.model_copy(update={"epochs": epochs, "evaluate_every": epochs})
    limited = single.model_copy(update={"experiment": experiment, "max_run_s": _limit_s(one, epochs * epoch_s)})
    return Job.model_validate(limited.model_dump())


def _limit_s(one: Forecast, training_s: float) -> float:
    """Of billed seconds: what is forecast, several times."""
    around_s = one.phases.billed_s - one.phases.training_s
    return float(math.ceil(_MOST_TIMES * (training_s + around_s) / 60) * 60)

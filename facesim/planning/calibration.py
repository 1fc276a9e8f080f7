"""The job that measures an instance type: one process that trains for about two minutes, for some cents."""

from __future__ import annotations

import math

import numpy as np

from facesim.forecast.constants import constants
from facesim.forecast.hosts import host
from facesim.forecast.profile_data import Profile
from facesim.planning.learning import measured_update_s, outside_of
from facesim.planning.notes import check_profile
from facesim.planning.profiles import how_to_have_one
from facesim.planning.quantities import time_text
from facesim.planning.saved import instances_file, outside_file, save_outside, save_speeds, saved_hosts
from facesim.preflight.inputs import prepare_data
from facesim.runs.records import Result
from facesim.spec.job import Job
from facesim.spec.strategies import Single
from facesim.spec.subset import EVERYTHING, Subset
from facesim.util.errors import InputError
from facesim.util.words import count_text

#: Seconds of training that a speed is measured over.
TRAINING_S = 120.0

#: A job that is slower than was assumed by this factor is ended: it would cost more than was forecast.
_MOST_TIMES = 4.0


def calibration_job(job: Job, profile: Profile) -> Job:
    """A job like `job`, by one process, for as many epochs as take about `TRAINING_S`, with a limit to what it costs.

    Raises:
        InputError: the profile is of another experiment or was measured on a busy machine, the instance type is not
            known, or an epoch takes much longer than `TRAINING_S`.
    """
    check_profile(profile, job, "the profile")
    if profile.disturbed:
        raise InputError(
            "the machine was disturbed while it was profiled, and the speed of a type, which is held against it, would "
            f"be as little sure: measure it again with nothing else to do, {how_to_have_one(job)} --fresh, or give "
            "--profile of another machine"
        )
    kind = host(job.shape.instance_type, saved_hosts())
    # Of a type that nobody knows, a core may be worth one of the reference's: it decides how long the job is, only.
    ratio = (kind.relative_speed or kind.cores) / _speed_here(profile)
    updates = math.ceil(profile.examples / job.update_batch)
    epoch_s = updates * _step_s(job.update_batch, profile) / ratio
    if epoch_s > 2 * TRAINING_S and updates > 1:
        subset = _fitting_subset(job, int(profile.examples * TRAINING_S / epoch_s))
        raise InputError(
            f"an epoch of {count_text(profile.examples, 'training image')} takes about {time_text(epoch_s)} on "
            f"{kind.name}, and {time_text(TRAINING_S)} are enough to measure it: give --subset {subset}",
            field="subset",
            value=job.experiment.subset,
            remedy=f"--subset {subset}",
        )
    epochs = max(1, round(TRAINING_S / epoch_s))
    outside = constants("sagemaker_phases").values
    around_s = profile.fixed.to_first_step_s(False) / ratio + outside["download_s"] + outside["upload_s"]
    limit_s = math.ceil(_MOST_TIMES * (epochs * epoch_s + around_s) / 60) * 60
    experiment = job.experiment.model_copy(update={"epochs": epochs, "evaluate_every": epochs})
    changes = {"strategy": Single(), "experiment": experiment, "max_run_s": float(limit_s)}
    return Job.model_validate(job.model_copy(update=changes).model_dump())


def _fitting_subset(job: Job, examples: int) -> Subset:
    """A part of the job's images that trains on so many at the most: fewer of each person, or fewer people where two
    of each are too many.
    """
    images = examples // len(prepare_data(job, lambda *_: None).names)
    if images < 2:
        return Subset(identities=max(2, examples // 2), images=2)
    return Subset.parse(job.experiment.subset or EVERYTHING)._replace(images=images)


def learn_type(result: Result, job: Job, profile: Profile) -> tuple[float, dict[str, float], list[str]]:
    """Keep how fast a type is, and what surrounds a job there, from a measured run of `calibration_job`.

    The speed is in cores of the catalogue's reference: this machine's, times how much faster an update was.

    Returns:
        The speed, seconds outside of the script by name, the files that keep them.

    Raises:
        InputError: how long its updates took was not measured.
    """
    update_s = measured_update_s(result)
    if update_s is None:
        raise InputError(f"{result.run_id} did not measure how long its updates took: give it more --max-cost")
    kind = job.shape.instance_type
    speed = _speed_here(profile) * _step_s(job.update_batch, profile) / update_s
    save_speeds({kind: speed}, "facesim calibrate --instance-type, a job at AWS")
    files = [str(instances_file())]
    outside_s = outside_of([result])
    if outside_s:
        save_outside(outside_s)
        files.append(str(outside_file()))
    return speed, outside_s, files


def _speed_here(profile: Profile) -> float:
    return profile.machine.sgemm_gflops / constants("reference_core").values["sgemm_gflops"]


def _step_s(batch: int, profile: Profile) -> float:
    return float(profile.step_s(np.array(batch)))

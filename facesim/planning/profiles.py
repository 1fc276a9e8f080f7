"""Which profile a forecast is made from: the one of a file, or the newest that this machine has of the experiment."""

from __future__ import annotations

from pathlib import Path

from facesim.errors import InputError
from facesim.folders import cache_folder
from facesim.forecast.profile_data import Profile
from facesim.spec.job import Job


def profile_folder() -> Path:
    return cache_folder() / "profiles"


def saved_profile(job: Job) -> Profile | None:
    """The newest profile that this machine has of a job's experiment; None if there is none that can be used."""
    found = []
    for file in profile_folder().glob("*.json"):
        try:
            profile = Profile.load(file)
        except InputError:
            continue
        if (profile.model, profile.precision) == (job.experiment.model, job.experiment.precision):
            found.append((profile.batch == job.update_batch, profile.created, str(file), profile))
    return max(found, key=lambda each: each[:3])[-1] if found else None


def how_to_have_one(job: Job) -> str:
    """The command that makes a profile of a job's experiment."""
    experiment = job.experiment
    data = "" if experiment.data == "rendered" else f" --data {experiment.data}"
    return f"facesim profile{data} --model {experiment.model}"


def have_profile(job: Job, quiet: bool = False) -> Profile:
    """The profile of a job's experiment on this machine, measured now if there is none.

    Raises:
        InputError: there is none, and none can be measured.
    """
    profile = saved_profile(job)
    if profile is None:
        raise InputError(
            f"there is no profile of --model {job.experiment.model} on this machine: make one with "
            f"{how_to_have_one(job)}, or name a file with --profile"
        )
    return profile

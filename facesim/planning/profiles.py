"""Which profile a forecast is made from: that of this machine, of the job's experiment, with the job's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from facesim.forecast.profile_data import Profile
from facesim.planning.jobs import check_profile
from facesim.profiling.profile import SILENT, Watcher, profile_of
from facesim.profiling.profile import saved_profile as saved

if TYPE_CHECKING:
    from facesim.preflight.inputs import Inputs
    from facesim.spec.job import Job


def saved_profile(job: Job, inputs: Inputs) -> Profile | None:
    """The profile that this machine has of a job's experiment; None if there is none. Nothing is measured.

    Raises:
        InputError: what is kept in its place is of another network.
    """
    profile = saved(job, inputs)
    if profile is not None:
        check_profile(profile, job, "the profile that is kept of it")
    return profile


def have_profile(job: Job, watcher: Watcher = SILENT) -> Profile:
    """The profile of a job's experiment on this machine, measured now if there is none.

    Raises:
        InputError: the data cannot be used.
        FacesimError: a process that measures failed.
    """
    return profile_of(job, watcher=watcher)[0]


def how_to_have_one(job: Job) -> str:
    """The command that makes a profile of a job's experiment."""
    from facesim.spec.job import flat, options
    from facesim.spec.options import flag

    table, values = options(), flat(job)
    words = ["facesim profile"]
    for name in OF_THE_PROFILE:
        value = values.get(name)  # an option that its framework has not is not there
        if name in values and value != table[name].default:
            words.append(flag(name) if value is True else f"{flag(name)} {value}")
    return " ".join(words)


#: Options that a profile depends on and that its command names where they are not the default.
OF_THE_PROFILE = ("data", "framework", "recipe", "model", "head", "sample_rate", "image_size", "batch", "precision")

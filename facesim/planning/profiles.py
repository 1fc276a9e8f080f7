"""Which profile a forecast is made from: that of this machine, of the job's experiment, with the job's images."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from facesim.forecast.profile_data import Profile
from facesim.planning.notes import check_profile
from facesim.profiling.profile import MATTERS, SILENT, Watcher, profile_of
from facesim.profiling.profile import saved_profile as saved
from facesim.spec.experiment import Experiment
from facesim.spec.job import flat, options
from facesim.spec.options import flag

if TYPE_CHECKING:
    from facesim.preflight.inputs import Inputs
    from facesim.spec.job import Job

#: Options that decide which profile is a job's: what is measured, of which images.
OF_THE_PROFILE = (
    "data", "test", "split", "subset", "max_bad_files", "min_images", "image_feature", "label_feature", "framework",
    "recipe", "image_size", "channels", *MATTERS, "sample_rate", "kernels",
)  # fmt: skip


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
    """The command that makes a profile of a job's experiment, with what is not as usual for its recipe."""
    asked, experiment = flat(job), job.experiment
    usual = {name: one.default for name, one in options().items()}
    usual |= Experiment(recipe=experiment.recipe).model_dump(exclude={"recipe"})
    names = [*OF_THE_PROFILE, *(["seed"] if experiment.subset else [])]  # the seed chooses the subset
    # An option that its framework has not is not there.
    others = [_word(name, asked[name]) for name in names if name in asked and asked[name] != usual[name]]
    return " ".join(["facesim profile", *others])


def _word(name: str, value: object) -> str:
    if isinstance(value, bool):
        return flag(name if value else f"no_{name}")
    return f"{flag(name)} {shlex.quote(str(value))}"

"""The forecast of a job, as a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.api.runs import Run
from facesim.api.study import Study
from facesim.spec.options import as_in_python
from facesim.util.errors import InputError
from facesim.util.folders import RUNS, local_path

if TYPE_CHECKING:
    from facesim.forecast.profile_data import Profile


def forecast(
    strategy: str = "single",
    *,
    profile: Profile | Path | str | None = None,
    backend: str = "sagemaker",
    output: Path | str = RUNS,
    seed: int = 0,
    **given: Any,
) -> Run:
    """What a job will take, without running it: a run whose numbers are all forecast, and are marked so.

    `compare` shows it beside others; its `forecast` has time by phase, dollars, 80 % intervals, and what was assumed.

    Args:
        strategy: how replicas train together.
        profile: what was measured on one machine, or the file that it is in; left out, that of this machine, which is
            measured now, in a few minutes, if there is none yet.
        backend: where it would run.
        output: the folder in which the run gets a directory.
        given: any other option of a job, such as `workers` and `instance_type`; what is left out of its experiment is
            as in the `profile`, if there is one.

    Raises:
        InputError: something that was given cannot be used, or cannot be forecast.
    """
    from facesim.forecast.profile_data import Profile
    from facesim.planning.jobs import Asked, write_forecasts
    from facesim.planning.notes import check_profile, data_notes, data_options, with_options_of
    from facesim.planning.profiles import have_profile

    where, notes = None, []
    with as_in_python():
        if profile is not None:
            where = "the profile" if isinstance(profile, Profile) else f"the profile {profile}"
            profile = profile if isinstance(profile, Profile) else Profile.load(local_path(profile))
            notes = data_notes(profile, where, data_options(given))
            given = with_options_of(profile, where, given)
    study = Study(strategy=strategy, backend=backend, seeds=[seed], **given)
    with as_in_python():
        if len(jobs := study.jobs()) > 1:
            raise InputError(f"a forecast is of one job: give one value of {', '.join(study.axes)}")
        (job,) = jobs
        profile = profile or have_profile(job)
        check_profile(profile, job, where or "the profile of this machine")
        (run,) = write_forecasts([Asked(job, profile, notes)], local_path(output), where=where)
    return Run(run)

"""An instance type, measured by a job of its own: run, and learnt from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from facesim.forecast.profile_data import Profile
from facesim.planning.calibration import calibration_job, learn_type
from facesim.runs.directory import Run
from facesim.runs.states import Measurement, RunState
from facesim.spec.job import Job
from facesim.study.observers import Observer
from facesim.study.runner import dry_run, run_study


class Calibration(NamedTuple):
    """What a type's job showed. `speeds` are in cores of the catalogue's reference, `outside_s` seconds outside of the
    script; `notice` says why nothing was learnt from a run that completed.
    """

    run: Run
    completed: bool
    speeds: dict[str, float]
    outside_s: dict[str, float]
    kept: list[str]
    notice: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        learnt = {"speeds": self.speeds, "outside_s": self.outside_s} if self.notice is None else {}
        noticed = {} if self.notice is None else {"notice": self.notice}
        return {"run_directory": str(self.run.directory), **learnt, "kept": self.kept, **noticed}


def what_calibrates(job: Job, profile: Profile, output: Path) -> dict[str, Any]:
    """The request of the job that measures `job`'s instance type, and what it may cost; starts nothing.

    Raises:
        InputError: it would be refused.
    """
    return dry_run([calibration_job(job, profile)], output)


def calibrate_type(job: Job, profile: Profile, output: Path, observers: Iterable[Observer] = ()) -> Calibration:
    """Measure the instance type of `job` with a run of some minutes, and keep what later forecasts learn from it.

    Raises:
        InputError: the job is refused, or did not measure how long its updates took.
    """
    measuring = calibration_job(job, profile)
    (run,) = run_study([measuring], output, observers)
    result, kind = run.result(), job.shape.instance_type
    if result is None or result.state is not RunState.COMPLETED:
        return Calibration(run, False, {}, {}, [])
    if result.measurement is not Measurement.MEASURED:
        notice = f"the numbers are {result.measurement}: nothing is learnt of {kind} from them"
        return Calibration(run, True, {}, {}, [], notice)
    if result.disturbances:
        notice = f"the run was disturbed: {' and '.join(result.disturbances)}; nothing is learnt of {kind} from it"
        return Calibration(run, True, {}, {}, [], notice)
    speed, outside_s, files = learn_type(result, measuring, profile)
    return Calibration(run, True, {kind: speed}, outside_s, files)

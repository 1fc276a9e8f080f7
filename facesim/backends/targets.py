"""From what a user names to the run that is meant, and the runs of a folder."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from facesim.backends.base import Status, Target
from facesim.backends.watching import status
from facesim.runs.directory import Run, find_runs
from facesim.runs.states import Measurement
from facesim.spec.backends import BACKENDS, BackendSpec
from facesim.spec.job import make_job
from facesim.util.errors import FacesimError, InputError

#: What a backend with a list of its own calls a run: SageMaker's rule, and many others'.
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")


def find_target(named: str, options: dict[str, str] | None = None) -> Target:
    """The run that `named` means: a run directory, or else the name that a backend gave it which keeps its own list.

    `options` are of that backend, such as its region, in place of those that the run was submitted with.

    Raises:
        InputError: it is neither, or a forecast, or the backend does not have such an option.
    """
    if _is_run(named):
        run = Run.open(Path(named))
        if _is_forecast(run):
            raise InputError(
                f"{named} is a forecast: nobody ran it; `facesim show` and `facesim report` say what it has"
            )
        return Target(with_options(run.job().backend, options or {}), run.id, run)
    if not _NAME.fullmatch(named) or os.path.lexists(named):
        raise InputError(
            f"{named!r} is not a run directory: it has no job.json; `facesim list` shows the runs of a folder"
        )
    return Target(keeper(options), named)


def keeper(options: dict[str, str] | None = None) -> BackendSpec:
    """The backend that is asked for what has no run directory here: the first that keeps a list of its own."""
    for name in BACKENDS:
        if BACKENDS[name].can_attach:
            return with_options(BACKENDS[name](), options or {})
    raise InputError("there is no backend that keeps a list of its own; name a run directory")


def in_words(target: Target, error: FacesimError) -> FacesimError:
    """An error about a target that may have been meant as a directory: says what it was taken for."""
    if target.run is not None or not isinstance(error, InputError):
        return error
    return InputError(
        f"there is no run directory {target.name}, and {target.backend.name} could not be asked for it: {error}"
    )


def runs_of(folder: Path, backend: str | None = None) -> tuple[list[Status], list[str]]:
    """How the runs in and below a folder are, in order of their names, those of one backend or of all; and what is
    wrong with those that cannot be read, in words.

    Raises:
        InputError: there is no such folder.
    """
    try:
        runs = find_runs([folder])
    except InputError:
        if not os.path.isdir(folder):
            raise
        return [], []  # it holds none
    statuses: list[Status] = []
    damaged: list[str] = []
    for run in runs:
        try:
            spec = run.job().backend
            if backend in (None, spec.name):
                statuses.append(_seen_from_here(run, status(Target(spec, run.id, run))))
        except InputError as error:
            damaged.append(str(error))
    return statuses, damaged


def may_go_on_at(run: Run) -> str | None:
    """The backend that may still run what was submitted to it; None where there is none.

    Raises:
        InputError: what the run left cannot be read.
    """
    backend = run.job().backend
    submitted = backend.can_attach and run.plan_file.exists() and run.result() is None
    return backend.name if submitted else None


def _seen_from_here(run: Run, seen: Status) -> Status:
    """The status of a run by its directory alone, which does not tell whether it goes on elsewhere."""
    place = None if seen.running else may_go_on_at(run)
    if place is None:
        return seen
    note = f"{run.directory} may still be run, and billed, at {place}: `facesim status {run.directory}` asks there"
    return replace(seen, running=None, notes=(note,))


def _is_run(named: str) -> bool:
    try:
        return bool(named) and os.path.lexists(Path(named) / "job.json")
    except (OSError, ValueError):
        return False


def _is_forecast(run: Run) -> bool:
    try:
        result = run.result()
    except InputError:  # who asks the backend may not need it
        return False
    return result is not None and result.measurement is Measurement.FORECAST


def with_options(backend: BackendSpec, options: dict[str, str]) -> BackendSpec:
    """A backend with other options.

    Raises:
        InputError: it does not have such an option, or the value is not allowed.
    """
    for name in options:
        if name not in type(backend).model_fields:
            raise InputError(f"--{name.replace('_', '-')} means nothing to --backend {backend.name}; leave it out")
    if not options:
        return backend
    settings = backend.model_dump(exclude={"name"}, exclude_defaults=True)
    return make_job(backend=backend.name, **{**settings, **options}).backend

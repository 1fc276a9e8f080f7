"""What a study has to do: a job that has completed before is not repeated, and one that began goes on.

A run is that of a job if both say the same (`facesim.spec.job.job_sha256`), it was trained on the same images, and it
began with the same network, if with one, and had spot capacity by the same file, if by one; one that has completed on
another machine says nothing about times on this one, and is not taken for it.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from facesim.backends.base import Target
from facesim.billing.market import capacity_sha256
from facesim.metrics.machine import machine, packages_here
from facesim.planning.expectations import Expected, expected, forecast_lines
from facesim.planning.quantities import dollars_text, time_text
from facesim.preflight.checks import Planned, preflight
from facesim.preflight.inputs import Inputs, prepare_all
from facesim.runs.accounting import of_kind
from facesim.runs.directory import Run, find_runs
from facesim.runs.events import Submitted
from facesim.runs.records import Result
from facesim.runs.states import Measurement, RunState
from facesim.spec.job import Job, flat, job_sha256
from facesim.spec.remote import remote
from facesim.util.errors import InputError
from facesim.util.words import count_text


class Fate(str, Enum):
    """What becomes of a job of a study."""

    NEW = "to run"
    GOES_ON = "continues"
    FOLLOWED = "to follow"  # it was submitted, and goes on, or has ended, without the command that submitted it
    COMPLETE = "complete"


@dataclass(frozen=True, eq=False)
class Due:
    """A job of a study.

    Attributes:
        name: what tells it from the others.
        directory: of its run.
        expected: what it is forecast to take; None where nothing is to be run, or nobody knows.
        cleared: what would run it; None where nothing is to be run.
    """

    name: str
    job: Job
    directory: Path
    fate: Fate
    expected: Expected | None = None
    cleared: Planned | None = None


@dataclass(frozen=True, eq=False)
class StudyPlan:
    """The jobs of a study in their order, and in words what a user should know before, what they can cost, and what
    they are forecast to.
    """

    dues: tuple[Due, ...]
    notices: tuple[str, ...] = ()
    estimate: str = ""
    forecasts: tuple[str, ...] = ()

    @property
    def to_do(self) -> tuple[Due, ...]:
        return tuple(due for due in self.dues if due.fate is not Fate.COMPLETE)


def plan_study(
    jobs: Sequence[Job],
    output: Path,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    *,
    reuse: bool = False,
    since_unix_s: float | None = None,
    to_run: bool = True,
) -> StudyPlan:
    """Look what is there of each job, with `reuse`, of runs that began since then, and make ready what is not. Starts
    nothing. `to_run` as of `preflight`.

    Raises:
        InputError: something that was given cannot be used, or a run of the study is being run by somebody else.
    """
    damaged: list[str] = []
    earlier = _earlier(jobs, output, progress, damaged, since_unix_s) if reuse else {}
    names, stamp = job_names(jobs), _stamp()
    drafts = []
    for name, job in zip(names, jobs, strict=True):
        directory, fate = earlier.get(job_sha256(job), (output / f"{stamp}-{name}", Fate.NEW))
        drafts.append(Due(name, job, directory, fate))
    waiting = [due for due in drafts if due.fate in (Fate.NEW, Fate.GOES_ON)]
    cleared = preflight([due.job for due in waiting], [due.directory for due in waiting], progress, to_run=to_run)
    ready = {planned.directory: planned for planned in cleared.planned}
    dues = []
    for due in drafts:
        planned = ready.get(due.directory)
        expectation = expected(planned.job, planned.inputs) if planned and planned.inputs else None
        dues.append(Due(due.name, due.job, due.directory, due.fate, expectation, planned))
    with_inputs = [(planned.job, planned.inputs) for planned in cleared.planned if planned.inputs]
    forecasts = forecast_lines([job for job, _ in with_inputs], [inputs for _, inputs in with_inputs])
    estimate = "; ".join(cleared.notices.pop("cost", []))
    notices = (*damaged, *cleared.all_notices(), *_notices_on_unseen(dues))
    return StudyPlan(tuple(dues), notices, estimate, tuple(forecasts))


def _notices_on_unseen(dues: Sequence[Due]) -> Iterator[str]:
    """What is not run again although nobody looked whether its data is still the same."""
    data = (due.job.experiment.data for due in dues if due.fate is Fate.COMPLETE)
    for address in dict.fromkeys(text for text in data if remote(text)):
        yield (
            f"{address}: whether the images have changed since runs on it completed cannot be known here; they are not "
            "run again without --again"
        )


#: More jobs are not listed.
_LISTED = 40


def plan_lines(plan: StudyPlan) -> list[str]:
    """What a study has to do, in lines: the number of jobs, time and cost where these are forecast, and each job."""
    order = (Fate.COMPLETE, Fate.FOLLOWED, Fate.GOES_ON, Fate.NEW)
    counts = {fate: sum(due.fate is fate for due in plan.dues) for fate in order}
    parts = [f"{number} {fate.value}" for fate, number in counts.items() if number]
    expectations = [due.expected for due in plan.to_do if due.expected]
    if expectations:
        parts.append(f"{time_text(sum(expectation.time_s for expectation in expectations))} one after another")
        costs = [expectation.cost_usd for expectation in expectations if expectation.cost_usd is not None]
        parts += [dollars_text(sum(costs))] if costs else []
        parts.append(
            "as forecast"
            if len(expectations) == len(plan.to_do)
            else f"as forecast of {len(expectations)} of them; of the others not"
        )
    lines = [f"plan: {count_text(len(plan.dues), 'job')}: {', '.join(parts)}"]
    width = max(len(due.name) for due in plan.dues)
    for number, due in enumerate(plan.dues[:_LISTED], 1):
        expectation = due.expected
        forecast = "" if expectation is None else f"  {time_text(expectation.time_s)}"
        if expectation is not None and expectation.cost_usd is not None:
            forecast += f", {dollars_text(expectation.cost_usd)}"
        where = "" if due.fate is Fate.NEW else f"  {due.directory}"
        lines.append(f"  {number:3}  {due.name:{width}}  {due.fate.value}{forecast}{where}")
    left = len(plan.dues) - _LISTED
    return [*lines, f"  and {left} more"] if left > 0 else lines


def _earlier(
    jobs: Sequence[Job],
    output: Path,
    progress: Callable[[str, int, int], None],
    damaged: list[str],
    since_unix_s: float | None,
) -> dict[str, tuple[Path, Fate]]:
    """The runs in `output` by the identity of their jobs: the newest that has completed, else the newest that has not.
    What is wrong with those that cannot be read comes into `damaged`.

    Raises:
        InputError: one that has not completed is being run by somebody; or the data cannot be used.
    """
    by_key = {job_sha256(job): job for job in jobs}
    runs_by_key = runs_by_job(by_key, output, lambda error: damaged.append(f"left out: {error}"), since_unix_s)
    inputs = dict(zip(runs_by_key, prepare_all([by_key[key] for key in runs_by_key], progress), strict=True))
    chosen: dict[str, tuple[Path, Fate]] = {}
    for key, runs in runs_by_key.items():
        complete = [run for run, result in runs if result and result.state is RunState.COMPLETED]
        same = [
            run
            for run, result in runs
            if run in complete
            and _is_on(result, inputs[key])
            and _began_with(run, inputs[key])
            and _had_capacity_of(run, by_key[key])
            and _is_from_here(result, by_key[key])
        ]
        unfinished = [
            (run, result)
            for run, result in runs
            if run not in complete
            and _may_be_on(result, inputs[key])
            and _began_with(run, inputs[key], unknown=True)
            and _had_capacity_of(run, by_key[key])
        ]
        if same:
            chosen[key] = same[-1].directory, Fate.COMPLETE
        elif unfinished:
            run, result = unfinished[-1]
            if (look := run.claim.look()).held:
                raise InputError(
                    f"{run.directory} is of this study, and is being run by {look.names()}: wait for it, or stop it "
                    f"(facesim cancel {run.directory})"
                )
            chosen[key] = run.directory, Fate.FOLLOWED if result is None and can_be_followed(run) else Fate.GOES_ON
    return chosen


def can_be_followed(run: Run) -> bool:
    """Whether a run that has no result goes on elsewhere, or has ended there, so that following it brings it home.

    Raises:
        FacesimError: nobody can tell.
    """
    backend = run.job().backend
    return backend.can_attach and backend.open().can_follow(Target(backend, run.id, run))


def runs_by_job(
    keys: Collection[str],
    folder: Path,
    left_out: Callable[[InputError], None],
    since_unix_s: float | None = None,
) -> dict[str, list[tuple[Run, Result | None]]]:
    """The runs in and below a folder that began since then, with their results, oldest first, by the identities of
    their jobs, which are among `keys`.

    Forecasts are no runs. What cannot be read is left out: `left_out` hears what is wrong with it, where its job is
    known.
    """
    grouped: dict[str, list[tuple[Run, Result | None]]] = {}
    try:
        runs = find_runs([folder])
    except InputError:  # there are none
        return grouped
    for run in runs:
        try:
            key = job_sha256(run.job())
        except InputError:
            continue
        if key not in keys:
            continue
        try:
            if since_unix_s is not None and not _began_since(run, since_unix_s):
                continue
            result = run.result()
        except InputError as error:
            left_out(error)
            continue
        if result is None or result.measurement != Measurement.FORECAST:
            grouped.setdefault(key, []).append((run, result))
    return grouped


def _began_since(run: Run, since_unix_s: float) -> bool:
    events = run.events()
    return bool(events) and events[0].time_unix_s >= since_unix_s


def _is_on(result: Result | None, inputs: Inputs) -> bool:
    """Whether a run was trained on the images that a job has now, as far as these are known here."""
    return result is not None and inputs.data.sha256 in (None, result.data.content_sha256)


def _began_with(run: Run, inputs: Inputs, unknown: bool = False) -> bool:
    """Whether a run began with the network that `--pretrained` names now; `unknown` where it did not record that."""
    if inputs.pretrained is None:
        return True
    try:
        outcome = run.outcome()
    except InputError:
        return False
    return unknown if outcome is None else outcome.pretrained_sha256 == inputs.pretrained.name


def _had_capacity_of(run: Run, job: Job) -> bool:
    """Whether a run's spot capacity came and went by the file that the job names now, as far as the run recorded it."""
    if job.spot is None or job.backend.owns_capacity:
        return True
    try:
        recorded = {submission.capacity_sha256 for submission in of_kind(run.events(), Submitted)}
    except InputError:
        return False
    return recorded <= {None, capacity_sha256(job.spot)}


#: What of `facesim.metrics.machine` decides how long a training takes, and with what it was made, whatever computes.
_OF_THE_MACHINE = ("cpu_model", "cpu_count", "tensorflow", "keras", "facesim")


def _is_from_here(result: Result | None, job: Job) -> bool:
    """Whether a run's times are of this machine and these versions, where it is this machine that trains."""
    if result is None or job.backend.costs_money:
        return True
    packages = packages_here(job)
    try:
        here = machine(packages)
    except PackageNotFoundError:  # which is told where something is to be run
        return False
    return all(result.machine.get(name, here[name]) == here[name] for name in (*_OF_THE_MACHINE, *packages))


def _may_be_on(result: Result | None, inputs: Inputs) -> bool:
    """Whether nothing says that a run, which has not completed, was trained on other images than a job has now."""
    return result is None or result.data.content_sha256 is None or _is_on(result, inputs)


#: What a name of a job says of it in any case.
_IN_EVERY_NAME = ("strategy", "subset", "seed")

#: More characters of an option are not put into a name.
_NAME_LENGTH = 30


def job_names(jobs: Sequence[Job]) -> list[str]:
    """A name for each job, none twice: its strategy, its subset, what else makes it unlike others, and its seed."""
    job_options = [{name: value for name, value in flat(job).items() if name not in _IN_EVERY_NAME} for job in jobs]
    values: dict[str, set[str]] = {}
    for options in job_options:
        for option, value in options.items():
            values.setdefault(option, set()).add(str(value))
    names: list[str] = []
    for job, options in zip(jobs, job_options, strict=True):
        parts = [job.strategy.name, *([job.experiment.subset] if job.experiment.subset else [])]
        parts += [f"{option}{value}" for option, value in options.items() if len(values[option]) > 1]
        short = [re.sub("[^A-Za-z0-9-]+", "", part.replace(",", "-"))[:_NAME_LENGTH] for part in parts]
        name = "-".join([*short, f"seed{job.experiment.seed}"])
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def _stamp() -> str:
    return time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)

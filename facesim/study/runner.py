"""A study: several jobs, one after another or some at the same time, each leaving a run directory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cluster.failure import last_lines, why_failed
from cluster.processes import NODE
from facesim.backends.base import Attached, Execution, Request, Target
from facesim.backends.lifecycle import lifecycle_of
from facesim.billing.bill import submitted
from facesim.billing.market import capacity_sha256
from facesim.planning.expectations import keep_forecast
from facesim.preflight.checks import preflight
from facesim.runs.accounting import spent_s
from facesim.runs.directory import Run
from facesim.runs.events import (
    Emulated,
    Event,
    Hung,
    LimitExceeded,
    NodeEnded,
    NodeStarted,
    NotConnected,
    Recovering,
    StateEntered,
    Submitted,
    TaskEnded,
    TaskFailed,
    event_of,
)
from facesim.runs.messages import hung
from facesim.runs.records import Result
from facesim.runs.states import Measurement, Outcome, RunState
from facesim.spec.job import Job, changed_job, job_sha256
from facesim.spec.options import flag
from facesim.study.interrupts import Interrupts
from facesim.study.job_pool import JobPool, places_for
from facesim.study.observers import EndRun, Observer, Together
from facesim.study.plan import Due, Fate, plan_study
from facesim.study.result import finish
from facesim.util.disk import is_full, no_room, release, writing_to
from facesim.util.errors import FacesimError, InputError, Lost, StillRunning
from facesim.util.words import count_text

_TICK_S = 0.25
_GO_ON = "make room there, then continue with `facesim run --resume RUN`"


def dry_run(jobs: list[Job], output: Path, *, reuse: bool = False, since_unix_s: float | None = None) -> dict[str, Any]:
    """What the study would run, as plain data: each run's directory, job, data, exact request and files; what a user
    should know before; and what it can cost, where it costs something. Starts nothing.

    Raises:
        InputError: the study would be refused.
    """
    plan = plan_study(jobs, output, reuse=reuse, since_unix_s=since_unix_s, to_run=False)
    runs = [
        {
            "run_directory": str(planned.directory),
            "job": planned.job.model_dump(),
            "data": str(planned.inputs.data.directory),
            "request": json.loads(planned.request.to_json()),
            "files": Run.files(),
        }
        for planned in (due.cleared for due in plan.to_do)
        if planned and planned.inputs and planned.request
    ]
    complete, followed = (
        [str(due.directory) for due in plan.dues if due.fate is fate] for fate in (Fate.COMPLETE, Fate.FOLLOWED)
    )
    return {
        "runs": runs,
        "notices": list(plan.notices),
        **({"complete": complete} if complete else {}),
        **({"followed": followed} if followed else {}),
        **({"estimate": plan.estimate} if plan.estimate else {}),
        **({"forecast": list(plan.forecasts)} if plan.forecasts else {}),
    }


def run_study(
    jobs: list[Job],
    output: Path,
    observers: Iterable[Observer] = (),
    *,
    reuse: bool = False,
    since_unix_s: float | None = None,
    parallel: int = 1,
    kept: ExitStack | None = None,
) -> list[Run]:
    """Run the jobs, `parallel` of them at the same time, and tell the `observers`. The runs in the order of the jobs.
    What is loaded for them stays until the last has ended or, for further studies, until `kept` is closed.

    With `reuse` a job that has completed in `output` before, or `since_unix_s`, is not run again, and one that began
    there goes on. A run that fails, or cannot begin, does not keep the next from being run; one that is stopped does. A
    run that cannot be followed any more is a notice, and has no result.

    Raises:
        InputError: something that the user gave cannot be used; then nothing has been started.
        FacesimError: no run could begin.
    """
    observer = Together(observers)
    places_for(jobs, parallel)  # what is refused is refused before anything is prepared
    plan = plan_study(jobs, output, observer.preparing, reuse=reuse, since_unix_s=since_unix_s)
    for notice in (*plan.notices, *([plan.estimate] if plan.estimate else []), *plan.forecasts):
        observer.noticed(notice)
    observer.planned(plan)
    to_do = [due.job for due in plan.to_do]
    again = _choose_kernels(to_do, observer)
    pool = JobPool(places_for(to_do, min(parallel, max(1, len(to_do)))))
    interrupts = Interrupts(pool)
    with ExitStack() as until_end:
        if pool.size > 1:
            until_end.enter_context(interrupts)

        def run_job(due: Due, position: int) -> Run | None:
            return _Job(due, position, len(jobs), pool, again, kept or until_end).run(observer)

        ended = pool.each(plan.dues, run_job)
    if interrupts.heard:
        observer.interrupted()
    if pool.left:  # whoever stopped a run elsewhere, in AWS' console or another terminal, may not expect it
        observer.noticed(
            f"a run that is stopped ends its study; not run: {len(pool.left)} of {count_text(len(jobs), 'job')}"
        )
    if not any(ended) and pool.problems:
        raise pool.problems[0]
    return [run for run in ended if run]


class _Removed(FacesimError):
    """There is no directory any more that a run could end in."""


class _Job:
    """One job of a study, from its begin to its end."""

    def __init__(self, due: Due, position: int, jobs: int, pool: JobPool, again: bool, kept: ExitStack):
        self._due, self._position, self._jobs, self._pool, self._kept = due, position, jobs, pool, kept
        # Rendered again where it has only a part of this machine: how many threads it has follows from that.
        self._again = (again or pool.size > 1) and not due.job.backend.elsewhere

    def run(self, observer: Observer) -> Run | None:
        """The run, however it ended; None if there is none."""
        due, pool = self._due, self._pool
        if due.fate is Fate.COMPLETE or pool.stopped:
            if due.fate is not Fate.COMPLETE:
                pool.left.append(due.name)
            return Run(due.directory) if due.fate is not Fate.NEW else None
        try:
            request = self._request()
            if due.fate is not Fate.FOLLOWED:
                loaded = due.job.backend.open().loaded(due.job, request)
                self._kept.enter_context(loaded)  # before the run's time begins
            run = self._begin(observer)
            if due.fate is Fate.GOES_ON and self._completed_meanwhile(run):
                pool.turns(observer).noticed(f"{due.name} was completed by another command: {run.directory}")
                pool.turns(observer).given_up(due.directory)
                return run
        except FacesimError as error:
            pool.problems.append(error)
            pool.turns(observer).noticed(f"{due.name} cannot begin: {error}")
            pool.turns(observer).given_up(due.directory)
            return None
        observer = pool.turns(observer, run)
        try:
            result = self._to_its_end(run, request, observer)
        except Lost as lost:
            observer.noticed(str(lost))
            observer.given_up(due.directory)
            return run
        except _Removed as error:
            pool.problems.append(error)
            observer.noticed(str(error))
            observer.given_up(due.directory)
            return None
        pool.stopped = pool.stopped or result.state is RunState.STOPPED
        return run

    def _request(self) -> Request | None:
        due, planned = self._due, self._due.cleared
        if due.fate is Fate.FOLLOWED:
            return None
        assert planned is not None and planned.inputs is not None, "what is to be run was cleared"
        if self._again:
            return due.job.backend.open().render(due.job, due.directory, planned.inputs)
        return planned.request

    def _begin(self, observer: Observer) -> Run:
        due = self._due
        if due.fate is Fate.NEW:
            assert due.cleared is not None and due.cleared.inputs is not None, "what is to be run was cleared"
            run = Run.create(due.directory, due.job)
            keep_forecast(run, due.job, due.cleared.inputs)  # before it begins: what it then takes is held against that
            return run
        run = Run.open(due.directory)
        if gone := run.claim.take():
            self._pool.turns(observer).noticed(gone)
        return run

    def _completed_meanwhile(self, run: Run) -> bool:
        """Whether another command has completed the run since this study was planned; it is let go of then.

        Raises:
            InputError: it did so with other options, so that the run is another job's now.
        """
        with ExitStack() as unless_it_goes_on:
            unless_it_goes_on.callback(run.claim.release)
            result = run.result()
            if result is None or result.state is not RunState.COMPLETED:
                unless_it_goes_on.pop_all()
                return False
            if job_sha256(run.job()) != job_sha256(self._due.job):
                raise InputError(
                    f"{run.directory} was completed by another command, with other options; repeat this command: it "
                    "then begins a new run"
                )
            return True

    def _to_its_end(self, run: Run, request: Request | None, observer: Observer) -> Result:
        due = self._due
        if due.fate is Fate.FOLLOWED:
            try:
                attached = _attached(due.job, run)
            except FacesimError as error:  # of this one alone: the others have what they need
                run.claim.release()
                raise Lost(f"{due.name} cannot be followed: {error}") from error
            return attach(attached, [observer], self._position, self._jobs, self._pool)
        if due.fate is Fate.GOES_ON:
            run.reopen(due.job)
        observer.started(run, self._position, self._jobs)
        result = _execute(due.job, run, request, observer, self._pool)
        observer.ended(run, result)
        return result


def follow(run: Run, observers: Iterable[Observer] = ()) -> Result:
    """Follow a run that goes on elsewhere, or ended there (`can_be_followed`), until it is home; returns its result.

    Raises:
        StillRunning: it goes on, and is not followed any more.
        InputError: it cannot be followed, or ended without a result.
    """
    return attach(_attached(run.job(), run), observers)


def _attached(job: Job, run: Run) -> Attached:
    return job.backend.open().attach(Target(job.backend, run.id, run), run.directory.parent)


def resume(run: Run, changes: dict[str, Any], observers: Iterable[Observer] = ()) -> Run:
    """Go on with a run that did not complete, from its newest checkpoint, with what `changes` of its options.

    Raises:
        InputError: the run cannot be continued, or not with these changes; nothing has been changed then.
    """
    observer = Together(observers)
    if gone := run.claim.take():
        observer.noticed(gone)
    try:
        return _resume(run, changes, observer)
    finally:
        run.claim.release()


def _resume(run: Run, changes: dict[str, Any], observer: Observer) -> Run:
    before = run.job()
    job = changed_job(before, changes)
    result = run.result()
    if result and result.state is RunState.COMPLETED:
        raise InputError(f"{run.directory} has completed: there is nothing left to train; start a new run")
    cleared = preflight([job], [run.directory], observer.preparing)
    for notice in cleared.all_notices():
        observer.noticed(notice)
    (planned,) = cleared.planned
    request = planned.request
    if _choose_kernels([job], observer) and planned.inputs:
        request = job.backend.open().render(job, run.directory, planned.inputs)
    with job.backend.open().loaded(job, request):
        run.reopen(job)
        observer.started(run, 1, 1)
        observer.ended(run, _execute(job, run, request, observer))
    return run


def _choose_kernels(jobs: Sequence[Job], observer: Observer) -> bool:
    """Have backends choose kernels where that is left to be done: after all checks, for it takes some seconds. Whether
    any did, so that requests have to be rendered again.
    """
    by_backend: dict[str, list[Job]] = {}
    for job in jobs:
        by_backend.setdefault(job.backend.name, []).append(job)
    choices = [
        backend_jobs[0].backend.open().choose_kernels(backend_jobs, observer.noticed)
        for backend_jobs in by_backend.values()
    ]
    return any(choices)


def _execute(job: Job, run: Run, request: Request | None, observer: Observer, pool: JobPool | None = None) -> Result:
    """Submit, follow to the end, and write the result, whatever happens on the way.

    The job is the one that was asked for, not as it is written in the run: its backend may be no registered one.
    """
    assert request is not None, "what was cleared has a request"
    beside = pool.size - 1 if pool and not job.backend.elsewhere else 0
    backend = job.backend.open()
    begin = {
        "shape": job.shape.model_dump(), "framework": job.framework, "beside": beside or None,
        "capacity_sha256": None if job.backend.owns_capacity else capacity_sha256(job.spot),
    }  # fmt: skip
    run.record(Submitted(**begin, kernels=backend.kernels(job), **submitted(job.groups, job.spot)))
    try:
        execution = lifecycle_of(backend, run, request)
    except FacesimError as error:  # such as of a file of spot capacity that is not there any more
        return _finish(run, NodeEnded(outcome=Outcome.FAILED, reason=str(error)), _Causes())
    return _follow(run, execution, observer, pool)


def attach(
    attached: Attached,
    observers: Iterable[Observer] = (),
    position: int = 1,
    jobs: int = 1,
    pool: JobPool | None = None,
) -> Result:
    """Follow a run that somebody else submitted to its end, if it has not ended; returns its result.

    Raises:
        StillRunning: it goes on, and is not followed any more.
        InputError: it ended without a result.
    """
    run, execution, observer = attached.run, attached.execution, Together(observers)
    if execution is not None and attached.recorded:
        _show(run, execution, observer)
    elif execution is not None:
        observer.started(run, position, jobs)
        _follow(run, execution, observer, pool)
    result = run.result()
    assert result is not None, "a run that was followed to its end has one"
    if execution is None:
        run.claim.release()  # nothing is done to it, while a study may go on for long
    else:
        observer.ended(run, result)
    return result


def _show(run: Run, execution: Execution, observer: Observer) -> None:
    """Show what happens, which another command records."""
    with Interrupts(execution):
        observer.started(run, 1, 1)
        for message in execution.events(_TICK_S):
            if message is None:
                observer.tick()
            else:
                observer.happened(event_of(message))


def _follow(run: Run, execution: Execution, observer: Observer, pool: JobPool | None = None) -> Result:
    """Follow an execution to its end and write the run's result; returns what that holds. Where a `pool` of several
    goes on, it heeds interrupts.

    Raises:
        StillRunning: it goes on, and is not followed any more: it has no result yet.
        _Removed: its directory was.
    """
    interrupts = Interrupts(execution)
    with pool.running(execution) if pool and pool.size > 1 else interrupts:
        ended, causes = _to_the_last_event(run, execution, observer)
        result = _finish(run, ended, causes)  # an interrupt that comes meanwhile does not keep it from being written
    # Also where it came too late for this run; but who was asked may have wanted a job elsewhere to go on.
    if interrupts.heard and getattr(execution, "is_ending", True):
        if pool:
            pool.stop()
        observer.interrupted()
    return result


def _to_the_last_event(run: Run, execution: Execution, observer: Observer) -> tuple[NodeEnded, _Causes]:
    """Record what happens, and show it; how it ended, and why."""
    causes = _Causes()
    ended: NodeEnded | None = None
    try:
        for message in execution.events(_TICK_S):
            event = None if message is None else event_of(message)
            if event is not None:
                run.record(event)
                causes.note(event)
            if isinstance(event, NodeEnded):
                ended = event
            try:
                observer.tick() if event is None else observer.happened(event)
            except EndRun:
                execution.stop()
    except StillRunning:
        run.claim.release()
        raise
    except FacesimError as error:  # such as AWS' refusal to make a training job: it is why this run failed
        ended = NodeEnded(outcome=Outcome.FAILED, reason=str(error))
    except OSError as error:
        if not is_full(error) and run.job_file.exists():
            raise
        ended = NodeEnded(outcome=Outcome.FAILED, reason=no_room(run.directory, _GO_ON))
    finally:
        execution.close()
    if not run.job_file.exists():  # though tasks may have made a directory again, to write in
        run.claim.release()
        raise _Removed(
            f"{run.directory} was removed or moved while it was being run: start it again, or continue it where it is "
            "now with `facesim run --resume`"
        )
    assert ended is not None, "an execution's last event says how it ended"
    return ended, causes


def _finish(run: Run, ended: NodeEnded, causes: _Causes) -> Result:
    """Write the result of a run of which nothing runs any more, and let go of it."""
    release(run.directory)
    measurement = Measurement(run.job().backend.measurement)
    if any(isinstance(event, Emulated) for event in run.events()):
        measurement = Measurement.EMULATED  # a part of it was, even where it has continued at AWS
    state = ended.outcome.state
    if state is RunState.FAILED:
        failure = ended.reason or _failure(run, causes)
    else:
        failure = _limit(causes.limit) if causes.limit and state.limited else None
    run.record(StateEntered(state=state))
    with writing_to(run.directory):
        result = finish(run, state, failure, measurement, spent_s(run.events()))
    run.claim.release()
    return result


class _Causes:
    """What the events of an execution tell of why it ends as it does."""

    def __init__(self) -> None:
        self.ends: list[TaskEnded] = []  # of tasks, since they were last started
        self.reasons: dict[str, str] = {}  # why tasks failed, as they say
        self.hangs: dict[str, Hung] = {}  # those that were ended because they hung
        self.limit: LimitExceeded | None = None

    def note(self, event: Event) -> None:
        match event:
            case TaskEnded():
                self.ends.append(event)
            case Recovering() | NodeStarted():  # what ended before is not why this attempt fails
                self.ends.clear()
                self.reasons.clear()
            case TaskFailed() | NotConnected():
                self.reasons[event.task] = event.why
            case Hung():
                self.hangs[event.task] = event
            case LimitExceeded():
                self.limit = event


def _failure(run: Run, causes: _Causes) -> str:
    """Why a run failed: the first task that ended, how it did, and the last that it printed."""
    if not causes.ends:
        lines = last_lines(run.log_file(NODE))
        why = lines[-1].strip() if lines else "it printed nothing"
        hangs = NODE in causes.hangs
        how = f"{hung(causes.hangs[NODE])}, and was ended" if hangs else f"the {NODE} ended unexpectedly: {why}"
        return "\n".join([how, *lines])
    first = causes.ends[0]
    task = first.task
    how = f"{hung(causes.hangs[task])}, and was ended" if task in causes.hangs and first.signal else None
    return why_failed(dict(first), causes.reasons.get(task), run.log_file(task), how)


def _limit(reached: LimitExceeded) -> str:
    """Why a run was ended by a limit of its own."""
    name = flag(reached.limit.removesuffix("_s"))
    return f"it reached {name} {reached.limit_s:g}; continue it with --resume, or give it more seconds or fewer epochs"

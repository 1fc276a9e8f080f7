"""A study: several jobs, one after another, each leaving a run directory."""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cluster.failure import last_lines, why_failed
from cluster.processes import NODE
from facesim.backends.base import Backend, Equipped, Execution, Paid, Request
from facesim.backends.lifecycle import lifecycle_of
from facesim.billing.bill import submitted
from facesim.preflight.checks import check_jobs
from facesim.preflight.inputs import Inputs, prepare_all, prepare_inputs
from facesim.preflight.leakage import check_unseen
from facesim.runs.accounting import spent_s
from facesim.runs.directory import Run, check_writable
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
from facesim.runs.states import Outcome, RunState
from facesim.spec.job import Job, changed_job, flat
from facesim.spec.options import flag
from facesim.study.observers import Observer, Together
from facesim.study.result import finish
from facesim.util.disk import is_full, no_room, release, writing_to
from facesim.util.errors import FacesimError, InputError, Lost, StillRunning

_TICK_S = 0.25
_GO_ON = "make room there, then continue with `facesim run --resume RUN`"


def render_jobs(jobs: list[Job], output: Path, inputs: list[Inputs]) -> list[tuple[Job, Path, Request]]:
    """Each job with its run directory and the exact request that would run it. Starts and writes nothing."""
    stamp = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    rendered = []
    for job, name, own in zip(jobs, _names(jobs), inputs, strict=True):
        directory = output / f"{stamp}-{name}"
        rendered.append((job, directory, job.backend.open().render(job, directory, own)))
    return rendered


#: What a name of a job says of it in any case.
_IN_EVERY_NAME = ("strategy", "subset", "seed")

#: More characters of an option are not put into a name.
_NAME_LENGTH = 30


def _names(jobs: list[Job]) -> list[str]:
    """A name for each job, none twice: its strategy, its subset, what else makes it unlike others, and its seed."""
    told = [flat(job) for job in jobs]
    varied = [name for name in told[0] if len({str(one.get(name)) for one in told}) > 1] if told else []
    names: list[str] = []
    for job, options in zip(jobs, told, strict=True):
        parts = [job.strategy.name, *([job.experiment.subset] if job.experiment.subset else [])]
        parts += [f"{name}{options[name]}" for name in varied if name in options and name not in _IN_EVERY_NAME]
        short = [re.sub("[^A-Za-z0-9-]+", "", part.replace(",", "-"))[:_NAME_LENGTH] for part in parts]
        name = "-".join([*short, f"seed{job.experiment.seed}"])
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def cost_estimate(rendered: list[tuple[Job, Path, Request]]) -> str | None:
    """What the study can cost, in words; None if its backend costs nothing.

    Raises:
        InputError: it is more than the jobs allow.
    """
    told = []
    for backend in dict.fromkeys(job.backend.name for job, _, _ in rendered):
        own = [(job.backend, request) for job, _, request in rendered if job.backend.name == backend]
        where = own[0][0].open()
        if isinstance(where, Paid):
            limits = [limit for each, _ in own if (limit := getattr(each, "max_cost", None)) is not None]
            told.append(where.estimate([request for _, request in own], min(limits, default=None)))
    return "; ".join(told) or None


def dry_run(jobs: list[Job], output: Path) -> dict[str, Any]:
    """What the study would run, as plain data: each run's directory, job, data, exact request and files; what a user
    should know before; and what it can cost, where it costs something. Starts nothing.

    Raises:
        InputError: something that the user gave cannot be used.
    """
    inputs = prepare_all(jobs, lambda *_: None)
    notices = [*check_jobs(jobs, inputs, output), *check_unseen(jobs, inputs)]
    rendered = render_jobs(jobs, output, inputs)
    runs = [
        {
            "run_directory": str(directory),
            "job": job.model_dump(),
            "data": str(own.data.directory),
            "request": json.loads(request.to_json()),
            "files": Run.files(),
        }
        for own, (job, directory, request) in zip(inputs, rendered, strict=True)
    ]
    estimate = cost_estimate(rendered)
    return {"runs": runs, "notices": notices, **({"estimate": estimate} if estimate else {})}


def run_study(jobs: list[Job], output: Path, observers: Iterable[Observer] = ()) -> list[Run]:
    """Run the jobs one after another, and tell the `observers`. A run that fails does not keep the next from being run;
    one that is stopped does. A run that cannot be followed any more is told, and has no result.

    Raises:
        InputError: something that the user gave cannot be used; then nothing has been started.
    """
    observer = Together(observers)
    inputs = prepare_all(jobs, observer.preparing)
    for notice in (*check_jobs(jobs, inputs, output), *check_unseen(jobs, inputs)):
        observer.noticed(notice)
    rendered = render_jobs(jobs, output, inputs)
    for recovery in dict.fromkeys(job.recovery for job in jobs):
        check_writable(recovery)
    _check_equipment(jobs)
    if estimate := cost_estimate(rendered):
        observer.noticed(estimate)
    runs = []
    for position, (job, directory, request) in enumerate(rendered, 1):
        run = Run.create(directory, job)
        runs.append(run)
        observer.started(run, position, len(jobs))
        try:
            result = _execute(job.backend.open(), run, request, observer)
        except Lost as lost:
            observer.noticed(str(lost))
            continue
        observer.ended(run, result)
        if result.state is RunState.STOPPED:
            break
    return runs


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
    inputs = prepare_inputs(job, observer.preparing)
    for notice in check_jobs([job], [inputs], run.directory):
        observer.noticed(notice)
    request = job.backend.open().render(job, run.directory, inputs)
    check_writable(job.recovery)
    _check_equipment([job])
    if estimate := cost_estimate([(job, run.directory, request)]):
        observer.noticed(estimate)
    run.reopen(job)
    observer.started(run, 1, 1)
    observer.ended(run, _execute(job.backend.open(), run, request, observer))
    return run


def _check_equipment(jobs: list[Job]) -> None:
    for job in jobs:
        where = job.backend.open()
        if isinstance(where, Equipped):
            where.check(job)


def _execute(where: Backend, run: Run, request: Request, observer: Observer) -> Result:
    """Submit, follow to the end, and write the result, whatever happens on the way."""
    job = run.job()
    run.record(Submitted(shape=job.shape.model_dump(), **submitted(job.groups, job.spot)))
    # Real instances tell their own states, and take their own capacity away.
    execution = lifecycle_of(where, run, request) if where.measurement == "emulated" else where.submit(run, request)
    return _follow(run, execution, where.measurement, observer)


def attach(run: Run, execution: Execution, measurement: str, observers: Iterable[Observer] = ()) -> Result:
    """Follow, to its end, an execution that somebody else submitted; returns the run's result.

    `measurement` is how its numbers are marked, unless the run tells that it, or a part of it, was `emulated`.

    Raises:
        StillRunning: it goes on, and is not followed any more: it has no result yet.
    """
    observer = Together(observers)
    observer.started(run, 1, 1)
    result = _follow(run, execution, measurement, observer)
    observer.ended(run, result)
    return result


def _follow(run: Run, execution: Execution, measurement: str, observer: Observer) -> Result:
    """Follow an execution to its end and write the run's result; returns what that holds."""
    causes = _Causes()
    ended: NodeEnded | None = None
    try:
        with _Interrupts(execution):
            for told in execution.events(_TICK_S):
                if told is None:
                    observer.tick()
                    continue
                event = event_of(told)
                run.record(event)
                observer.happened(event)
                causes.note(event)
                if isinstance(event, NodeEnded):
                    ended = event
    except StillRunning:
        run.claim.release()
        raise
    except FacesimError as error:  # such as AWS' refusal to make a training job: it is why this run failed
        ended = NodeEnded(outcome=Outcome.FAILED, reason=str(error))
    except OSError as error:
        if not is_full(error):
            raise
        ended = NodeEnded(outcome=Outcome.FAILED, reason=no_room(run.directory, _GO_ON))
    finally:
        execution.close()
    release(run.directory)
    assert ended is not None, "an execution's last event says how it ended"
    if any(isinstance(event, Emulated) for event in run.events()):
        measurement = "emulated"  # a part of it was, even where it has gone on at AWS
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
        self.told: dict[str, str] = {}  # why tasks failed, as they say
        self.hangs: dict[str, Hung] = {}  # those that were ended because they hung
        self.limit: LimitExceeded | None = None

    def note(self, event: Event) -> None:
        match event:
            case TaskEnded():
                self.ends.append(event)
            case Recovering() | NodeStarted():  # what ended before is not why this attempt fails
                self.ends.clear()
                self.told.clear()
            case TaskFailed() | NotConnected():
                self.told[event.task] = event.why
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
    return why_failed(dict(first), causes.told.get(task), run.log_file(task), how)


def _limit(reached: LimitExceeded) -> str:
    """Why a run was ended by a limit of its own."""
    name = flag(reached.limit.removesuffix("_s"))
    return f"it reached {name} {reached.limit_s:g}; continue it with --resume, or give it more seconds or fewer epochs"


def _let_go_of_closed_outputs() -> None:
    """From now on, what would be written to a terminal that has closed, or to a pipe that nobody reads, is nowhere."""
    for output in (1, 2):
        poll = select.poll()
        poll.register(output, 0)
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output)
            os.close(nowhere)


class _Interrupts:
    """While a job runs, Ctrl-C or SIGTERM drains it, and a second one ends it at once.

    So does SIGHUP, a terminal that closes, but for the second one: shells repeat it. `nohup` has it ignored. Signals
    reach the main thread alone; what runs in another is not interrupted.
    """

    def __init__(self, execution: Execution):
        self._execution = execution
        self._times = 0

    def _handle(self, number: int, _: object) -> None:
        if number == signal.SIGHUP:
            _let_go_of_closed_outputs()
        if number == signal.SIGHUP or self._times == 0:
            self._execution.stop()
        else:
            self._execution.kill()
        self._times += 1

    def __enter__(self) -> None:
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heeded.append(signal.SIGHUP)
        if threading.current_thread() is not threading.main_thread():
            heeded = []
        self._before = {number: signal.signal(number, self._handle) for number in heeded}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

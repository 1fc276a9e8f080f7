"""A study: several jobs, one after another, each leaving a run directory."""

from __future__ import annotations

import os
import secrets
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from cluster.failure import last_lines, why_failed
from cluster.processes import NODE
from facesim.backends.base import Attached, Execution, Request
from facesim.backends.lifecycle import lifecycle_of
from facesim.billing.bill import submitted
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
from facesim.runs.states import Outcome, RunState
from facesim.spec.job import Job, changed_job
from facesim.spec.options import flag
from facesim.study.result import finish
from facesim.util.disk import is_full, no_room, release, writing_to
from facesim.util.errors import FacesimError, InputError, Lost, StillRunning

_TICK_S = 0.25
_GO_ON = "make room there, then go on with `facesim run --resume RUN`"


class Watcher(Protocol):
    """Is told how a study goes, to show it."""

    def preparing(self, what: str, done: int, due: int) -> None: ...

    def noticed(self, text: str) -> None: ...

    def started(self, run: Run, position: int, jobs: int) -> None: ...

    def happened(self, event: Event) -> None: ...

    def tick(self) -> None: ...

    def ended(self, run: Run, result: Result) -> None: ...


def run_directories(jobs: list[Job], output: Path) -> list[Path]:
    """A run directory for each job of a study, in `output`. Makes none."""
    stamp = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    directories = []
    for job in jobs:
        part = "-" + job.experiment.subset.replace("=", "").replace(",", "-") if job.experiment.subset else ""
        directories.append(output / f"{stamp}-{job.strategy.name}{part}-seed{job.experiment.seed}")
    return directories


def run_study(jobs: list[Job], output: Path, watcher: Watcher) -> list[Run]:
    """Run the jobs one after another. A run that fails does not keep the next from being run; one that is stopped does.
    A run that cannot be followed any more is told, and has no result.

    Raises:
        InputError: something that the user gave cannot be used; then nothing has been started.
    """
    cleared = preflight(jobs, run_directories(jobs, output), watcher.preparing)
    for notice in cleared.told():
        watcher.noticed(notice)
    runs = []
    for position, one in enumerate(cleared.planned, 1):
        run = Run.create(one.directory, one.job)
        runs.append(run)
        watcher.started(run, position, len(jobs))
        try:
            result = _execute(run, one.request, watcher)
        except Lost as lost:
            watcher.noticed(str(lost))
            continue
        watcher.ended(run, result)
        if result.state is RunState.STOPPED:
            break
    return runs


def resume(run: Run, changes: dict[str, Any], watcher: Watcher) -> Run:
    """Go on with a run that did not complete, from its newest checkpoint, with what `changes` of its options.

    Raises:
        InputError: the run cannot be gone on with, or not with these changes; nothing has been changed then.
    """
    if gone := run.claim.take():
        watcher.noticed(gone)
    try:
        return _resume(run, changes, watcher)
    finally:
        run.claim.release()


def _resume(run: Run, changes: dict[str, Any], watcher: Watcher) -> Run:
    before = run.job()
    job = changed_job(before, changes)
    result = run.result()
    if result and result.state is RunState.COMPLETED:
        raise InputError(f"{run.directory} has completed: there is nothing left to train; start a new run")
    cleared = preflight([job], [run.directory], watcher.preparing)
    for notice in cleared.told():
        watcher.noticed(notice)
    run.reopen(job)
    watcher.started(run, 1, 1)
    watcher.ended(run, _execute(run, cleared.planned[0].request, watcher))
    return run


def _execute(run: Run, request: Request | None, watcher: Watcher) -> Result:
    """Submit, follow to the end, and write the result, whatever happens on the way."""
    job = run.job()
    run.record(Submitted(shape=job.shape.model_dump(), **submitted(job.groups, job.spot)))
    assert request is not None, "what was cleared has a request"
    return attach(run, lifecycle_of(job.backend.open(), run, request), job.backend.measurement, watcher)


def follow(attached: Attached, watcher: Watcher) -> Result:
    """Follow a run that was attached to its end, if it has not ended, and return its result.

    Raises:
        StillRunning: it goes on, and is not followed any more.
        InputError: it ended without a result.
    """
    run, execution = attached.run, attached.execution
    if execution is not None and attached.recorded:
        _show_all(run, execution, watcher)
    elif execution is not None:
        watcher.started(run, 1, 1)
        attach(run, execution, run.job().backend.measurement, watcher)
    result = run.result()
    assert result is not None, "a run that was followed to its end has one"
    if execution is not None:
        watcher.ended(run, result)
    return result


def _show_all(run: Run, execution: Execution, watcher: Watcher) -> None:
    """Show what happens, which another command records."""
    with _Interrupts(execution):
        watcher.started(run, 1, 1)
        for told in execution.events(_TICK_S):
            if told is None:
                _show(watcher.tick)
            else:
                _show(watcher.happened, event_of(told))


def attach(run: Run, execution: Execution, measurement: str, watcher: Watcher) -> Result:
    """Follow an execution to its end and write the run's result; returns what that holds.

    `measurement` is how its numbers are marked, unless the execution tells that it is `emulated`.

    Raises:
        StillRunning: it goes on, and is not followed any more: it has no result yet.
    """
    causes = _Causes()
    ended: NodeEnded | None = None
    try:
        with _Interrupts(execution):
            for told in execution.events(_TICK_S):
                if told is None:
                    _show(watcher.tick)
                    continue
                event = event_of(told)
                run.record(event)
                _show(watcher.happened, event)
                causes.note(event)
                if isinstance(event, Emulated):
                    measurement = "emulated"
                elif isinstance(event, NodeEnded):
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
    return f"it reached {name} {reached.limit_s:g}; go on with it, or give it more seconds or fewer epochs"


def _show(tell: Callable[..., None], *arguments: Any) -> None:
    """Show something while a job runs, which goes on when the terminal, or the program that reads, has gone."""
    try:
        tell(*arguments)
    except (OSError, SystemExit):  # rich ends the program where a pipe is broken
        _let_go_of_closed_outputs()


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

    So does SIGHUP, a terminal that closes, but for the second one: shells repeat it. `nohup` has it ignored.
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
        self._before = {number: signal.signal(number, self._handle) for number in heeded}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

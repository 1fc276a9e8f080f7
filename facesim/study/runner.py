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
from facesim.backends.base import Attached, Execution, Request
from facesim.backends.lifecycle import lifecycle_of
from facesim.billing.bill import submitted
from facesim.planning.beside import forecasts_told, keep_forecast
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
from facesim.spec.job import Job, changed_job, flat
from facesim.spec.options import flag
from facesim.study.observers import EndRun, Observer, Together
from facesim.study.result import finish
from facesim.util.disk import is_full, no_room, release, writing_to
from facesim.util.errors import FacesimError, InputError, Lost, StillRunning

_TICK_S = 0.25
_GO_ON = "make room there, then continue with `facesim run --resume RUN`"


def run_directories(jobs: list[Job], output: Path) -> list[Path]:
    """A run directory for each job of a study, in `output`. Makes none."""
    stamp = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    return [output / f"{stamp}-{name}" for name in _names(jobs)]


#: What a name of a job says of it in any case.
_IN_EVERY_NAME = ("strategy", "subset", "seed")

#: More characters of an option are not put into a name.
_NAME_LENGTH = 30


def _names(jobs: list[Job]) -> list[str]:
    """A name for each job, none twice: its strategy, its subset, what else makes it unlike others, and its seed."""
    options_of = [flat(job) for job in jobs]
    varied = (
        [name for name in options_of[0] if len({str(one.get(name)) for one in options_of}) > 1] if options_of else []
    )
    names: list[str] = []
    for job, options in zip(jobs, options_of, strict=True):
        parts = [job.strategy.name, *([job.experiment.subset] if job.experiment.subset else [])]
        parts += [f"{name}{options[name]}" for name in varied if name in options and name not in _IN_EVERY_NAME]
        short = [re.sub("[^A-Za-z0-9-]+", "", part.replace(",", "-"))[:_NAME_LENGTH] for part in parts]
        name = "-".join([*short, f"seed{job.experiment.seed}"])
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def dry_run(jobs: list[Job], output: Path) -> dict[str, Any]:
    """What the study would run, as plain data: each run's directory, job, data, exact request and files; what a user
    should know before; and what it can cost, where it costs something. Starts nothing.

    Raises:
        InputError: the study would be refused.
    """
    cleared = preflight(jobs, run_directories(jobs, output), to_run=False)
    runs = [
        {
            "run_directory": str(one.directory),
            "job": one.job.model_dump(),
            "data": str(one.inputs.data.directory),
            "request": json.loads(one.request.to_json()),
            "files": Run.files(),
        }
        for one in cleared.planned
        if one.inputs and one.request
    ]
    estimates = cleared.notices.pop("cost", [])
    forecasts = forecasts_told([one.job for one in cleared.planned], [one.inputs for one in cleared.planned])
    return {
        "runs": runs,
        "notices": cleared.all_notices(),
        **({"estimate": "; ".join(estimates)} if estimates else {}),
        **({"forecast": forecasts} if forecasts else {}),
    }


def run_study(jobs: list[Job], output: Path, observers: Iterable[Observer] = ()) -> list[Run]:
    """Run the jobs one after another, and tell the `observers`. A run that fails does not keep the next from being run;
    one that is stopped does. A run that cannot be followed any more is told, and has no result.

    Raises:
        InputError: something that the user gave cannot be used; then nothing has been started.
    """
    observer = Together(observers)
    cleared = preflight(jobs, run_directories(jobs, output), observer.preparing)
    for notice in cleared.all_notices():
        observer.noticed(notice)
    for forecast in forecasts_told([one.job for one in cleared.planned], [one.inputs for one in cleared.planned]):
        observer.noticed(forecast)
    runs = []
    for position, one in enumerate(cleared.planned, 1):
        run = Run.create(one.directory, one.job)
        runs.append(run)
        keep_forecast(run, one.job, one.inputs)  # before it begins: what it then takes is held against that
        observer.started(run, position, len(jobs))
        try:
            result = _execute(run, one.request, observer)
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
    cleared = preflight([job], [run.directory], observer.preparing)
    for notice in cleared.all_notices():
        observer.noticed(notice)
    run.reopen(job)
    observer.started(run, 1, 1)
    observer.ended(run, _execute(run, cleared.planned[0].request, observer))
    return run


def _execute(run: Run, request: Request | None, observer: Observer) -> Result:
    """Submit, follow to the end, and write the result, whatever happens on the way."""
    job = run.job()
    assert request is not None, "what was cleared has a request"
    run.record(Submitted(shape=job.shape.model_dump(), framework=job.framework, **submitted(job.groups, job.spot)))
    return _follow(run, lifecycle_of(job.backend.open(), run, request), observer)


def attach(attached: Attached, observers: Iterable[Observer] = ()) -> Result:
    """Follow a run that somebody else submitted to its end, if it has not ended; returns its result.

    Raises:
        StillRunning: it goes on, and is not followed any more.
        InputError: it ended without a result.
    """
    run, execution, observer = attached.run, attached.execution, Together(observers)
    if execution is not None and attached.recorded:
        _show(run, execution, observer)
    elif execution is not None:
        observer.started(run, 1, 1)
        _follow(run, execution, observer)
    result = run.result()
    assert result is not None, "a run that was followed to its end has one"
    if execution is not None:
        observer.ended(run, result)
    return result


def _show(run: Run, execution: Execution, observer: Observer) -> None:
    """Show what happens, which another command records."""
    with _Interrupts(execution):
        observer.started(run, 1, 1)
        for message in execution.events(_TICK_S):
            if message is None:
                observer.tick()
            else:
                observer.happened(event_of(message))


def _follow(run: Run, execution: Execution, observer: Observer) -> Result:
    """Follow an execution to its end and write the run's result; returns what that holds.

    Raises:
        StillRunning: it goes on, and is not followed any more: it has no result yet.
    """
    causes = _Causes()
    ended: NodeEnded | None = None
    try:
        with _Interrupts(execution):
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
        if not is_full(error):
            raise
        ended = NodeEnded(outcome=Outcome.FAILED, reason=no_room(run.directory, _GO_ON))
    finally:
        execution.close()
    release(run.directory)
    assert ended is not None, "an execution's last event says how it ended"
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

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
from facesim.backends.base import Backend, Equipped, Execution, Paid, Request
from facesim.backends.emulation import told_of_accelerators
from facesim.backends.spot import live
from facesim.billing.bill import submitted
from facesim.disk import is_full, no_room, release, writing_to
from facesim.errors import FacesimError, InputError, Lost, StillRunning
from facesim.inputs import Inputs, prepare_all, prepare_inputs, told_of_data
from facesim.leakage import check_unseen
from facesim.memory import check_memory
from facesim.recovery import spent_s
from facesim.result import finish
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
from facesim.runs.records import Result
from facesim.runs.states import Outcome, RunState
from facesim.spec.faults import check_network, check_room
from facesim.spec.job import Job, changed_job
from facesim.spec.options import flag
from facesim.telling import hung

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


def render_jobs(jobs: list[Job], output: Path, inputs: list[Inputs]) -> list[tuple[Job, Path, Request]]:
    """Each job with its run directory and the exact request that would run it. Starts and writes nothing."""
    stamp = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    rendered = []
    for job, own in zip(jobs, inputs, strict=True):
        part = "-" + job.experiment.subset.replace("=", "").replace(",", "-") if job.experiment.subset else ""
        directory = output / f"{stamp}-{job.strategy.name}{part}-seed{job.experiment.seed}"
        rendered.append((job, directory, job.backend.open().render(job, directory, own)))
    return rendered


def preflight(jobs: list[Job], inputs: list[Inputs], output: Path) -> list[str]:
    """What to tell before jobs run, as far as it can be known without looking at what would run them.

    Raises:
        InputError: one of them cannot run as it is.
    """
    classes = [len(own.data.names) for own in inputs]
    for job in jobs:
        check_room(job.faults, output)
        check_network(job.faults, job.backend.name)
    return [*told_of_data(inputs), *told_of_accelerators(jobs), *check_memory(jobs, classes)]


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


def run_study(jobs: list[Job], output: Path, watcher: Watcher) -> list[Run]:
    """Run the jobs one after another. A run that fails does not keep the next from being run; one that is stopped does.
    A run that cannot be followed any more is told, and has no result.

    Raises:
        InputError: something that the user gave cannot be used; then nothing has been started.
    """
    inputs = prepare_all(jobs, watcher.preparing)
    for notice in (*preflight(jobs, inputs, output), *check_unseen(jobs, inputs)):
        watcher.noticed(notice)
    rendered = render_jobs(jobs, output, inputs)
    for recovery in dict.fromkeys(job.recovery for job in jobs):
        check_writable(recovery)
    _check_equipment(jobs)
    if estimate := cost_estimate(rendered):
        watcher.noticed(estimate)
    runs = []
    for position, (job, directory, request) in enumerate(rendered, 1):
        run = Run.create(directory, job)
        runs.append(run)
        watcher.started(run, position, len(jobs))
        try:
            result = _execute(job.backend.open(), run, request, watcher)
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
    inputs = prepare_inputs(job, watcher.preparing)
    for notice in preflight([job], [inputs], run.directory):
        watcher.noticed(notice)
    request = job.backend.open().render(job, run.directory, inputs)
    check_writable(job.recovery)
    _check_equipment([job])
    if estimate := cost_estimate([(job, run.directory, request)]):
        watcher.noticed(estimate)
    run.reopen(job)
    watcher.started(run, 1, 1)
    watcher.ended(run, _execute(job.backend.open(), run, request, watcher))
    return run


def _check_equipment(jobs: list[Job]) -> None:
    for job in jobs:
        where = job.backend.open()
        if isinstance(where, Equipped):
            where.check(job)


def _execute(where: Backend, run: Run, request: Request, watcher: Watcher) -> Result:
    """Submit, follow to the end, and write the result, whatever happens on the way."""
    job = run.job()
    run.record(Submitted(shape=job.shape.model_dump(), **submitted(job.groups, job.spot)))
    # Real instances tell their own states, and take their own capacity away.
    execution = live(where, run, request) if where.measurement == "emulated" else where.submit(run, request)
    return attach(run, execution, where.measurement, watcher)


def attach(run: Run, execution: Execution, measurement: str, watcher: Watcher) -> Result:
    """Follow an execution to its end and write the run's result; returns what that holds.

    `measurement` is how its numbers are marked, unless the run tells that it, or a part of it, was `emulated`.

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

"""A study: several jobs, one after another, each leaving a run directory."""

from __future__ import annotations

import secrets
import signal
import time
from pathlib import Path
from typing import Any, Protocol

from facesim.backends import backend
from facesim.backends.base import Backend, Equipped, Execution, Paid, Request
from facesim.backends.spot import live
from facesim.errors import InputError
from facesim.faults import check_room
from facesim.inputs import Inputs, prepare_all, prepare_inputs
from facesim.job import Job, changed_job, flag
from facesim.leakage import check_unseen
from facesim.memory import check_memory
from facesim.recovery import spent_s
from facesim.result import finish
from facesim.runs.directory import Run, check_writable
from facesim.runs.events import (
    Event,
    LimitExceeded,
    NodeEnded,
    NodeStarted,
    Recovering,
    StateEntered,
    Submitted,
    TaskEnded,
    event_of,
)
from facesim.runs.records import Result
from facesim.runs.states import RunState

_TICK_S = 0.25


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
        directory = output / f"{stamp}-{job.strategy}{part}-seed{job.experiment.seed}"
        rendered.append((job, directory, backend(job.backend).render(job, directory, own)))
    return rendered


def cost_estimate(rendered: list[tuple[Job, Path, Request]]) -> str | None:
    """What the study can cost, in words; None if its backend costs nothing.

    Raises:
        InputError: it is more than the jobs allow.
    """
    job = rendered[0][0]
    where = backend(job.backend)
    if not isinstance(where, Paid):
        return None
    return where.estimate([request for _, _, request in rendered], job.aws.max_cost)


def run_study(jobs: list[Job], output: Path, watcher: Watcher) -> list[Run]:
    """Run the jobs one after another. A run that fails does not keep the next from being run; one that is stopped does.

    Raises:
        InputError: something that the user gave cannot be used; then nothing has been started.
    """
    inputs = prepare_all(jobs, watcher.preparing)
    for notice in (*check_memory(jobs, [len(own.data.names) for own in inputs]), *check_unseen(jobs, inputs)):
        watcher.noticed(notice)
    rendered = render_jobs(jobs, output, inputs)
    check_writable(jobs[0].recovery)
    check_room(jobs[0].faults, output)
    _check_equipment(jobs)
    if estimate := cost_estimate(rendered):
        watcher.noticed(estimate)
    runs = []
    for position, (job, directory, request) in enumerate(rendered, 1):
        run = Run.create(directory, job)
        runs.append(run)
        watcher.started(run, position, len(jobs))
        result = _execute(backend(job.backend), run, request, watcher)
        watcher.ended(run, result)
        if result.state is RunState.STOPPED:
            break
    return runs


def resume(run: Run, changes: dict[str, Any], watcher: Watcher) -> Run:
    """Go on with a run that did not complete, from its newest checkpoint, with what `changes` of its options.

    Raises:
        InputError: the run cannot be gone on with, or not with these changes; nothing has been changed then.
    """
    run.claim()
    before = run.job()
    job = changed_job(before, changes)
    result = run.result()
    if result and result.state is RunState.COMPLETED:
        raise InputError(f"{run.directory} has completed: there is nothing left to train; start a new run")
    request = backend(job.backend).render(job, run.directory, prepare_inputs(job, watcher.preparing))
    check_writable(job.recovery)
    check_room(job.faults, run.directory)
    _check_equipment([job])
    if estimate := cost_estimate([(job, run.directory, request)]):
        watcher.noticed(estimate)
    run.reopen(job)
    watcher.started(run, 1, 1)
    watcher.ended(run, _execute(backend(job.backend), run, request, watcher))
    return run


def _check_equipment(jobs: list[Job]) -> None:
    for job in jobs:
        where = backend(job.backend)
        if isinstance(where, Equipped):
            where.check(job)


def _execute(where: Backend, run: Run, request: Request, watcher: Watcher) -> Result:
    """Submit, follow to the end, and write the result, whatever happens on the way."""
    run.record(Submitted())
    # Real instances tell their own states, and take their own capacity away.
    execution = live(where, run, request) if where.measurement == "emulated" else where.submit(run, request)
    return attach(run, execution, where.measurement, watcher)


def attach(run: Run, execution: Execution, measurement: str, watcher: Watcher) -> Result:
    """Follow an execution to its end and write the run's result; returns what that holds."""
    ends: list[TaskEnded] = []
    limit: LimitExceeded | None = None
    ended: NodeEnded | None = None
    try:
        with _Interrupts(execution):
            for told in execution.events(_TICK_S):
                if told is None:
                    watcher.tick()
                    continue
                event = event_of(told)
                run.record(event)
                watcher.happened(event)
                if isinstance(event, TaskEnded):
                    ends.append(event)
                elif isinstance(event, (Recovering, NodeStarted)):
                    ends.clear()  # what ended before is not why this attempt fails
                elif isinstance(event, LimitExceeded):
                    limit = event
                elif isinstance(event, NodeEnded):
                    ended = event
    finally:
        execution.close()
    assert ended is not None, "an execution's last event says how it ended"
    state = ended.outcome.state
    if state is RunState.FAILED:
        failure = ended.reason or _failure(run, ends)
    else:
        failure = _limit(limit) if limit and state.limited else None
    run.record(StateEntered(state=state))
    return finish(run, state, failure, measurement, spent_s(run.events()))


def _failure(run: Run, ends: list[TaskEnded]) -> str:
    """Why a run failed: the first task that ended, how it did, and the last that it printed."""
    if not ends:
        return f"the node ended unexpectedly\n{run.log_tail('node')}".rstrip()
    first = ends[0]
    how = f"was killed by {first.signal}" if first.signal else f"ended with exit code {first.exit_code}"
    return f"{first.task} {how}; its last lines:\n{run.log_tail(first.task)}".rstrip()


def _limit(reached: LimitExceeded) -> str:
    """Why a run was ended by a limit of its own."""
    name = flag(reached.limit.removesuffix("_s"))
    return f"it reached {name} {reached.limit_s:g}; go on with it, or give it more seconds or fewer epochs"


class _Interrupts:
    """While a job runs, Ctrl-C or SIGTERM drains it, and a second one ends it at once."""

    def __init__(self, execution: Execution):
        self._execution = execution
        self._times = 0

    def _handle(self, *_: object) -> None:
        self._times += 1
        if self._times == 1:
            self._execution.stop()
        else:
            self._execution.kill()

    def __enter__(self) -> None:
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

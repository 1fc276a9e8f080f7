"""A study: several jobs, one after another, each leaving a run directory."""

from __future__ import annotations

import secrets
import signal
import time
from pathlib import Path
from typing import Any, Protocol

from cluster.failure import last_lines, why_failed
from facesim.backends import spot
from facesim.backends.base import Backend, Equipped, Execution, Paid, Request
from facesim.disk import is_full, no_room, release, writing_to
from facesim.errors import InputError
from facesim.inputs import Inputs, prepare_all, prepare_inputs, told_of_data
from facesim.leakage import check_unseen
from facesim.memory import check_memory
from facesim.recovery import spent_s
from facesim.result import finish
from facesim.run import Run, State, check_writable
from facesim.spec.faults import check_room
from facesim.spec.job import Job, changed_job
from facesim.spec.options import flag

_TICK_S = 0.25
_GO_ON = "make room there, then go on with `facesim run --resume RUN`"
_STATES = {
    "completed": State.COMPLETED,
    "failed": State.FAILED,
    "stopped": State.STOPPED,
    spot.MAX_RUNTIME_EXCEEDED: State.MAX_RUNTIME_EXCEEDED,
    spot.MAX_WAIT_TIME_EXCEEDED: State.MAX_WAIT_TIME_EXCEEDED,
}
_LIMITED = (State.MAX_RUNTIME_EXCEEDED, State.MAX_WAIT_TIME_EXCEEDED)


class Watcher(Protocol):
    """Is told how a study goes, to show it."""

    def preparing(self, what: str, done: int, due: int) -> None: ...

    def noticed(self, text: str) -> None: ...

    def started(self, run: Run, position: int, jobs: int) -> None: ...

    def happened(self, event: dict[str, Any]) -> None: ...

    def tick(self) -> None: ...

    def ended(self, run: Run, result: dict[str, Any]) -> None: ...


def render_jobs(jobs: list[Job], output: Path, inputs: list[Inputs]) -> list[tuple[Job, Path, Request]]:
    """Each job with its run directory and the exact request that would run it. Starts and writes nothing."""
    stamp = time.strftime("%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)
    rendered = []
    for job, own in zip(jobs, inputs, strict=True):
        part = "-" + job.experiment.subset.replace("=", "").replace(",", "-") if job.experiment.subset else ""
        directory = output / f"{stamp}-{job.strategy.name}{part}-seed{job.experiment.seed}"
        rendered.append((job, directory, job.backend.open().render(job, directory, own)))
    return rendered


def cost_estimate(rendered: list[tuple[Job, Path, Request]]) -> str | None:
    """What the study can cost, in words; None if its backend costs nothing.

    Raises:
        InputError: it is more than the jobs allow.
    """
    job = rendered[0][0]
    where = job.backend.open()
    if not isinstance(where, Paid):
        return None
    return where.estimate([request for _, _, request in rendered], getattr(job.backend, "max_cost", None))


def run_study(jobs: list[Job], output: Path, watcher: Watcher) -> list[Run]:
    """Run the jobs one after another. A run that fails does not keep the next from being run; one that is stopped does.

    Raises:
        InputError: something that the user gave cannot be used; then nothing has been started.
    """
    inputs = prepare_all(jobs, watcher.preparing)
    classes = [len(own.data.names) for own in inputs]
    for notice in (*told_of_data(inputs), *check_memory(jobs, classes), *check_unseen(jobs, inputs)):
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
        result = _execute(job.backend.open(), run, request, watcher)
        watcher.ended(run, result)
        if result["state"] == State.STOPPED:
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
    if result and result["state"] == State.COMPLETED:
        raise InputError(f"{run.directory} has completed: there is nothing left to train; start a new run")
    inputs = prepare_inputs(job, watcher.preparing)
    for notice in told_of_data([inputs]):
        watcher.noticed(notice)
    request = job.backend.open().render(job, run.directory, inputs)
    check_writable(job.recovery)
    check_room(job.faults, run.directory)
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


def _execute(where: Backend, run: Run, request: Request, watcher: Watcher) -> dict[str, Any]:
    """Submit, follow to the end, and write the result, whatever happens on the way."""
    run.record("submitted")
    # Real instances tell their own states, and take their own capacity away.
    execution = spot.live(where, run, request) if where.measurement == "emulated" else where.submit(run, request)
    return attach(run, execution, where.measurement, watcher)


def attach(run: Run, execution: Execution, measurement: str, watcher: Watcher) -> dict[str, Any]:
    """Follow an execution to its end and write the run's result; returns what that holds."""
    ends: list[dict[str, Any]] = []
    told: dict[str, str] = {}  # why tasks failed, by the task
    limit: dict[str, Any] | None = None
    ended: dict[str, Any] = {}
    try:
        with _Interrupts(execution):
            for event in execution.events(_TICK_S):
                if event is None:
                    watcher.tick()
                    continue
                run.record(**event)
                watcher.happened(event)
                if event["event"] == "task_ended":
                    ends.append(event)
                elif event["event"] in ("recovering", "node_started"):
                    ends.clear()  # what ended before is not why this attempt fails
                    told.clear()
                elif event["event"] in ("task_failed", "not_connected"):
                    told[event["task"]] = event["why"]
                elif event["event"] == "limit_exceeded":
                    limit = event
                ended = event
    except OSError as error:
        if not is_full(error):
            raise
        ended = {"outcome": "failed", "reason": no_room(run.directory, _GO_ON)}
    finally:
        execution.close()
    release(run.directory)
    state = _STATES[ended["outcome"]]
    if state is State.FAILED:
        failure = ended.get("reason") or _failure(run, ends, told)
    else:
        failure = _limit(limit) if limit and state in _LIMITED else None
    run.record("state", state=state.value)
    with writing_to(run.directory):
        return finish(run, state, failure, measurement, spent_s(run.events()))


def _failure(run: Run, ends: list[dict[str, Any]], told: dict[str, str]) -> str:
    """Why a run failed: the first task that ended, how it did, and the last that it printed."""
    if not ends:
        lines = last_lines(run.log_file("node"))
        return "\n".join(
            [f"the node ended unexpectedly: {lines[-1].strip() if lines else 'it printed nothing'}", *lines]
        )
    first = ends[0]
    return why_failed(first, told.get(first["task"]), run.log_file(first["task"]))


def _limit(reached: dict[str, Any]) -> str:
    """Why a run was ended by a limit of its own."""
    name = flag(reached["limit"].removesuffix("_s"))
    return f"it reached {name} {reached['limit_s']:g}; go on with it, or give it more seconds or fewer epochs"


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

"""A job, submitted and followed as a study does; and executions in which nothing is trained."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from facesim.backends.base import Execution
from facesim.backends.local import LocalBackend
from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import Event, NodeEnded, TaskStarted, event_of
from facesim.runs.states import Outcome
from facesim.spec.job import Job


def submit(job: Job, directory: Path, inputs: Inputs) -> tuple[Run, Any]:
    """Render and submit a job: its run and its execution."""
    where = job.backend.open()
    request = where.render(job, directory, inputs)
    run = Run.create(directory, job)
    run.record("submitted")
    return run, where.submit(run, request)


def follow(run: Run, execution: Execution, on: Callable[[Any], None] = lambda event: None) -> list[Any]:
    """Everything that happens until the end, also recorded in the run."""
    events = []
    try:
        for event in execution.events(0.02):
            if event is not None:
                run.record(event_of(event))
                events.append(event)
                on(event)
    finally:
        execution.close()
    return events


class Completes:
    """An execution whose work is done: `meanwhile` and `at_its_end` are called while it is followed."""

    def __init__(self, meanwhile: Callable[[], Any] = lambda: None, at_its_end: Callable[[], Any] = lambda: None):
        self._meanwhile, self.close = meanwhile, at_its_end

    def events(self, tick_s: float) -> Iterator[Event]:
        self._meanwhile()
        yield TaskStarted(task="chief-0")
        yield NodeEnded(outcome=Outcome.COMPLETED)

    def stop(self) -> None:
        pass

    kill = stop


def interrupt() -> None:
    """What Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


class Played(LocalBackend):
    """The local backend with executions that `submit` makes, given the run; `submitted` are their runs."""

    def __init__(self, submit: Callable[[Run], Execution] = lambda run: Completes()):
        super().__init__()
        self._submit = submit
        self.submitted: list[Run] = []

    def loaded(self, job: Job, request: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def choose_kernels(self, jobs: Any, tell: Any) -> bool:
        return False

    def submit(self, run: Run, request: Any) -> Any:
        self.submitted.append(run)
        return self._submit(run)

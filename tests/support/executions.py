"""A job, submitted and followed as a study does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from facesim.backends.base import Execution
from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import event_of
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

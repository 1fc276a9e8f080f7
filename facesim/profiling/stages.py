"""Runs one stage of a profile: some processes of this machine, started and ended as those of a run are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.failure import last_lines
from cluster.plan import Plan
from facesim.backends.local import BACKEND
from facesim.metrics.disturbance import measured_load
from facesim.metrics.files import samples_in
from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import NodeEnded, TaskFailed, event_of
from facesim.runs.records import Load
from facesim.runs.states import Outcome
from facesim.spec.job import Job
from facesim.util.errors import FacesimError
from facesim.util.files import write_json

#: What a stage leaves in its run directory.
MEASURED = "measured.json"

#: Sets of variables of so many numbers, of which an update is messages and nearly no bytes: how many variables, by what
#: the saturation test of each is called. Of the second there are hardly any messages either.
SMALL_SIZE, SMALL_COUNTS = 64, {"saturated_by_messages": 150, "saturated_by_updates": 2}

_TICK_S = 0.25


@dataclass(frozen=True)
class Measured:
    """What the processes of a stage found, and what else used the machine meanwhile."""

    figures: Any
    load: Load

    @property
    def disturbance(self) -> float:
        """Percent of the machine's CPU time that others had."""
        return (self.load.foreign_cpu_percent or 0.0) + (self.load.steal_percent or 0.0)


def leave(run: Run, figures: Any) -> None:
    """Called by the leading process of a stage: what it found."""
    write_json(run.directory / MEASURED, figures)


def measure_job(
    job: Job,
    folder: Path,
    inputs: Inputs,
    targets: Mapping[str, str],
    tick: Callable[[], None],
    more_arguments: Mapping[str, Sequence[Any]] | None = None,
) -> Measured:
    """Start a job's processes on this machine, with other functions for the roles in `targets`, and wait for the end.

    `more_arguments` are given to the tasks of a role after those that every task of a job has.

    Raises:
        FacesimError: a process failed.
    """
    run = Run.create(folder, job)
    plan = BACKEND.render(job, run.directory, inputs)
    more = more_arguments or {}
    tasks = [
        replace(
            task,
            target=targets.get(task.role, task.target),
            arguments=(*task.arguments, *more.get(task.role, ())),
            replaceable=False,
        )
        for task in plan.tasks
    ]
    plan = replace(plan, tasks=tuple(tasks), max_restarts=0, hang_s=0.0)
    follow(run, plan, tick, "the machine could not be profiled")
    figures = json.loads((run.directory / MEASURED).read_text(encoding="utf-8"))
    return Measured(figures, measured_load(samples_in(run.metrics), one_machine=True))


def follow(run: Run, plan: Plan, tick: Callable[[], None], failure: str) -> None:
    """Run a plan in a run directory, to its end. Ended early, it leaves no process behind.

    Raises:
        FacesimError: a process failed; `failure` says what that means.
    """
    run.record("submitted")
    node = BACKEND.submit(run, plan)
    outcome, why = Outcome.FAILED, ""
    try:
        for event in node.events(_TICK_S):
            if event is None:
                tick()
            elif isinstance(event := event_of(event), NodeEnded):
                outcome = event.outcome
            elif isinstance(event, TaskFailed) and not why:
                why = f"{event.task}: {event.why}"
    finally:
        node.close()
        run.claim.release()
    if outcome is not Outcome.COMPLETED:
        lines = "\n".join(last_lines(run.log_file(plan.leader)))
        raise FacesimError(f"{failure}: {why or 'a process ended unexpectedly'}\n{lines}")


def cores_apart() -> tuple[list[int], list[int]]:
    """A core for a parameter server, and those for everybody else; two empty lists where that is not possible.

    So a server that is asked by workers of the same machine is as fast as its core, and no slower for their sake.
    """
    if not hasattr(os, "sched_setaffinity"):
        return [], []
    first, *others = sorted(os.sched_getaffinity(0))
    return ([first], others) if others else ([], [])

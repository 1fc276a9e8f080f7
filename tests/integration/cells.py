"""Many small trainings of one strategy in one cluster: what takes long is starting it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from facesim.backends.local import BACKEND
from facesim.preflight.inputs import prepare_inputs
from facesim.runs.directory import Run
from facesim.spec.job import make_job

#: Has TensorFlow log what it prepares to run in other tasks, a line each with the thread that it is prepared by.
PREPARED = {"TF_CPP_MIN_LOG_LEVEL": "0", "TF_CPP_VMODULE": "cluster_function_library_runtime=1"}
#: The folder of the single runs in that of the whole.
CELLS = "cells"


def train_cells(
    directory: Path,
    strategy: str,
    shape: dict[str, Any],
    cells: dict[str, dict[str, Any]],
    environment: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Run]:
    """Have a strategy, in a cluster of a shape, train by each cell's options, one after another; the runs by name."""
    whole = Run.create(directory, make_job(strategy=strategy, **shape))
    runs = {}
    for name, options in cells.items():
        job = make_job(strategy=strategy, **shape, **options)
        runs[name] = Run.create(directory / CELLS / name, job)
        inputs = prepare_inputs(job, lambda *_: None)
        runs[name].record("submitted", folders={what: str(folder) for what, folder in inputs.folders.items()})
    plan = BACKEND.render(whole.job(), whole.directory, inputs)
    tasks = [
        task if task.serves else dataclasses.replace(task, target="tests.integration.cell_tasks:train_all")
        for task in plan.tasks
    ]
    plan = dataclasses.replace(plan, environment=plan.environment | environment, tasks=tuple(tasks), monitor=None)
    execution = BACKEND.submit(whole, plan)
    try:
        (*_, ended) = [event for event in execution.events(1.0) if event]
    finally:
        execution.close()
    assert ended["outcome"] == "completed", whole.log_tail("chief-0", 40)
    return runs


def folders_of(run: Run) -> dict[str, Path]:
    """The folders that a cell reads, as `facesim.preflight.inputs.Inputs` has them."""
    return {what: Path(folder) for what, folder in run.events()[0]["folders"].items()}

"""The training task of `cells`: in place of one run it trains many, one after another, in the same processes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import tensorflow as tf

from facesim.preflight.inputs import DATA, PRETRAINED
from facesim.runs.directory import Run, find_runs
from facesim.training.context import open_context
from facesim.training.tensorflow.pipeline import TASK_INDEX_FILE
from tests.integration.cells import CELLS, folders_of


def train_all(runs_directory: str, threads: int, _: str, checkpoints: str, *__: str) -> None:
    """Train every run below a folder as its job says; all have one strategy and one cluster."""
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {"type": "chief", "index": 0})
    role, index = task["type"], task["index"]
    replica = 0 if role == "chief" else index + 1
    here = Run(Path(runs_directory)).task_directory(f"{role}-{index}")
    (here / TASK_INDEX_FILE).write_text(str(replica))
    os.chdir(here)
    # A process has one runtime for collective operations: its trainings take turns with it.
    for name in ("MirroredStrategy", "MultiWorkerMirroredStrategy"):
        setattr(tf.distribute, name, _made_once(getattr(tf.distribute, name)))
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    for run in find_runs([Path(runs_directory) / CELLS]):
        run.task_directory(f"{role}-{index}")
        folders = folders_of(run)
        context = open_context(
            run, folders[DATA], Path(checkpoints) / run.id, role, index, replica, folders.get(PRETRAINED)
        )
        print(run.id, flush=True)
        context.job.strategy.train(context)


def _made_once(make: Any) -> Any:
    made: list[Any] = []

    def one(*arguments: Any) -> Any:
        if not made:
            made.append(make(*arguments))
        return made[0]

    return one

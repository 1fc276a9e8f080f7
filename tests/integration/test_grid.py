"""Every strategy trains every backbone and every head: two updates on tiny images, all of a strategy in one cluster.

A head knows nothing of the backbone before it, so each backbone is trained with one head, and each head on one
backbone. ResNet-50 and EfficientNet take minutes to trace in every strategy: they are for `FACESIM_TEST_LARGE=1`.
"""

from __future__ import annotations

import dataclasses
import math
import os

import pytest

from facesim.backends.local import BACKEND
from facesim.data import prepare
from facesim.job import make_job
from facesim.models import HEADS, MODELS
from facesim.run import Run, find_runs
from facesim.training import STRATEGIES

LARGE = {"resnet50", "efficientnet-b0"}
BACKBONES = [name for name in MODELS if name not in LARGE or os.environ.get("FACESIM_TEST_LARGE")]
CELLS = [
    *((backbone, "arcface") for backbone in BACKBONES),
    *(("plain-cnn", head) for head in HEADS if head != "arcface"),
]
TINY = {"image_size": 32, "epochs": 1, "batch": 6, "held_out": 0.8, "workers": 2, "local_steps": 2, "threads": 1}


@pytest.fixture(scope="module")
def data(faces, cache):
    return prepare(str(faces), image_size=32, cache_dir=cache)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_trains_every_backbone_and_every_head(strategy, data, tmp_path):
    for model, head in CELLS:
        job = make_job(strategy=strategy, model=model, head=head, **TINY)
        Run.create(tmp_path / "cells" / f"{model}-{head}", job).record("submitted")
    whole = Run.create(tmp_path / "whole", job)
    (tmp_path / "cells").rename(whole.directory / "cells")
    plan = BACKEND.render(job, whole.directory, data.directory)
    tasks = [
        task if task.serves else dataclasses.replace(task, target="tests.integration.grid_tasks:train_all")
        for task in plan.tasks
    ]
    execution = BACKEND.submit(whole, dataclasses.replace(plan, tasks=tuple(tasks), monitor=None))
    try:
        (*_, ended) = [event for event in execution.events(1.0) if event]
    finally:
        execution.close()

    assert ended["outcome"] == "completed", whole.log_tail("chief-0", 40)
    for run in find_runs([whole.directory / "cells"]):
        found = run.outcome()
        assert found["updates"] == 3, run.id
        assert found["examples_seen"] == found["counted"]["examples_due"] == 16, run.id
        assert math.isfinite(found["held_out_loss"]), run.id

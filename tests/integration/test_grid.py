"""Every strategy trains every backbone and every head: a few updates on tiny images, all of a strategy in one cluster.

A head knows nothing of the backbone before it, so each backbone is trained with one head, and each head on one
backbone. What takes long to trace is left to `FACESIM_TEST_LARGE=1`: ResNet-50 and EfficientNet, and MobileFaceNet in
all but one strategy with parameter servers and one with peers (one process: `tests/unit/test_models.py`).
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

ONE_OF_A_KIND = {"ps-async", "allreduce"}
LARGE = bool(os.environ.get("FACESIM_TEST_LARGE"))
TINY = {"image_size": 32, "epochs": 1, "batch": 6, "held_out": 0.8, "workers": 2, "local_steps": 2, "threads": 1}


@pytest.fixture(scope="module")
def data(faces, cache):
    return prepare(str(faces), image_size=32, cache_dir=cache)


def cells(strategy: str) -> list[tuple[str, str]]:
    """Backbones and heads that a strategy trains here."""
    slow = {"resnet50", "efficientnet-b0"} | (set() if strategy in ONE_OF_A_KIND else {"mobilefacenet"})
    backbones = [name for name in MODELS if LARGE or name not in slow]
    return [*((name, "arcface") for name in backbones), *(("plain-cnn", head) for head in HEADS if head != "arcface")]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_trains_every_backbone_and_every_head(strategy, data, tmp_path):
    whole = Run.create(tmp_path / "whole", make_job(strategy=strategy, **TINY))
    for model, head in cells(strategy):
        job = make_job(strategy=strategy, model=model, head=head, **TINY)
        Run.create(whole.directory / "cells" / f"{model}-{head}", job).record("submitted")
    plan = BACKEND.render(whole.job(), whole.directory, data.directory)
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

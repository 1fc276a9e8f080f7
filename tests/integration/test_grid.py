"""Every strategy trains every backbone and every head: a few updates on tiny images, all of a strategy in one cluster.

A head knows nothing of the strategy, so a strategy trains each backbone once, with heads in turn: with every head, and
each backbone has every head with some strategy. What takes longest to trace (ResNet-50, EfficientNet) is left to
`FACESIM_TEST_LARGE=1`: in one process `tests/unit/test_models.py` trains all.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product

import pytest

from facesim.models import HEADS, MODELS
from facesim.runs.directory import Run
from facesim.spec.strategies import STRATEGIES
from tests.integration.cells import train_cells

LARGE = {"resnet50", "efficientnet-b0"}
BACKBONES = [name for name in MODELS if name not in LARGE or os.environ.get("FACESIM_TEST_LARGE")]
#: All batches alike, and as many images held out as trained on: each function is traced once.
TINY = {"image_size": 32, "epochs": 1, "batch": 10, "held_out": 0.5}


def cells(strategy: str) -> list[tuple[str, str]]:
    """Backbones and heads that a strategy trains here."""
    heads, first = list(HEADS), list(STRATEGIES).index(strategy)
    return [(model, heads[(first + place) % len(heads)]) for place, model in enumerate(BACKBONES)]


def test_the_grid_has_every_pair_of_strategy_backbone_and_head():
    grid = [(strategy, model, head) for strategy in STRATEGIES for model, head in cells(strategy)]

    assert {(strategy, model) for strategy, model, _ in grid} == set(product(STRATEGIES, BACKBONES))
    assert {(strategy, head) for strategy, _, head in grid} == set(product(STRATEGIES, HEADS))
    assert {(model, head) for _, model, head in grid} == set(product(BACKBONES, HEADS))


@pytest.fixture(scope="module")
def training(request, faces, tmp_path_factory) -> Iterator[dict[str, Future[dict[str, Run]]]]:
    """Each chosen strategy's runs, when they are done: two strategies at a time, for tracing takes one core."""
    options, directory = TINY | {"data": str(faces)}, tmp_path_factory.mktemp("grid")
    mine = [item for item in request.session.items if item.module is request.module and hasattr(item, "callspec")]
    with ThreadPoolExecutor(2) as pool:
        yield {
            strategy: pool.submit(
                train_cells,
                directory / strategy,
                strategy,
                {"workers": 2, "threads": 1} | ({"local_steps": 2} if strategy == "local-sgd" else {}),
                {f"{model}-{head}": options | {"model": model, "head": head} for model, head in cells(strategy)},
            )
            for strategy in dict.fromkeys(item.callspec.params["strategy"] for item in mine)
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.exhaustive  # one process trains all in `tests/unit/test_models.py`, others a few in `test_strategies.py`
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_trains_every_backbone_and_every_head(training, strategy):
    runs = training[strategy].result()

    assert len(runs) == len(BACKBONES)
    for name, run in runs.items():
        outcome = run.outcome()
        assert outcome["updates"] == 4, name
        assert outcome["examples_seen"] == outcome["counted"]["examples_due"] == 40, name
        assert math.isfinite(outcome["held_out_loss"]), name

"""The same training by every framework: parameters, batches, curve, audit, the saved network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facesim.report.load import load
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.strategies import STRATEGIES
from tests.conftest import completed_run, facesim, parse
from tests.frameworks.conftest import OTHERS, QUIETLY, curve, need

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

TOGETHER = "together" if sys.platform == "linux" else "unknown"  # bytes of each task need Linux' socket diagnostics


@pytest.mark.parametrize("strategy", ["single", "allreduce"])
@pytest.mark.parametrize("framework", OTHERS)
def test_a_plain_network_has_the_curve_that_it_has_by_tensorflow(plain, framework, strategy):
    ours, theirs = plain(framework, strategy), plain(TENSORFLOW, "single")

    np.testing.assert_allclose(curve(ours), curve(theirs), rtol=1e-5)
    assert ours.result().held_out_loss == pytest.approx(theirs.result().held_out_loss, rel=1e-5)
    assert len(curve(ours)) == 3


@pytest.mark.parametrize("framework", OTHERS)
def test_copies_that_are_averaged_now_and_then_end_elsewhere_the_same_way_by_every_framework(plain, framework):
    ours, theirs = plain(framework, "local-sgd"), plain(TENSORFLOW, "local-sgd")

    np.testing.assert_allclose(curve(ours), curve(theirs), rtol=1e-5)
    assert curve(ours) != pytest.approx(curve(plain(TENSORFLOW, "single")), rel=1e-5)


@pytest.mark.parametrize("strategy", ["allreduce", "local-sgd"])
@pytest.mark.parametrize("framework", OTHERS)
def test_the_audit_says_that_the_replicas_trained_together(plain, framework, strategy):
    audit = plain(framework, strategy).result()["sync_audit"]

    assert audit["verdict"] == TOGETHER, audit["evidence"]
    assert any("2 replicas were equal, bit for bit" in sentence for sentence in audit["evidence"])


@pytest.mark.parametrize("framework", OTHERS)
def test_a_network_is_the_same_file_whatever_trained_it(plain, framework):
    run = plain(framework, "single")

    evaluation = parse(facesim("evaluate", run.directory, "--json"))  # by TensorFlow

    assert evaluation["closed_set"]["examples"] == run.result()["data"]["held_out_examples"]
    assert evaluation["closed_set"]["accuracy"] == pytest.approx(run.result().held_out_accuracy, abs=1 / 16)
    assert load(run).frameworks == [framework]


@pytest.mark.parametrize("framework", OTHERS)
def test_the_modern_recipe_is_trained_together_with_its_random_and_moving_parts(faces, tmp_path, framework):
    need(framework)
    options = ("--recipe", "modern", "--image-size", 32, "--epochs", 2, "--batch", 8)

    run = completed_run(
        tmp_path, "--framework", framework, "--strategy", "allreduce", "--data", faces, *options, *QUIETLY
    )

    assert run.result()["sync_audit"]["verdict"] == TOGETHER, run.result()["sync_audit"]
    assert np.isfinite(run.result()["held_out_loss"])


#: Prints the shapes of what a step of PyTorch's copies into another order in memory.
COPIES = """
import facesim.training.torch.preload, numpy, torch
from facesim import models
from torch.profiler import profile
model = models.build("compact-cnn", (32, 32, 3), 4, head="softmax")
images = torch.zeros((7, 32, 32, 3), dtype=torch.uint8)
with profile(record_shapes=True) as step:
    model(images, training=True).sum().backward()
print([event.input_shapes[0] for event in step.events() if event.name == "aten::contiguous"])
"""


def test_pytorch_does_not_copy_images_from_layer_to_layer():
    need("torch")

    ended = subprocess.run([sys.executable, "-c", COPIES], capture_output=True, text=True, check=True)

    copied = json.loads(ended.stdout.splitlines()[-1])
    assert not [shape for shape in copied if len(shape) == 4 and shape[0] == 7], copied


@pytest.mark.parametrize("framework", OTHERS)
def test_a_strategy_that_it_has_not_is_refused_with_those_that_it_has(framework, tmp_path):
    refused = facesim("run", "--framework", framework, "--strategy", "ps-async", "--output", tmp_path / "runs")

    assert refused.code == 2
    assert all(name in refused.errors for name in ("ps-async", "tensorflow", "allreduce", "local-sgd"))
    assert not list(Path(tmp_path).iterdir())
    assert STRATEGIES["allreduce"].trainers.keys() >= {framework}

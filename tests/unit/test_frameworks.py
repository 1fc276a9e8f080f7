"""What is known of frameworks without importing one, and what is refused before anything starts."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from facesim.models import MODELS
from facesim.models.framework import without
from facesim.preflight.framework import check_framework
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW, Framework
from facesim.spec.job import changed_job, make_job
from facesim.spec.strategies import STRATEGIES, Single
from facesim.util.errors import InputError
from tests.conftest import facesim_here
from tests.frameworks.conftest import need
from tests.support.plugins import write_metadata

#: A module with a network that calls TensorFlow itself.
NEEDS_TENSORFLOW = """
from facesim.models import Model

def features(images):
    import keras, tensorflow as tf

    class Saturated(keras.layers.Layer):
        def call(self, images):
            return tf.image.rgb_to_hsv(tf.cast(images, "float32"))

        def compute_output_shape(self, shape):
            return shape

    layer = keras.layers.Conv2D(3, 1)
    return keras.layers.Flatten()(Saturated()(layer(images)))

MODEL = Model(features, "needs TensorFlow", lambda image_size: 3 * image_size**2)
"""


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_job_has_a_framework_that_can_train_by_its_strategy(strategy, framework):
    if framework in STRATEGIES[strategy].trainers:
        assert make_job(strategy=strategy, framework=framework).framework == framework
    else:
        with pytest.raises(InputError, match=r"use --framework tensorflow, or a strategy that \w+ has: single"):
            make_job(strategy=strategy, framework=framework)


def test_the_framework_of_a_run_may_change_and_its_experiment_may_not():
    job = make_job(strategy="allreduce")

    assert changed_job(job, {"framework": "torch"}).framework == "torch"
    with pytest.raises(InputError, match="batch"):
        changed_job(job, {"framework": "torch", "batch": job.experiment.batch + 1})


@pytest.mark.parametrize("backend", ["docker", "sagemaker"])
def test_a_framework_that_is_in_no_image_is_refused(backend, monkeypatch):
    framework = Framework("of another package", "none:train", (), ("numpy",))
    monkeypatch.setattr(FRAMEWORKS, "_builtin", {**FRAMEWORKS._builtin, "caffe": framework})
    monkeypatch.setattr(Single, "trainers", {**Single.trainers, "caffe": "none:train"})

    assert make_job(framework="caffe").framework == "caffe"
    with pytest.raises(InputError, match="no image with --framework caffe for --backend .*, torch, jax: use one of"):
        make_job(framework="caffe", backend=backend)


def test_what_is_not_installed_is_told_with_how_to_install_it():
    framework = Framework("nothing", "none:train", (), ("surely_not_installed",), extra="torch")

    with pytest.raises(InputError, match=r"surely_not_installed is not installed.*facesim\[torch\]"):
        framework.check()


def test_with_a_framework_that_is_hidden_a_job_is_refused_before_it_starts():
    with without("torch"), pytest.raises(InputError, match="--framework torch: torch is not installed"):
        check_framework(make_job(framework="torch"))


@pytest.mark.frameworks
@pytest.mark.slow
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_network_with_a_layer_that_the_framework_has_not_is_refused_before_it_starts(
    tmp_path, monkeypatch, framework
):
    need(framework)
    (tmp_path / "tf_only.py").write_text(NEEDS_TENSORFLOW)
    write_metadata(tmp_path, "tf-only", "1.0", {"facesim.models": {"tf-only": "tf_only:MODEL"}})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(MODELS, "_plugins", {point.name: point for point in entry_points(group=MODELS.group)})

    with pytest.raises(InputError, match=f"--framework {framework} cannot train the network tf-only.*use --framework"):
        check_framework(make_job(framework=framework, model="tf-only"))


def test_the_default_framework_is_the_one_that_comes_with_facesim():
    assert make_job().framework == TENSORFLOW
    FRAMEWORKS[TENSORFLOW].check()


@pytest.mark.parametrize("command", [("profile",), ("plan",), ("forecast", "--strategy", "allreduce")])
def test_what_is_forecast_with_tensorflow_only_says_so_before_anything_is_measured(command):
    refused = facesim_here(*command, "--framework", "torch")

    assert refused.code == 2
    assert "with tensorflow, not with --framework torch: leave --framework out, or run the job" in refused.errors

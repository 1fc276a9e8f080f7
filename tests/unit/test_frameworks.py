"""What is known of frameworks without importing one, and what is refused before anything starts."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from facesim.models import MODELS
from facesim.models.framework import without
from facesim.preflight.framework import check_framework
from facesim.profiling.profile import check_measurable
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW, Framework
from facesim.spec.job import changed_job, flat, make_job, options
from facesim.spec.strategies import STRATEGIES, Single
from facesim.spec.study import Study
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

    with pytest.raises(InputError, match=r"surely_not_installed is not installed.*facesim-cluster\[torch\]"):
        framework.check()


def test_a_package_that_is_hidden_counts_as_not_installed():
    framework = Framework("nothing", "none:train", (), ("pydoc_data",))
    framework.check()

    with without("pydoc_data"), pytest.raises(InputError, match="pydoc_data is not installed"):
        framework.check()


@pytest.fixture
def no_torch(monkeypatch):
    """As where it is not installed, also if another test has imported it."""
    monkeypatch.setitem(sys.modules, "torch", None)


def test_with_a_framework_that_is_hidden_a_job_is_refused_before_it_starts(no_torch):
    with pytest.raises(InputError, match="--framework torch: torch is not installed"):
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


@pytest.mark.parametrize("command", [("profile",), ("plan",), ("forecast",)])
def test_a_framework_that_is_not_installed_is_not_measured(no_torch, command):
    refused = facesim_here(*command, "--framework", "torch")

    assert refused.code == 2
    assert "--framework torch: torch is not installed" in refused.errors


def test_forecasts_are_of_frameworks_that_are_measured(monkeypatch):
    framework = Framework("of another package", "none:train", (), ("numpy",))
    monkeypatch.setattr(FRAMEWORKS, "_builtin", {**FRAMEWORKS._builtin, "caffe": framework})
    monkeypatch.setattr(Single, "trainers", {**Single.trainers, "caffe": "none:train"})

    with pytest.raises(InputError, match="no forecasts, of --framework caffe: give one of tensorflow, torch, jax"):
        check_measurable(make_job(framework="caffe"))


#: Values of options that are not their defaults, where these cannot be made from the default or the choices.
OTHER_VALUES = {
    "data": "olivetti", "test": "lfw", "subset": "images=5", "pretrained": "runs", "image_feature": "picture",
    "label_feature": "person", "min_images": 5, "clip_norm": 1.0, "threads": 1, "instance_type": "ml.m5.large",
    "ps_instance_type": "ml.m5.large",
}  # fmt: skip


def other_value(one):
    if one.name in OTHER_VALUES:
        return OTHER_VALUES[one.name]
    if one.kind is bool:
        return not one.default
    if one.choices:
        return next(value for value in map(one.kind, one.choices()) if value != one.default)
    return one.kind(2 * one.default or 1) if one.kind is int else one.default / 2 + 0.1


def code_of(framework) -> str:
    """What decides how a framework trains, but for where options are defined and for other frameworks' code."""
    others = [Path("facesim/spec"), Path("facesim/profiling"), Path("facesim/backends/kernels.py")]
    others += [Path("facesim/training", name) for name in FRAMEWORKS if name != framework]
    files = [path for path in Path("facesim").rglob("*.py") if not set(others) & {path, *path.parents}]
    return "".join(path.read_text() for path in (*files, Path("facesim/spec/job.py")))


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_an_option_that_a_framework_does_not_heed_is_refused(framework):
    refused, unread, code = set(), set(), code_of(framework)
    trained = [one for one in options().values() if one.path[0] in ("experiment", "shape") and one.name != "seed"]
    for one in trained:
        try:
            make_job(framework=framework, **{one.name: other_value(one)})
        except InputError as error:
            assert TENSORFLOW in str(error)
            refused.add(one.name)
        else:
            unread |= set() if f".{one.path[-1]}" in code else {one.name}

    assert refused == {"kernels", "optimizer", "momentum", "sample_rate"}
    assert not unread


def test_an_option_of_one_framework_goes_to_its_jobs_of_a_study_and_not_to_a_run_that_goes_on_in_another():
    jobs = Study({"kernels": "eigen"}, {"framework": [TENSORFLOW, "torch"]}).jobs()

    assert [(job.framework, job.shape.kernels) for job in jobs] == [(TENSORFLOW, "eigen"), ("torch", "auto")]
    assert "kernels" not in flat(jobs[1]) and make_job(**flat(jobs[1])) == jobs[1]
    assert changed_job(jobs[0], {"framework": "torch"}) == jobs[1]
    assert changed_job(jobs[1], {"framework": TENSORFLOW}).framework == TENSORFLOW
    with pytest.raises(InputError, match="--kernels 'eigen' means nothing to --framework torch or jax"):
        Study({"kernels": "eigen"}, {"framework": ["torch", "jax"]})
    with pytest.raises(InputError, match="--kernels 'eigen' means nothing to --framework torch"):
        changed_job(jobs[0], {"framework": "torch", "kernels": "eigen"})


def test_a_doctor_says_what_is_not_installed_of_a_framework_that_is_to_train_here(monkeypatch):
    for name in ("_python", "_machine", "_tensorflow", "_kernels", "_network", "_containers", "_disk"):
        monkeypatch.setattr(f"facesim.cli.doctor.{name}", lambda: iter(()))
    monkeypatch.setattr("facesim.spec.frameworks.find_spec", lambda package: None)

    here = facesim_here("doctor", "--framework", "torch")
    in_an_image = facesim_here("doctor", "--framework", "torch", "--backend", "docker")

    assert (here.code, "FAIL torch: torch is not installed" in here.output) == (1, True)
    assert (in_an_image.code, in_an_image.output) == (0, "")

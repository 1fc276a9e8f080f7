"""Exported models, loaded in a process that has only Keras, or only TensorFlow."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from facesim.cli import main
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from tests.conftest import facesim_here

MODELS = {"plain": ("compact-cnn", "softmax", False), "modern": ("resnet-small", "arcface", True)}

LOOK = """
import sys
import numpy as np
import keras
import tensorflow as tf
for folder in sys.argv[1:]:
    images = np.load(f"{folder}/images.npy")
    loaded = keras.saving.load_model(f"{folder}/m.keras")
    found = {"keras." + name: value for name, value in loaded.predict(images, verbose=0).items()}
    model = tf.saved_model.load(f"{folder}/m")
    for name in ("embed", "classify", "serving_default"):
        for output, value in model.signatures[name](images=tf.constant(images)).items():
            found[f"{name}.{output}"] = value.numpy()
    np.savez(f"{folder}/found.npz", **found)
assert not any(name.split(".")[0] == "facesim" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory, faces, takes_long):
    """For each of `MODELS` a run with a model of random weights, its two exports, and what they say elsewhere."""
    keras = pytest.importorskip("keras")
    from facesim import models

    folders = {}
    for name, (network, head, modern) in MODELS.items():
        folders[name] = folder = tmp_path_factory.mktemp(name)
        job = make_job(model=network, head=head, data=str(faces), image_size=32, augment=modern, mirror_test=modern)
        run = Run.create(folder / "run", job)
        keras.utils.set_random_seed(0)
        model = models.build(network, (32, 32, 3), 8, head=head, augment=modern)
        random = np.random.default_rng(0)
        for variable in model.weights:
            if variable.path.endswith(("moving_mean", "moving_variance", "gamma", "beta", "alpha")):
                variable.assign(random.uniform(0.2, 0.8, variable.shape))
        model.save(run.model_file)
        np.save(folder / "images.npy", random.integers(0, 256, (5, 32, 32, 3), np.uint8))
        for kind, output in (("keras", "m.keras"), ("savedmodel", "m")):
            assert main(["export", str(run.directory), "--format", kind, "--output", str(folder / output)]) == 0
    # Not from this repository's folder: facesim must not be at hand.
    subprocess.run([sys.executable, "-c", LOOK, *folders.values()], check=True, cwd=folder)
    return folders


@pytest.fixture(params=MODELS)
def exported(request, folders):
    """A run's folder, what its `Embedder` says of some images, and what the exports say."""
    from facesim.recognition.embedding import Embedder

    folder = folders[request.param]
    images, embedder = np.load(folder / "images.npy"), Embedder(Run(folder / "run"))
    return folder, embedder.embed(images), embedder.predict(images), dict(np.load(folder / "found.npz"))


def test_every_export_embeds_as_facesim_does(exported):
    _, embeddings, _, runtime = exported

    for name in ("keras.embedding", "embed.embedding", "serving_default.embedding"):
        np.testing.assert_allclose(runtime[name], embeddings, atol=1e-4)


def test_every_export_classifies_as_facesim_does(exported):
    _, _, record, runtime = exported

    for signature in ("keras", "classify", "serving_default"):
        logits, probabilities = runtime[f"{signature}.logits"], runtime[f"{signature}.probabilities"]
        np.testing.assert_array_equal(logits.argmax(axis=1), record)
        np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), probabilities, rtol=1e-3)


def test_the_people_s_names_are_written_in_the_order_of_the_logits(exported, faces):
    folder, *_ = exported
    names = [person.name for person in sorted(faces.iterdir())]

    assert json.loads((folder / "m.identities.json").read_text()) == names
    assert json.loads((folder / "m" / "assets.extra" / "identities.json").read_text()) == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--output", "m.h5"), "must end in .keras in this format; formats are keras, savedmodel, onnx"),
        (("--output", "m.keras"), "m.keras already exists; name another"),
        (("--output", "nowhere/m.keras"), "nowhere is no folder"),
        (("--output", "n.keras"), "n.identities.json already exists; name another"),
    ],
)
def test_an_output_that_cannot_be_written_is_told(folders, options, message, monkeypatch):
    folder = folders["plain"]
    monkeypatch.chdir(folder)
    (folder / "n.identities.json").write_text("[]")

    command = facesim_here("export", folder / "run", *options)

    assert command.code == 2
    assert message in command.errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--registry", "faces", "--format", "onnx"), "--format and --output are of what is written here"),
        (("--registry", "faces", "--output", "m.keras"), "--format and --output are of what is written here"),
        (("--region", "eu-west-1"), "--region is of the registry at AWS: give --registry, too"),
    ],
)
def test_options_of_a_file_and_of_the_registry_are_told_apart(tmp_path, options, message):
    command = facesim_here("export", tmp_path / "run", *options)

    assert (command.code, message in command.errors) == (2, True), command.errors


@pytest.fixture
def plain(folders, tmp_path):
    """A copy of the plain run, to be changed."""
    shutil.copytree(folders["plain"] / "run", tmp_path / "run")
    return Run(tmp_path / "run")


def test_what_is_wrong_with_a_run_is_said_when_its_model_leaves(plain, tmp_path):
    ended = {"strategy": "independent", "backend": "local", "seed": 0, "state": "MaxRuntimeExceeded"}
    ended |= {"sync_audit": {"verdict": "apart"}, "data": {"content_sha256": "of other images"}}
    plain.result_file.write_text(json.dumps(ended))

    command = facesim_here("export", plain.directory, "--output", tmp_path / "m.keras")

    assert command.code == 0, command.errors
    assert "run ended as MaxRuntimeExceeded: its training may not have come to its end" in command.errors
    assert "trained apart: this is the model of one of them" in command.errors
    assert "faces is not what it was when the model was trained, so it is not known who is who" in command.errors
    assert json.loads((tmp_path / "m.identities.json").read_text()) == [str(number) for number in range(8)]


@pytest.mark.parametrize("kind", ["two outputs", "no head", "pictures", "others"])
def test_a_network_that_is_none_of_facesim_s_is_told(plain, faces, tmp_path, kind):
    from keras import Input, Model, layers

    images = Input((32, 32, 3), dtype="uint8")
    pixels = layers.Rescaling(1.0)(images)
    features = layers.Flatten()(pixels)
    outputs = {
        "two outputs": {"a": layers.Dense(8)(features)},
        "no head": features,
        "pictures": layers.Dense(8)(pixels),
        "others": layers.Dense(8)(features),
    }
    Model(images, outputs[kind], name="compact_cnn").save(plain.model_file)

    exported = facesim_here("export", plain.directory, "--output", tmp_path / "m.keras")
    message = (
        "not a compact-cnn as this facesim builds it" if kind == "others" else "is no network that facesim trained"
    )
    assert (exported.code, message in exported.errors) == (2, True), exported.errors
    if kind != "others":
        verified = facesim_here("verify", plain.directory, *sorted(faces.rglob("*.png"))[:2])
        assert (verified.code, message in verified.errors) == (2, True), verified.errors


def test_a_model_that_gives_no_numbers_gives_no_answers(plain, faces):
    from facesim import models

    model = models.load(plain.model_file, "compact-cnn")
    kernel = next(variable for variable in model.weights if variable.path.endswith("kernel"))
    kernel.assign(np.full(kernel.shape, np.nan))
    model.save(plain.model_file)

    for command in ("verify", "identify", "evaluate"):
        images = sorted(faces.rglob("*.png"))[:2] if command == "verify" else [faces, next(faces.rglob("*.png"))]
        ended = facesim_here(command, plain.directory, *(images if command != "evaluate" else ()))
        assert (ended.code, "are not finite numbers" in ended.errors) == (2, True), ended.errors

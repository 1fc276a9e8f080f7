"""Models exported to ONNX and LiteRT, read by their own runtimes where there is neither Keras nor TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from facesim.cli import main
from facesim.runs.directory import Run
from facesim.spec.job import make_job

pytestmark = pytest.mark.slow

LOOK = """
import sys, zipfile
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
images = np.load("images.npy")
session = onnxruntime.InferenceSession("m.onnx")
(given,) = session.get_inputs()
outputs = [output.name for output in session.get_outputs()]
onnx = dict(zip(outputs, session.run(outputs, {given.name: images})))
litert = Interpreter("m.tflite").get_signature_runner()(images=images)
int8 = Interpreter("int8.tflite").get_signature_runner()(images=images)
np.savez("onnx.npz", **onnx)
np.savez("litert.npz", **litert)
np.savez("int8.npz", **int8)
open("onnx.json", "w").write(session.get_modelmeta().custom_metadata_map["facesim"])
open("litert.json", "wb").write(zipfile.ZipFile("m.tflite").read("facesim.json"))
assert not {"facesim", "keras", "tensorflow"} & {name.split(".")[0] for name in sys.modules}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, faces):
    """A run with a model of random weights, some images, and what its exports say of them in their runtimes."""
    keras, *_ = map(pytest.importorskip, ("keras", "onnxruntime", "ai_edge_litert", "tf2onnx"))
    from facesim import models

    folder = tmp_path_factory.mktemp("runtimes")
    settings = {"model": "resnet-small", "head": "arcface", "augment": True, "mirror_test": True}
    run = Run.create(folder / "run", make_job(data=str(faces), image_size=32, **settings))
    keras.utils.set_random_seed(0)
    models.build("resnet-small", (32, 32, 3), 8, head="arcface", augment=True).save(run.model_file)
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8))
    for kind, name in (("onnx", "m.onnx"), ("litert", "m.tflite"), ("litert-int8", "int8.tflite")):
        assert main(["export", str(run.directory), "--format", kind, "--output", str(folder / name)]) == 0
    subprocess.run([sys.executable, "-c", LOOK], check=True, cwd=folder)
    return folder


@pytest.mark.parametrize("runtime", ["onnx", "litert"])
def test_a_runtime_recognises_as_facesim_does(folder, runtime):
    from facesim.recognition.embedding import Embedder

    images, embedder = np.load(folder / "images.npy"), Embedder(Run(folder / "run"))
    outputs = np.load(folder / f"{runtime}.npz")

    np.testing.assert_allclose(outputs["embedding"], embedder.embed(images), atol=1e-5)
    np.testing.assert_array_equal(outputs["logits"].argmax(axis=1), embedder.predict(images))
    np.testing.assert_allclose(outputs["probabilities"].sum(axis=1), 1, rtol=1e-5)


def test_kernels_in_int8_take_less_room_and_change_embeddings_little(folder):
    exact, rounded = (np.load(folder / f"{name}.npz")["embedding"] for name in ("litert", "int8"))

    assert (folder / "int8.tflite").stat().st_size < 0.5 * (folder / "m.tflite").stat().st_size
    assert (exact * rounded).sum(axis=1).min() > 0.98
    assert not np.array_equal(exact, rounded)


@pytest.mark.parametrize("runtime", ["onnx", "litert"])
def test_the_file_itself_says_what_it_takes_and_whom_it_names(folder, faces, runtime):
    content = json.loads((folder / f"{runtime}.json").read_text(encoding="utf-8"))

    assert content["identities"] == [person.name for person in sorted(faces.iterdir())]
    assert content["input"]["images"] == "uint8 (n, 32, 32, 3)" and content["input"]["colours"] == "RGB"
    assert "0 to 255" in content["input"]["pixels"] and "of length 1" in content["output"]["embedding"]

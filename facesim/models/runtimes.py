"""A trained network for runtimes that need neither Keras nor TensorFlow: ONNX and LiteRT, by Keras' own export.

Both files say in themselves what they take and give, as JSON: which pixels, which outputs, and the people's names in
the order of the logits. In ONNX that is the metadata `facesim`; a LiteRT file is also a zip archive with `facesim.json`
in it, as files with LiteRT's metadata are (`unzip -p face-model.tflite facesim.json`).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from facesim.util.files import made_whole

METADATA = "facesim"


def metadata(model: keras.Model, names: Sequence[str]) -> str:
    """What a model of `facesim.models.export.portable` takes and gives, as JSON."""
    height, width, channels = model.input_shape[1:]
    dimensions = model.output["embedding"].shape[-1]
    content = {
        "input": {
            "images": f"uint8 (n, {height}, {width}, {channels})",
            "colours": "grey" if channels == 1 else "RGB",
            "pixels": "0 to 255 as stored in the file, upright, scaled to this size; the model does the rest itself",
            "face": "one a picture, cut out as in the pictures that the model was trained on",
        },
        "output": {
            "embedding": f"float32 (n, {dimensions}), of length 1; compare by their dot product",
            "logits": f"float32 (n, {len(names)}), one of each of the identities",
            "probabilities": f"float32 (n, {len(names)}), softmax of the logits",
        },
        "identities": list(names),
    }
    return json.dumps(content, ensure_ascii=False, indent=1)


def write_onnx(model: keras.Model, names: Sequence[str], output: Path) -> None:
    """Write one `.onnx` file."""
    import onnx

    images = keras.InputSpec("uint8", (None, *model.input_shape[1:]), name="images")
    with made_whole(output) as new:
        model.export(str(new), format="onnx", verbose=False, input_signature=[images])
        written = onnx.load(new)
        onnx.helper.set_model_props(written, {METADATA: metadata(model, names)})
        onnx.save(written, new)


def write_litert(model: keras.Model, names: Sequence[str], output: Path) -> None:
    """Write one `.tflite` file, of LiteRT's own operations alone."""
    _write_litert(model, names, output)


def write_litert_int8(model: keras.Model, names: Sequence[str], output: Path) -> None:
    """The same with kernels in int8, each channel with a scale of its own, which needs no example images."""
    import tensorflow as tf

    _write_litert(model, names, output, optimizations=[tf.lite.Optimize.DEFAULT])


def _write_litert(model: keras.Model, names: Sequence[str], output: Path, **options: Any) -> None:
    import tensorflow as tf

    with made_whole(output) as new:
        target_spec = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
        model.export(str(new), format="litert", verbose=False, target_spec=target_spec, **options)
        with zipfile.ZipFile(new, "a") as archive:
            archive.writestr(f"{METADATA}.json", metadata(model, names))

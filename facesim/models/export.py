"""A trained network for use without facesim: made of Keras' own layers only, or a TensorFlow SavedModel."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers, ops

from facesim import models
from facesim.models.augmentation import Augmentation
from facesim.models.heads import CosineLogits
from facesim.util.files import made_whole


def portable(model: keras.Model, backbone: str, mirror: bool) -> keras.Model:
    """What `model`, of `models.build` with that backbone, says of images, by Keras' own layers and in float32.

    Images, uint8 (n, height, width, channels), give `embedding`, (n, dimensions), of length 1, and `logits` and
    `probabilities`, (n, identities). With `mirror` each is of an image and its mirror image together, as
    `facesim.recognition` does it.
    """
    image_shape, identities = model.input_shape[1:], model.output_shape[-1]
    # Built anew, without augmentation and whatever precision it was trained in; the head below is made of its weights.
    keras.config.set_dtype_policy("float32")
    network = models.embedder(models.build(backbone, image_shape, identities))
    trained = [layer for layer in model.layers[:-1] if layer.weights and not isinstance(layer, Augmentation)]
    untrained = [layer for layer in network.layers if layer.weights]
    for layer, trained_layer in zip(untrained, trained, strict=True):
        layer.set_weights(trained_layer.get_weights())
    unit, head = layers.UnitNormalization(name="unit"), _head(model.layers[-1])

    def recognise(images: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        features = network(images)
        return unit(features), head(unit(features) if isinstance(model.layers[-1], CosineLogits) else features)

    images = keras.Input(image_shape, dtype="uint8", name="images")
    embedding, logits = recognise(images)
    if mirror:
        mirrored_embedding, mirrored_logits = recognise(ops.flip(images, axis=2))
        embedding = unit(layers.Add()([embedding, mirrored_embedding]))
        logits = layers.Average()([logits, mirrored_logits])
    outputs = {"embedding": embedding, "logits": logits, "probabilities": layers.Softmax()(logits)}
    return keras.Model(images, outputs, name=model.name)


def _head(head: keras.Layer) -> layers.Dense:
    """The head as a dense layer: the centres of a cosine head, of length 1 and times its scale, are one's kernel."""
    cosine = isinstance(head, CosineLogits)
    dense = layers.Dense(head.units, use_bias=not cosine, name="head")
    dense.build(head.input.shape)
    dense.set_weights([head.scale * ops.normalize(head.centres(), axis=0)] if cosine else head.get_weights())
    return dense


def write_keras(model: keras.Model, names: Sequence[str], output: Path) -> None:
    """Write one `.keras` file, which `keras.saving.load_model` loads, and beside it the identities' names."""
    with made_whole(output.with_suffix(".identities.json")) as new_names, made_whole(output) as new:
        _write_names(names, new_names)
        model.save(new)


def loads_alone(file: Path) -> bool:
    """Whether Keras loads a `.keras` file without anything that is not its own."""
    registered = keras.saving.get_custom_objects()  # such as what the user's file registered when it was loaded here
    kept = dict(registered)
    registered.clear()
    try:
        keras.saving.load_model(file, compile=False)
    except Exception:  # noqa: BLE001  Keras raises what it trips over
        return False
    finally:
        registered.update(kept)
    return True


def write_savedmodel(model: keras.Model, names: Sequence[str], output: Path) -> None:
    """Write a SavedModel folder with the signatures `embed` and `classify`, and `serving_default`, which is both.

    The identities' names, in the order of the logits, lie in `assets.extra/identities.json`.
    """
    import tensorflow as tf

    images = [tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="images")]

    def only(*wanted: str):
        return lambda images: {name: value for name, value in model(images, training=False).items() if name in wanted}

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("embed", only("embedding"), images)
    archive.add_endpoint("classify", only("logits", "probabilities"), images)
    archive.add_endpoint("serving_default", only("embedding", "logits", "probabilities"), images)
    with made_whole(output) as new:
        try:
            archive.write_out(new, verbose=False)
        except tf.errors.OpError as error:  # the system's refusal in TensorFlow's words
            full = isinstance(error, tf.errors.ResourceExhaustedError)
            raise OSError(errno.ENOSPC if full else errno.EIO, error.message) from None
        extra = new / "assets.extra"  # where TensorFlow has a model's own files
        extra.mkdir()
        _write_names(names, extra / "identities.json")


def _write_names(names: Sequence[str], path: Path) -> None:
    path.write_text(json.dumps(list(names), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

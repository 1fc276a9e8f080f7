"""A network's logits on TensorFlow, for evaluating it."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from facesim.training.tensorflow.step import compiled


def logits_function(model: keras.Model, mirror: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    """As `facesim.training.keras.network.KerasReplicas.logits_function` has it; compiles the forward pass once."""

    @compiled
    def forward(images: tf.Tensor) -> tf.Tensor:
        logits = model(images, training=False)
        return (logits + model(images[:, :, ::-1], training=False)) / 2 if mirror else logits

    return lambda images: forward(tf.constant(images)).numpy()

"""Dropout with fewer random bits than TensorFlow draws on processors, where they are most of its cost.

TensorFlow draws 32 bits for each unit and selects units one by one: with the paper's network an eighth of a training
step. Which units are dropped needs 8 bits for each where the rate is a multiple of 1/256, and 16 where it is not, and
multiplying by zeros and ones is faster than selecting.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import random

#: As Keras has it, whatever is in use.
of_keras = random.dropout


def use() -> None:
    """Let the layers of Keras drop units like this from now on, in this process."""
    random.dropout = dropout


def dropout(inputs: tf.Tensor, rate: float, noise_shape: Any = None, seed: Any = None) -> tf.Tensor:
    """Keras' dropout: each unit of the `inputs` is 0 with probability `rate`, 0-1, to 1/131072, and else as much larger
    as keeps the mean. `noise_shape` says of which axes all units share their fate, where it has a 1.
    """
    if not isinstance(rate, Real) or tf.config.list_logical_devices("GPU"):
        return of_keras(inputs, rate, noise_shape, seed)
    levels = 2**8 if float(rate * 2**8).is_integer() else 2**16
    dropped = round(rate * levels)
    if not 0 < dropped < levels:
        return of_keras(inputs, rate, noise_shape, seed)
    shape = tf.convert_to_tensor(random._get_concrete_noise_shape(inputs, noise_shape))
    drawn = _drawn(shape, tf.uint8 if levels == 2**8 else tf.uint16, random._cast_seed(random.draw_seed(seed)))
    kept = tf.cast(drawn >= tf.constant(dropped, drawn.dtype), inputs.dtype)
    # One product with the inputs has one for its gradient, and two would have two.
    outputs = inputs * (kept * tf.constant(levels / (levels - dropped), inputs.dtype))
    return tf.ensure_shape(outputs, inputs.shape)


def _drawn(shape: tf.Tensor, dtype: tf.DType, seed: tf.Tensor) -> tf.Tensor:
    """Random numbers of an unsigned `dtype`, each of its values as likely as any other."""
    count = tf.reduce_prod(shape)
    words = tf.random.stateless_uniform([-(-count * dtype.size // 8)], seed, None, None, tf.uint64)
    return tf.reshape(tf.reshape(tf.bitcast(words, dtype), [-1])[:count], shape)

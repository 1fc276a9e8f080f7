"""The training step that every strategy shares, and what it tells about itself."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from facesim.training.objective import Loss


class StepResult(NamedTuple):
    """What one update was: sums over its examples, who computed it, and the parameter versions at both ends."""

    loss_sum: float
    correct: int
    examples: int
    worker: int
    version_read: int
    version: int

    @property
    def staleness(self) -> int:
        """Updates by others that came between reading the parameters and applying the gradient."""
        return self.version - self.version_read

    @classmethod
    def unpack(cls, packed: np.ndarray) -> "StepResult":
        return cls(float(packed[0]), *(int(value) for value in packed[1:]))


def training_step(
    model: keras.Model,
    optimizer: keras.Optimizer,
    loss_of: Loss,
    images: tf.Tensor,
    labels: tf.Tensor,
    worker: tf.Tensor,
) -> tf.Tensor:
    """Update the parameters from one batch: `images` uint8 (n, height, width, channels), `labels` int32 (n,).

    Returns a packed `StepResult`, float64 (6,): one tensor, because each one that is returned is a message.
    """
    version_read = tf.identity(optimizer.iterations.value)
    with tf.control_dependencies([version_read]), tf.GradientTape() as tape:
        logits = model(images, training=True)
        losses = loss_of(labels, logits)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, model.trainable_variables)
    version = optimizer.apply(gradients, model.trainable_variables)
    correct = tf.math.count_nonzero(tf.argmax(logits, axis=1, output_type=tf.int32) == labels)
    facts = (tf.reduce_sum(losses), correct, tf.shape(labels)[0], worker, version_read, version)
    return tf.stack([tf.cast(fact, tf.float64) for fact in facts])

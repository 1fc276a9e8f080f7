"""The training step that every strategy shares, and what it reports about itself."""

from collections.abc import Sequence
from functools import partial

import keras
import tensorflow as tf

from facesim.training.tensorflow.forward import Average, Forward
from facesim.training.tensorflow.gradients import Gradient, values_of, with_values
from facesim.training.tensorflow.objective import Loss

#: Compiles a function once for all sizes of a batch. What it does is written in TensorFlow's operations: autograph has
#: nothing to translate, which it would take most of a second for whenever a task starts.
compiled = partial(tf.function, reduce_retracing=True, autograph=False)


def training_step(
    forward: Forward,
    optimizer: keras.Optimizer,
    loss_of: Loss,
    images: tf.Tensor,
    labels: tf.Tensor,
    worker: tf.Tensor,
    share: tf.Tensor | float = 1.0,
    classes: Sequence[tf.Tensor] = (),
) -> tf.Tensor:
    """Update the parameters from one batch by itself: `compute_step`, then `apply_step`.

    Returns a packed `facesim.training.protocols.StepResult`, float64 (6,): one tensor, because each one that is
    returned is a message.
    """
    return apply_step(optimizer, *compute_step(forward, optimizer, loss_of, images, labels, worker, share, classes))


def apply_step(
    optimizer: keras.Optimizer, packed: tf.Tensor, gradients: list[Gradient], averages: list[Average]
) -> tf.Tensor:
    """Update the parameters by what `compute_step` returned; its `StepResult` with the version, float64 (6,)."""
    for average in averages:
        average.apply()
    version = optimizer.apply(gradients)
    return tf.concat([packed[:5], [tf.cast(version, tf.float64)]], axis=0)


def compute_step(
    forward: Forward,
    optimizer: keras.Optimizer,
    loss_of: Loss,
    images: tf.Tensor,
    labels: tf.Tensor,
    worker: tf.Tensor,
    share: tf.Tensor | float = 1.0,
    classes: Sequence[tf.Tensor] = (),
) -> tuple[tf.Tensor, list[Gradient], list[Average]]:
    """The gradient of one batch: `images` uint8 (n, height, width, channels), `labels` int32 (n,); with the `classes`
    of a sampled head, as `pipeline.index_batch` has both.

    It is that of the batch's mean loss, and of what regularizers add to it, times `share`: the part of the update's
    examples, 0-1, that this batch stands for, so that the gradients of all its parts add up to that of the mean over
    all examples. A batch with a share of 0 is computed but not counted.

    Returns a packed `StepResult` whose version is not known yet; a gradient for each trainable variable or, of a
    variable that is split, for each of its pieces, in the precision that `forward` has it, or in float32 where the
    `optimizer` has a scale of the loss; and what `forward` leaves to be made of the moving statistics.
    """
    scale = optimizer.loss_scale_factor
    # The plain operation is placed where the variable is; waiting for it costs no message where parameters are read.
    version_read = tf.raw_ops.ReadVariableOp(resource=optimizer.iterations.value.handle, dtype=tf.int64)
    with tf.control_dependencies([version_read]), tf.GradientTape(persistent=scale is not None) as tape:
        drawing = tf.stack([tf.cast(worker, tf.int64), version_read])
        logits, penalty, sources, averages = forward(images, *classes, drawing=drawing)
        losses = loss_of(labels, logits)
        loss = (tf.reduce_mean(losses) + penalty) * share
    gradients = tape.gradient(loss, sources) if scale is None else _of_scaled(loss, sources, tape, scale)
    correct = tf.math.count_nonzero(tf.argmax(logits, axis=1, output_type=tf.int32) == labels)
    counted = tf.cast(share > 0, tf.float64)
    sums = [tf.cast(some, tf.float64) * counted for some in (tf.reduce_sum(losses), correct, tf.shape(labels)[0])]
    unknown = tf.constant(-1, tf.int64)
    return tf.stack(sums + [tf.cast(fact, tf.float64) for fact in (worker, version_read, unknown)]), gradients, averages


def _of_scaled(
    loss: tf.Tensor, sources: list[tf.Variable | tf.Tensor], tape: tf.GradientTape, scale: float
) -> list[Gradient]:
    """The gradients, float32, that a backward pass in float16 has of the loss times `scale`, divided by that.

    Where one is too large for float16 then, they are those of a second pass, of the loss itself. Others leave out such
    an update and lower the scale; here each is made and counted, so that versions and their order have no gaps. If the
    second pass has no finite numbers either, neither will the loss: training ends as in other precisions.
    """
    gradients = tape.gradient(loss, sources, output_gradients=tf.constant(scale))
    scaled = [tf.cast(values_of(each), tf.float32) / scale for each in gradients]
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(each)) for each in scaled])

    def unscaled() -> list[tf.Tensor]:
        again = [tf.cast(values_of(each), tf.float32) for each in tape.gradient(loss, sources)]
        return [tf.ensure_shape(each, of_scaled.shape) for each, of_scaled in zip(again, scaled, strict=True)]

    values = tf.cond(finite, lambda: scaled, unscaled)
    return [with_values(gradient, each) for gradient, each in zip(gradients, values, strict=True)]

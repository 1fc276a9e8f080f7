"""What of TensorFlow's training is measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from facesim.training.tensorflow import preload  # isort: skip  before TensorFlow imports Keras
import numpy as np
import tensorflow as tf

from facesim.profiling import computing, summing
from facesim.profiling.computing import Link, Part, Summed
from facesim.runs.directory import Run
from facesim.training.context import Context
from facesim.training.tensorflow import task
from facesim.training.tensorflow.collectives import summed_by_ring
from facesim.training.tensorflow.forward import forward_of, sent_dtypes
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.pipeline import index_batch
from facesim.training.tensorflow.replicated import Replicated
from facesim.training.tensorflow.single import Alone
from facesim.training.tensorflow.step import compiled, compute_step


def measure(
    run_directory: str, threads: int, data_directory: str, checkpoint_directory: str, batches: list[int], whole: bool
) -> None:
    """`facesim.profiling.computing.measure` on `threads` threads."""
    prepare = partial(task.prepare, threads=threads)
    computing.measure(
        run_directory, data_directory, checkpoint_directory, batches, whole,
        prepare=prepare, make=_Measured, load_s=preload.LOADING_S,
    )  # fmt: skip


def measure_sums(run_directory: str, threads: int, *more: Any) -> None:
    """One of several workers that sum in place of training; the last of its arguments are of `summing.new_ring`."""
    rank = summing.rank()
    summing.measure(Run(Path(run_directory)), rank, summing.rings(rank, *more[-2:]))


class _Measured:
    """As `facesim.profiling.computing.Measurable` has it."""

    def __init__(self, context: Context):
        self.replica, self._context = Alone(context), context
        self.sent_bytes = [dtype.size for dtype in sent_dtypes(self.replica.model)]

    def parts(self, indices: np.ndarray) -> tuple[Part, Part]:
        context, optimizer = self._context, self.replica.optimizer
        forward, loss_of = forward_of(self.replica.model), loss_for(context.experiment)
        _, labels = index_batch(indices, context.data.labels)
        images = tf.constant(context.data.images[indices])

        @compiled
        def forwards(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(loss_of(labels, forward(images)[0]))

        @compiled
        def both(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            # The gradients are returned because a backward pass that nobody uses would be left out.
            return compute_step(forward, optimizer, loss_of, images, labels, tf.constant(0))

        return (
            lambda: forwards(images, labels).numpy(),
            lambda: both(images, labels)[0].numpy(),  # noqa: PLW0108  calls both each time
        )

    def optimizer(self) -> Part:
        optimizer, variables = self.replica.optimizer, self.replica.model.trainable_variables
        gradients = [tf.fill(variable.shape, tf.cast(1e-12, variable.dtype)) for variable in variables]

        @tf.function(autograph=False)
        def apply() -> tf.Tensor:
            return optimizer.apply(gradients, variables)

        return lambda: apply().numpy()

    def summed(self, indices: np.ndarray) -> Summed:
        link = _RingOfOne()
        replicas = Replicated(self._context, tf.distribute.get_strategy(), summed_by_ring(link))

        def step() -> None:
            (_,) = replicas.train([indices])

        return Summed(step, link, replicas.exchange_bytes)


class _RingOfOne(Link):
    """A link in a ring's place."""

    def sum(self, array: np.ndarray, place: int = 0) -> np.ndarray:
        self.send(array.nbytes)
        return array

"""What of TensorFlow's training is measured."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from facesim.training.tensorflow import preload  # isort: skip  before TensorFlow imports Keras
import numpy as np
import tensorflow as tf

from facesim.profiling import comparing, computing, summing
from facesim.profiling.computing import Link, Part, Summed
from facesim.runs.directory import Run
from facesim.training.context import Context
from facesim.training.tensorflow import task
from facesim.training.tensorflow.collectives import summed_by_ring
from facesim.training.tensorflow.forward import forward_of, pulled, pulled_dtypes, pushed_dtypes
from facesim.training.tensorflow.gradients import values_of, with_values
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.pipeline import index_batch
from facesim.training.tensorflow.replicated import Replicated
from facesim.training.tensorflow.single import Alone
from facesim.training.tensorflow.step import compiled, compute_step


def measure_sums(run_directory: str, threads: int, *more: Any) -> None:
    """One of several workers that sum in place of training; the last of its arguments are of `summing.new_ring`."""
    rank = summing.rank()
    summing.measure(Run(Path(run_directory)), rank, summing.rings(rank, *more[-2:]))


class _Measured:
    """As `facesim.profiling.computing.Measurable` has it."""

    def __init__(self, context: Context):
        self.replica, self._context = Alone(context), context
        model, head = self.replica.model, self.replica.model.layers[-1].kernel

        def sizes(dtypes: list[tf.DType]) -> list[int]:
            return [
                dtype.size * math.prod(variable.shape) - (self.replica.unsent_bytes if variable is head else 0)
                for variable, dtype in zip(model.trainable_variables, dtypes, strict=True)
            ]

        self.sent_bytes, self.pushed_bytes = sizes(pulled_dtypes(model)), sizes(pushed_dtypes(model))

    def parts(self, indices: np.ndarray) -> tuple[Part, Part]:
        context, optimizer = self._context, self.replica.optimizer
        forward, loss_of = forward_of(self.replica.model), loss_for(context.experiment)
        ((indices, classes),) = self.replica.with_classes([indices])
        _, labels, *classes = index_batch(indices, context.data.labels, *classes)
        images = tf.constant(context.data.images[indices])

        @compiled
        def forwards(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(loss_of(labels, forward(images, *classes).logits))

        @compiled
        def both(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
            # The gradients are returned because a backward pass that nobody uses would be left out.
            return compute_step(forward, optimizer, loss_of, images, labels, tf.constant(0), classes=classes)

        return (
            lambda: forwards(images, labels).numpy(),
            lambda: both(images, labels)[0].numpy(),  # noqa: PLW0108  calls both each time
        )

    def optimizer(self) -> Part:
        optimizer, variables = self.replica.optimizer, self.replica.model.trainable_variables
        some = computing.examples(self._context, self._context.experiment.batch)
        ((_, classes),) = self.replica.with_classes([some])
        gradients = []
        for variable, read in zip(variables, pulled(self.replica.model, *map(tf.constant, classes)), strict=True):
            gradients.append(with_values(read, tf.fill(values_of(read).shape, tf.cast(1e-12, variable.dtype))))

        @tf.function(autograph=False)
        def apply() -> tf.Tensor:
            return optimizer.apply(gradients, variables)

        return lambda: apply().numpy()

    def summed(self, indices: np.ndarray) -> Summed:
        link = _RingOfOne()
        replicas = Replicated(self._context, tf.distribute.get_strategy(), summed_by_ring(link), factors=True)

        def step() -> None:
            (_,) = replicas.train([indices])

        step()
        return Summed(step, link, replicas.exchange_bytes)


class _RingOfOne(Link):
    """A link in a ring's place."""

    def sum(self, array: np.ndarray, place: int = 0) -> np.ndarray:
        self.send(array.nbytes)
        return array


#: A chief that measures in place of training.
measure = partial(
    computing.measure, prepare=task.prepare, make=_Measured, load_s=preload.LOADING_S, kernels=comparing.kernels
)

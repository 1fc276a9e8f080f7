"""How the strategy trains: in a training task, where TensorFlow is loaded."""

from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from facesim.data.pipeline import index_batch
from facesim.training.context import Context
from facesim.training.forward import forward_of
from facesim.training.loop import fit
from facesim.training.replicated import slice_of_batch
from facesim.training.step import StepResult, compiled, compute_step


def train(context: Context) -> None:
    with context.recorder.timed("build_s"):
        replica = InParts(context)
    fit(context, replica)


class InParts:
    """One replica, whose updates are each made of the gradients of several parts of a batch."""

    steps_per_exchange, exchange_bytes = None, 0

    def __init__(self, context: Context):
        self._labels = context.data.labels
        self._model, optimizer = context.build()
        self.variables = [*self._model.variables, *optimizer.variables]
        self._data = iter(context.examples.dataset())
        forward, parts = forward_of(self._model), context.job.strategy.parts

        @compiled
        def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            images, worker = context.examples.take(next(data), indices)
            done, summed = [], None
            for number in range(parts):
                some, their_labels, share = slice_of_batch(images, labels, tf.constant(number), parts)
                packed, gradients = compute_step(
                    forward, optimizer, context.loss, some, their_labels, worker, share=share
                )
                done.append(packed)
                summed = gradients if summed is None else [a + b for a, b in zip(summed, gradients)]
            version = tf.cast(optimizer.apply(summed), tf.float64)
            return tf.concat([tf.add_n(done)[:3], done[0][3:5], [version]], axis=0)

        self._update = update

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch in batches:
            yield StepResult.unpack(self._update(self._data, *index_batch(batch, self._labels)).numpy())

    def current_model(self) -> keras.Model:
        return self._model

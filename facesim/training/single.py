"""`single`: one process trains. What every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from facesim.data.pipeline import index_batch
from facesim.training.context import Context
from facesim.training.forward import forward_of
from facesim.training.loop import fit
from facesim.training.step import StepResult, compiled, training_step


def train(context: Context) -> None:
    with context.recorder.timed("build_s"):
        replica = Alone(context)
    fit(context, replica)


class Alone:
    """One replica that talks to nobody."""

    steps_per_exchange, exchange_bytes = None, 0

    def __init__(self, context: Context):
        self._labels = context.data.labels
        self._model, optimizer = context.build()
        self.optimizer = optimizer
        self.variables = [*self._model.variables, *optimizer.variables]
        self._data = iter(context.examples.dataset())
        forward = forward_of(self._model)

        @compiled
        def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            images, worker = context.examples.take(next(data), indices)
            return training_step(forward, optimizer, context.loss, images, labels, worker)

        self._update = update

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch in batches:
            packed = self._update(self._data, *index_batch(batch, self._labels))
            yield StepResult.unpack(packed.numpy())

    def current_model(self) -> keras.Model:
        return self._model

"""`single`: one process trains. What every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from facesim.data.pipeline import index_batch, resident_images
from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.step import StepResult, training_step


def train(context: Context) -> None:
    with context.recorder.timed("build_s"):
        replica = _Single(context)
    fit(context, replica)


class _Single:
    def __init__(self, context: Context):
        self._labels = context.data.labels
        self._model, optimizer = context.build()
        self._data = iter(resident_images(context.data))

        @tf.function(reduce_retracing=True)
        def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            images, worker = next(data)
            return training_step(self._model, optimizer, context.loss, tf.gather(images, indices), labels, worker)

        self._update = update

    def train(self, batches: list[np.ndarray]) -> Iterator[StepResult]:
        for batch in batches:
            packed = self._update(self._data, *index_batch(batch, self._labels))
            yield StepResult.unpack(packed.numpy())

    def current_model(self) -> keras.Model:
        return self._model

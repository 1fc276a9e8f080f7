"""`single`: one process trains. What every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.protocols import StepResult
from facesim.training.tensorflow.connecting import use_gpu
from facesim.training.tensorflow.forward import forward_of
from facesim.training.tensorflow.network import KerasReplicas, build
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.pipeline import ExampleSource, index_batch
from facesim.training.tensorflow.step import compiled, training_step


def train(context: Context) -> None:
    use_gpu(0)
    with context.recorder.timed("build_s"):
        replica = Alone(context)
    fit(context, replica)


class Alone(KerasReplicas):
    """One replica that talks to nobody."""

    def __init__(self, context: Context):
        model, optimizer = build(context)
        super().__init__(context, model, optimizer)
        self._labels = context.data.labels
        examples, loss = ExampleSource(context.data, context.experiment.cache), loss_for(context.experiment)
        self._data = iter(examples.dataset())
        forward = forward_of(model)

        @compiled
        def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor, *classes: tf.Tensor) -> tf.Tensor:
            images, worker = examples.take(next(data), indices)
            return training_step(forward, optimizer, loss, images, labels, worker, classes=classes)

        self._update = update

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch, classes in self.with_classes(batches):
            packed = self._update(self._data, *index_batch(batch, self._labels, *classes))
            yield StepResult.unpack(packed.numpy())

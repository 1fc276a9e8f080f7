"""How the strategy trains: in a training task, where TensorFlow is loaded."""

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.protocols import StepResult
from facesim.training.tensorflow.forward import forward_of
from facesim.training.tensorflow.network import KerasReplicas, build
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.pipeline import ExampleSource, index_batch
from facesim.training.tensorflow.replicated import slice_of_batch
from facesim.training.tensorflow.step import compiled, compute_step


def train(context: Context) -> None:
    with context.recorder.timed("build_s"):
        replica = InParts(context)
    fit(context, replica)


class InParts(KerasReplicas):
    """One replica, whose updates are each made of the gradients of several parts of a batch."""

    def __init__(self, context: Context):
        model, optimizer = build(context)
        super().__init__(context, model, optimizer)
        self._labels = context.data.labels
        examples, loss = ExampleSource(context.data, context.experiment.cache), loss_for(context.experiment)
        self._data = iter(examples.dataset())
        forward, parts = forward_of(model), context.job.strategy.parts

        @compiled
        def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            images, worker = examples.take(next(data), indices)
            done, summed = [], None
            for number in range(parts):
                some, their_labels, share = slice_of_batch(images, labels, tf.constant(number), parts)
                packed, gradients, _ = compute_step(forward, optimizer, loss, some, their_labels, worker, share=share)
                done.append(packed)
                summed = gradients if summed is None else [a + b for a, b in zip(summed, gradients)]
            version = tf.cast(optimizer.apply(summed), tf.float64)
            return tf.concat([tf.add_n(done)[:3], done[0][3:5], [version]], axis=0)

        self._update = update

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch in batches:
            yield StepResult.unpack(self._update(self._data, *index_batch(batch, self._labels)).numpy())

"""`local-sgd`: every worker trains its own copy for some steps, then all copies are averaged (Stich, 2019).

A step's batch is divided among the workers as for `allreduce`, but each applies its own gradient to its own parameters
at once. Only the averaging crosses the network, so the fewer the averagings, the less there is to send, and the further
the copies drift apart in between. The optimiser's moments stay each worker's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from facesim.data.pipeline import index_batch
from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.replicated import slice_of_batch
from facesim.training.step import StepResult, compiled, training_step


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with context.recorder.timed("build_s"):
        replicas = _Copies(context, strategy)
    fit(context, replicas)


class _Copies:
    def __init__(self, context: Context, strategy: tf.distribute.MultiWorkerMirroredStrategy):
        self._labels = context.data.labels
        self.steps_per_exchange = context.experiment.local_steps
        # Not in the strategy's scope: these are this worker's variables, which nothing keeps equal but the averaging.
        self._model, optimizer = context.build()
        self.variables = [*self._model.variables, *optimizer.variables]
        context.vary_dropout(self._model)
        averaged = [variable.value for variable in self._model.variables if variable.dtype.startswith("float")]
        self._data = iter(context.examples.dataset())
        count, number = strategy.num_replicas_in_sync, context.replica

        @compiled
        def local_update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            indices, labels, share = slice_of_batch(indices, labels, tf.constant(number), count)
            weight = tf.cast(share > 0, tf.float32)
            images, _ = context.examples.take(next(data), indices)
            return training_step(
                self._model, optimizer, context.loss, images, labels, tf.constant(number), share=weight
            )

        def replica(done: tf.Tensor) -> tf.Tensor:
            here = tf.distribute.get_replica_context()
            means = here.all_reduce(tf.distribute.ReduceOp.MEAN, [tf.identity(variable) for variable in averaged])
            for variable, mean in zip(averaged, means):
                tf.raw_ops.AssignVariableOp(resource=variable.handle, value=mean)
            return here.all_gather(tf.identity(done), axis=0)  # an argument has no device, and gathering needs one

        @compiled
        def average(done: tf.Tensor) -> tf.Tensor:
            return strategy.experimental_local_results(strategy.run(replica, args=(done,)))[0]

        self._local_update, self._average = local_update, average

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        done: list[tf.Tensor] = []
        for batch in batches:
            done.append(self._local_update(self._data, *index_batch(batch, self._labels)))
            if len(done) == self.steps_per_exchange:
                yield from self._exchange(done)
        if done:  # an epoch's end: what is evaluated is the average, and every epoch's results are complete
            yield from self._exchange(done)

    def _exchange(self, done: list[tf.Tensor]) -> Iterator[StepResult]:
        rows = self._average(tf.stack(done)).numpy()
        done.clear()
        return map(StepResult.unpack, rows)

    def current_model(self) -> keras.Model:
        return self._model

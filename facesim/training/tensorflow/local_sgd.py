"""`local-sgd`: every worker trains its own copy for some steps, then all copies are averaged (Stich, 2019).

A step's batch is divided among the workers as for `allreduce`, but each applies its own gradient to its own parameters
at once. Only the averaging crosses the network, so the fewer the averagings, the less there is to send, and the further
the copies drift apart in between. The optimiser's moments stay each worker's own.

With bfloat16 kernels are sent in it: what has changed of them since the last averaging, because what a few
steps change is too little to be seen in the kernels themselves when these are rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from cluster.pulse import progressed
from facesim.training.context import Context
from facesim.training.keras.network import vary_dropout
from facesim.training.loop import fit
from facesim.training.protocols import StepResult
from facesim.training.tensorflow.collectives import Summing, summing_arrays
from facesim.training.tensorflow.connecting import connected_peers
from facesim.training.tensorflow.forward import forward_of, parameter_bytes, pushed_dtypes
from facesim.training.tensorflow.network import KerasReplicas, build
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.pipeline import ExampleSource, index_batch
from facesim.training.tensorflow.replicated import slice_of_batch
from facesim.training.tensorflow.step import compiled, training_step


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        strategy, summed = connected_peers(context.replica)
    with context.recorder.timed("build_s"):
        replicas = _Copies(context, strategy, summed)
    fit(context, replicas)


class _Copies(KerasReplicas):
    def __init__(self, context: Context, strategy: tf.distribute.MultiWorkerMirroredStrategy, summed: Summing):
        # Not in the strategy's scope: these are this worker's variables, which nothing keeps equal but the averaging.
        model, optimizer = build(context)
        super().__init__(context, model, optimizer)
        dtypes = {id(variable): dtype for variable, dtype in zip(model.trainable_variables, pushed_dtypes(model))}
        self.steps_per_exchange = context.job.strategy.local_steps
        self.exchange_bytes = parameter_bytes(model, list(dtypes.values()))
        self._labels = context.data.labels
        vary_dropout(model, context.replica)
        averaged = [variable for variable in model.variables if variable.dtype.startswith("float")]
        #: By place in `averaged`, kernels that are rounded when they are sent, and what the last averaging left.
        self._rounded = {
            place: (variable.value, tf.Variable(variable.value, trainable=False))
            for place, variable in enumerate(averaged)
            if dtypes.get(id(variable)) == tf.bfloat16
        }
        examples, loss = ExampleSource(context.data, context.experiment.cache), loss_for(context.experiment)
        self._data = iter(examples.dataset())
        count, number = strategy.num_replicas_in_sync, context.replica
        forward = forward_of(model)

        @compiled
        def local_update(
            data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor, *classes: tf.Tensor
        ) -> tf.Tensor:
            indices, labels, share = slice_of_batch(indices, labels, tf.constant(number), count)
            weight = tf.cast(share > 0, tf.float32)
            images, _ = examples.take(next(data), indices)
            return training_step(forward, optimizer, loss, images, labels, tf.constant(number), weight, classes)

        def replica(done: tf.Tensor) -> tf.Tensor:
            # What everybody did travels with the parameters, but for the versions, which are the same everywhere.
            own_rows = tf.one_hot(number, count)[:, tf.newaxis, tf.newaxis] * tf.cast(done[:, :4], tf.float32)
            sent = [tf.identity(variable.value) for variable in averaged]
            before = {place: tf.identity(last) for place, (_, last) in self._rounded.items()}
            for place, value in before.items():
                sent[place] = tf.cast(sent[place] - value, tf.bfloat16)
            *sums, all_rows = summed([*sent, own_rows])
            means = [tf.cast(total, tf.float32) / count for total in sums]
            for place, (_, last) in self._rounded.items():
                means[place] += before[place]
                tf.raw_ops.AssignVariableOp(resource=last.handle, value=means[place])
            for variable, mean in zip(averaged, means, strict=True):
                tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=mean)
            versions = tf.tile(done[tf.newaxis, :, 4:], [count, 1, 1])
            return tf.reshape(tf.concat([tf.cast(all_rows, tf.float64), versions], axis=2), [-1, done.shape[1]])

        @tf.function(autograph=False)  # for each number of steps anew: what is summed must have a size
        def average(done: tf.Tensor) -> tf.Tensor:
            return strategy.experimental_local_results(strategy.run(replica, args=(done,)))[0]

        self._local_update, self._average = local_update, average
        self.sum_of_all = summing_arrays(strategy, summed)

    def assign(self, values: list[np.ndarray]) -> None:
        super().assign(values)
        for kernel, last in self._rounded.values():
            last.assign(kernel)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        done: list[tf.Tensor] = []
        for batch, classes in self.with_classes(batches):
            done.append(self._local_update(self._data, *index_batch(batch, self._labels, *classes)))
            progressed()  # results come at the end of so many steps
            if len(done) == self.steps_per_exchange:
                yield from self._exchange(done)
        if done:  # an epoch's end: what is evaluated is the average, and every epoch's results are complete
            yield from self._exchange(done)

    def _exchange(self, done: list[tf.Tensor]) -> Iterator[StepResult]:
        rows = self._average(tf.stack(done)).numpy()
        done.clear()
        return map(StepResult.unpack, rows)

"""Replicas that hold the parameters each and make every update together: what `mirrored` and `allreduce` share.

Every replica takes its slice of the same batch, the gradients are summed over the replicas, and each applies the same
sum to its own parameters, so these stay equal. An update is then what one process would have made of the whole batch.

With bfloat16 gradients of kernels are of that, widened; so they cross the network as they were, and their sums rounded
again.

Of a dense layer's gradient its factors may be summed in its place, `products`; every replica multiplies them, and their
parameters stay equal if all get the same product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.keras.network import is_seed, vary_dropout
from facesim.training.protocols import StepResult
from facesim.training.tensorflow.collectives import Summing
from facesim.training.tensorflow.forward import forward_of, pushed_dtypes
from facesim.training.tensorflow.gradients import values_of, with_values
from facesim.training.tensorflow.network import KerasReplicas, build
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.pipeline import ExampleSource, index_batch
from facesim.training.tensorflow.products import Products, from_slots
from facesim.training.tensorflow.step import compiled, compute_step


class Replicated(KerasReplicas):
    """The replicas of a `tf.distribute` strategy, one a device; in this process, those on its own devices."""

    steps_per_exchange = 1

    def __init__(self, context: Context, strategy: tf.distribute.Strategy, summed: Summing, *, factors: bool):
        """`factors`: those of gradients may be summed in their place."""
        with strategy.scope():
            model, optimizer = build(context)
        super().__init__(context, model, optimizer)
        dtypes = pushed_dtypes(model)
        self._labels = context.data.labels
        statistics = [v for v in model.non_trainable_variables if v.dtype.startswith("float")]
        vary_dropout(model, context.replica)
        for variable in filter(is_seed, model.non_trainable_variables):  # several replicas of this process, too
            self.set_value(variable, self.value_of(variable))
        examples, loss = ExampleSource(context.data, context.experiment.cache), loss_for(context.experiment)
        self._data = iter(examples.dataset())
        count, forward = strategy.num_replicas_in_sync, forward_of(model)
        products = Products(model.trainable_variables, math.ceil(context.job.update_batch / count))
        factors = factors and products.multiplied_alike(summed, context.replica, count, dtypes)

        def replica(
            element: tuple[tf.Tensor, tf.Tensor], indices: tf.Tensor, labels: tf.Tensor, *classes: tf.Tensor
        ) -> tf.Tensor:
            here = tf.distribute.get_replica_context()
            number = tf.convert_to_tensor(here.replica_id_in_sync_group)
            indices, labels, share = slice_of_batch(indices, labels, number, count)
            images, _ = examples.take(element, indices)
            packed, gradients, _ = compute_step(forward, optimizer, loss, images, labels, number, share, classes)
            # What everybody did travels with the gradients, a row each: one more message would have to be waited for.
            # Versions are the same everywhere, and may be too large for a float32.
            own_rows = tf.one_hot(number, count)[:, tf.newaxis] * tf.cast(packed[:4], tf.float32)
            # So do the moving statistics of BatchNorm, of which each replica has seen its slice only.
            seen = [tf.identity(variable.value) * share for variable in statistics]
            # All replicas have the same classes of a sampled head: the rows of their gradients are of the same people.
            gradients = [
                with_values(gradient, tf.cast(values_of(gradient), dtype))
                for gradient, dtype in zip(gradients, dtypes, strict=True)
            ]
            if factors:
                sent = products.in_slots(gradients, labels.shape[0], number, count)
            else:
                sent = [[values_of(gradient)] for gradient in gradients]
            flat = [tensor for tensors in sent for tensor in tensors]
            self.exchange_bytes = sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in flat)
            *sums, all_rows = summed([*flat, *seen, own_rows])
            parts = iter(sums)
            total = [
                from_slots([next(parts) for _ in tensors], gradient)
                for tensors, gradient in zip(sent, gradients, strict=True)
            ]
            version = optimizer.apply(total, model.trainable_variables)
            for variable, mean in zip(statistics, parts, strict=True):
                tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=mean)
            versions = tf.fill([count, 2], tf.cast(version, tf.float64))
            return tf.concat([tf.cast(all_rows, tf.float64), versions], axis=1)

        @compiled
        def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor, *classes: tf.Tensor) -> tf.Tensor:
            done = strategy.run(replica, args=(next(data), indices, labels, *classes))
            return strategy.experimental_local_results(done)[0]

        self._update = update

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch, classes in self.with_classes(batches):
            rows = self._update(self._data, *index_batch(batch, self._labels, *classes)).numpy()
            yield from map(StepResult.unpack, rows)


def slice_of_batch(
    indices: tf.Tensor, labels: tf.Tensor, number: tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Replica `number`'s part, of `count`, of a batch, and the share of the batch that it is, float32 ().

    A batch smaller than `count` leaves replicas without an example; they compute the first one with a share of 0,
    because all must take part in the sum. Of a batch whose size is known that of the part is, too.
    """
    whole, known = indices.shape[0], tf.get_static_value(number)
    share = tf.size(indices[number::count]) / tf.size(indices)
    number = tf.where(share > 0, number, 0)
    indices, labels = indices[number::count], labels[number::count]
    if whole is not None and known is not None:
        size = max(1, len(range(known, whole, count)))
        indices, labels = (tf.ensure_shape(part, [size, *part.shape[1:]]) for part in (indices, labels))
    return indices, labels, tf.cast(share, tf.float32)

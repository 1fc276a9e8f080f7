"""`ps-sync`: parameters on servers, and every update is made of a gradient from each worker, none of them stale.

After Chen et al. (2016), "Revisiting distributed synchronous SGD", with backup workers: of N + b workers the first N
gradients make an update, and the b that come too late for it are dropped, so that a straggler holds nobody up. Their
examples go back to the front of the queue, so that an epoch is still every example once.

Each worker has a row of its own in a buffer beside each parameter. It pushes its gradient there and says so; the chief
decides which rows make the update, and the server adds them up and applies the sum. So a gradient counts for all
parameters or for none, and one that comes too late changes nothing.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait

import numpy as np
import tensorflow as tf

from facesim.data.pipeline import index_batch
from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.served import Served
from facesim.training.step import StepResult, compute_step


def train(context: Context) -> None:
    fit(context, _Workers(context))


class _Workers(Served):
    def __init__(self, context: Context):
        super().__init__(context)
        shape = context.job.shape
        self._needed = shape.workers - shape.backup_workers
        self._free = deque(range(shape.workers))
        parameters = self.model.trainable_variables
        rows = []
        with self.strategy.scope():
            for parameter in parameters:
                with self.strategy.extended.colocate_vars_with(parameter.value):
                    rows.append(tf.Variable(tf.zeros([shape.workers, *parameter.shape]), trainable=False))

        @tf.function(reduce_retracing=True)
        def push(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
            images, worker = context.examples.take(next(data), indices)

            def replica() -> tf.Tensor:
                packed, gradients = compute_step(
                    self.model,
                    self.optimizer,
                    context.loss,
                    images,
                    labels,
                    worker,
                    share=tf.cast(tf.size(labels), tf.float32),  # a sum over examples: the mean is taken over all rows
                )
                pushes = [
                    tf.raw_ops.ResourceScatterUpdate(resource=buffer.handle, indices=row, updates=gradient)
                    for buffer, gradient in zip(rows, gradients)
                ]
                with tf.control_dependencies(pushes):
                    return tf.identity(packed)

            return self.strategy.run(replica)

        @tf.function(reduce_retracing=True)
        def apply(chosen: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
            gradients = []
            for buffer in rows:
                with tf.device(buffer.device):
                    some = tf.raw_ops.ResourceGather(resource=buffer.handle, indices=chosen, dtype=tf.float32)
                    gradients.append(tf.reduce_sum(some, axis=0) / examples)
            return self.optimizer.apply(gradients, parameters)

        self._push, self._apply = push, apply

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        parts = (part for batch in batches for part in np.array_split(batch, self._needed) if len(part))
        due = deque[np.ndarray]()  # parts that came too late, to be done again
        at_work: dict[Future[np.ndarray], tuple[int, np.ndarray]] = {}
        while True:
            late, arrived = set(at_work), list[tuple[int, StepResult]]()
            while len(arrived) < self._needed:
                due.extend(itertools.islice(parts, max(0, len(self._free) - len(due))))
                while due and self._free:
                    row, part = self._free.popleft(), due.popleft()
                    result = self.schedule(self._push, *index_batch(part, self.labels), tf.constant(row))
                    at_work[result] = (row, part)
                if not at_work:
                    break
                for done in wait(at_work, return_when=FIRST_COMPLETED).done:
                    row, part = at_work.pop(done)
                    if done in late or len(arrived) == self._needed:
                        due.appendleft(part)
                        self._free.append(row)
                    else:
                        arrived.append((row, StepResult.unpack(done.result())))
            if not arrived:
                return
            examples = sum(result.examples for _, result in arrived)
            version = int(self._apply(tf.constant([row for row, _ in arrived]), tf.constant(examples, tf.float32)))
            self._free.extend(row for row, _ in arrived)
            yield from (result._replace(version=version) for _, result in arrived)

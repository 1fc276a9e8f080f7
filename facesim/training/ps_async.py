"""`ps-async`: parameters live on servers; each worker pulls them, computes a gradient, pushes it, and waits for nobody.

This process, the chief, holds the list of batches and hands each to the next free worker. The step runs wholly on that
worker, except that every parameter is read from, and every update applied on, the server that holds it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait

import numpy as np
import tensorflow as tf

from facesim.data.pipeline import index_batch
from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.served import Served
from facesim.training.step import StepResult, training_step


def train(context: Context) -> None:
    fit(context, Workers(context))


class Workers(Served):
    def __init__(self, context: Context):
        super().__init__(context)

        @tf.function(reduce_retracing=True)
        def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
            images, worker = context.examples.take(next(data), indices)
            return self.strategy.run(
                training_step, args=(self.model, self.optimizer, context.loss, images, labels, worker)
            )

        self.update = update

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        waiting, at_work = iter(batches), set[Future[np.ndarray]]()
        while True:
            for batch in itertools.islice(waiting, self.ahead - len(at_work)):
                at_work.add(self.schedule(self.update, *index_batch(batch, self.labels)))
            if not at_work:
                return
            done, at_work = wait(at_work, return_when=FIRST_COMPLETED)
            yield from (StepResult.unpack(result.result()) for result in done)

"""`ps-async`: parameters live on servers; each worker pulls them, computes a gradient, pushes it, and waits for nobody.

This process, the chief, holds the list of batches and hands each to the next free worker. The step runs wholly on that
worker, except that every parameter is read from, and every update applied on, the server that holds it.

With `--steps-per-dispatch` a worker is handed several batches at a time. Each is a step of its own, with its own pull
and push, but the chief is asked and answered once for all of them.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.protocols import StepResult
from facesim.training.tensorflow.parameter_server import ParameterServerReplicas
from facesim.training.tensorflow.partition import pieces
from facesim.training.tensorflow.pipeline import index_batch
from facesim.training.tensorflow.products import on_servers
from facesim.training.tensorflow.step import apply_step, compiled


def train(context: Context) -> None:
    fit(context, Workers(context))


class Workers(ParameterServerReplicas):
    def __init__(self, context: Context):
        super().__init__(context)
        held = pieces(self.model.trainable_variables)

        def step(images: tf.Tensor, labels: tf.Tensor, worker: tf.Tensor, classes: Sequence[tf.Tensor]) -> tf.Tensor:
            packed, gradients, averages = self.compute(images, labels, worker, classes=classes)
            limited = bool(self.optimizer.global_clipnorm)
            return apply_step(self.optimizer, packed, *on_servers(held, gradients, averages, limited))

        @compiled
        def update(data: tf.data.Iterator, *batches: tuple[tf.Tensor, ...]) -> tf.Tensor:
            """A step on each `index_batch`, which reads what the one before has left; their packed results, a row
            each.
            """
            results = []
            for indices, labels, *classes in batches:
                images, worker = self.examples.take(next(data), indices)
                results.append(self.strategy.run(step, args=(images, labels, worker, classes)))
            return tf.stack(results)

        self.update = update
        self._steps_per_dispatch = context.job.strategy.steps_per_dispatch

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        waiting = self.with_classes(batches)
        at_work = dict[Future[np.ndarray], int]()  # each with its first batch's number
        ready: deque[tuple[np.ndarray, tuple[np.ndarray, ...]]] = deque()
        handed_out = 0
        while True:
            while len(at_work) < self.ahead:
                ready.extend(itertools.islice(waiting, self._steps_per_dispatch - len(ready)))
                # Too few for a group are handed out one by one: all workers have something to do to the end, and only
                # two functions need be compiled.
                count = self._steps_per_dispatch if len(ready) == self._steps_per_dispatch else min(1, len(ready))
                if not count:
                    break
                some = [ready.popleft() for _ in range(count)]
                group = [index_batch(batch, self.labels, *classes) for batch, classes in some]
                at_work[self.schedule(self.update, *group)] = handed_out
                handed_out += count
            if not at_work:
                return
            done, _ = wait(at_work, return_when=FIRST_COMPLETED)
            for result in done:
                first = at_work.pop(result)
                steps = [StepResult.unpack(row, first + place) for place, row in enumerate(result.result())]
                self.heard_of(steps[0].worker, owing=len(at_work))
                yield from steps

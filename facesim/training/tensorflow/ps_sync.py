"""`ps-sync`: parameters on servers, and every update is made of a gradient from each worker, none of them stale.

After Chen et al. (2016), "Revisiting distributed synchronous SGD", with backup workers: of N + b workers the first N
gradients make an update, and the b that come too late for it are dropped, so that a straggler holds nobody up. Their
examples go back to the front of the queue, so that an epoch is still every example once.

Each worker leaves its gradient on the servers, under a ticket of its own, and says so; the chief decides which tickets
make the update, and the servers add those gradients up and apply the sum. So a gradient counts for all parameters or
for none, and one that comes too late changes nothing. With it goes what its examples add to moving statistics, which
so take one step an update, as in one process.
"""

from __future__ import annotations

import itertools
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.protocols import StepResult
from facesim.training.tensorflow.forward import Average
from facesim.training.tensorflow.parameter_server import ParameterServerReplicas
from facesim.training.tensorflow.partition import pieces
from facesim.training.tensorflow.pipeline import index_batch
from facesim.training.tensorflow.step import compiled, compute_step


def train(context: Context) -> None:
    fit(context, _Workers(context))


class _Part(NamedTuple):
    """A worker's part of an update: example indices of a batch of `planned` examples, and where its gradient waits."""

    indices: np.ndarray
    planned: int
    ticket: int


class _Workers(ParameterServerReplicas):
    def __init__(self, context: Context):
        super().__init__(context)
        shape = context.job.shape
        self._workers = shape.workers
        self._needed = shape.workers - context.job.strategy.backup_workers
        self._tickets = itertools.count()
        # Names the gradients that wait on a server; a server that outlives its chief may still hold some of another's.
        store = f"gradients-{uuid.uuid4().hex}"
        parameters = self.model.trainable_variables
        held = pieces(parameters)
        averages: list[Average] = []  # as `push` is traced, which comes before all else: only then it is known which

        def homes() -> dict[str, list[int]]:
            """For each server the places of what it holds, of the parameters' pieces and then of the averages."""
            servers: dict[str, list[int]] = {}
            for place, variable in enumerate([*held, *(average.statistic for average in averages)]):
                servers.setdefault(variable.device, []).append(place)
            return servers

        @compiled
        def push(
            data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor, share: tf.Tensor, ticket: tf.Tensor
        ) -> tf.Tensor:
            images, worker = self.examples.take(next(data), indices)

            def replica() -> tf.Tensor:
                packed, gradients, averages[:] = compute_step(
                    self.forward, self.optimizer, self.loss, images, labels, worker, share=share
                )
                sent = [*gradients, *(share * average.added for average in averages)]
                pushes = []
                for server, places in homes().items():
                    with tf.device(server):  # which keeps what it receives: nothing is copied
                        values = [sent[place] for place in places]
                        pushes.append(
                            tf.raw_ops.MapStage(
                                key=ticket,
                                indices=range(len(places)),
                                values=values,
                                dtypes=[value.dtype for value in values],
                                shared_name=store,
                            )
                        )
                with tf.control_dependencies(pushes):
                    return tf.identity(packed)

            return self.strategy.run(replica)

        def taken(server: str, places: list[int], ticket: tf.Tensor) -> list[tf.Tensor]:
            """What waits on a server under a ticket, and waits no more."""
            kinds = [*self.sent_dtypes, *(average.added.dtype for average in averages)]
            variables = [*held, *(average.statistic for average in averages)]
            with tf.device(server):
                waiting = tf.raw_ops.MapUnstage(
                    key=ticket,
                    indices=range(len(places)),
                    dtypes=[kinds[place] for place in places],
                    shared_name=store,
                )
                # Widened before they are added up.
                return [
                    tf.cast(tf.ensure_shape(value, variables[place].shape), variables[place].dtype)
                    for value, place in zip(waiting, places)
                ]

        @tf.function(autograph=False)
        def apply(tickets: tuple[tf.Tensor, ...], weights: tuple[tf.Tensor, ...] | None) -> tf.Tensor:
            sums: dict[int, tf.Tensor] = {}
            for server, places in homes().items():
                with tf.device(server):
                    rows = [taken(server, places, ticket) for ticket in tickets]
                    if weights is not None:
                        rows = [[weight * value for value in row] for row, weight in zip(rows, weights)]
                    sums |= {place: tf.add_n(parts) for place, parts in zip(places, zip(*rows))}
            for place, average in enumerate(averages, len(held)):
                average._replace(added=sums[place]).apply()
            return self.optimizer.apply([sums[place] for place in range(len(held))], parameters)

        @tf.function(autograph=False)
        def drop(ticket: tf.Tensor) -> None:
            for server, places in homes().items():
                taken(server, places, ticket)

        self._push, self._apply, self._drop = push, apply, drop

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        parts = ((part, len(batch)) for batch in batches for part in np.array_split(batch, self._needed) if len(part))
        due = deque[tuple[np.ndarray, int]]()  # parts that came too late, to be done again
        at_work: dict[Future[np.ndarray], _Part] = {}
        while True:
            late, arrived = set(at_work), list[tuple[_Part, StepResult]]()
            while len(arrived) < self._needed:
                free = self._workers - len(at_work) - len(arrived)
                due.extend(itertools.islice(parts, max(0, free - len(due))))
                for _ in range(min(free, len(due))):
                    part = _Part(*due.popleft(), ticket=next(self._tickets))
                    at_work[self._begin(part)] = part
                if not at_work:
                    break
                for done in wait(at_work, return_when=FIRST_COMPLETED).done:
                    part = at_work.pop(done)
                    result = StepResult.unpack(done.result())
                    self.heard_of(result.worker, owing=len(at_work))
                    if done in late or len(arrived) == self._needed:
                        due.appendleft((part.indices, part.planned))
                        self._drop(tf.constant(part.ticket, tf.int64))
                    else:
                        arrived.append((part, result))
            if not arrived:
                return
            version = self._update([part for part, _ in arrived])
            yield from (result._replace(version=version) for _, result in arrived)

    def _begin(self, part: _Part) -> Future[np.ndarray]:
        share = tf.constant(len(part.indices) / part.planned, tf.float32)
        ticket = tf.constant(part.ticket, tf.int64)
        return self.schedule(self._push, *index_batch(part.indices, self.labels), share, ticket)

    def _update(self, parts: list[_Part]) -> int:
        """Make an update from the gradients of `parts`; its number."""
        examples = sum(len(part.indices) for part in parts)
        weights = None
        if any(part.planned != examples for part in parts):  # of several batches: each meant to share in its own
            weights = tuple(tf.constant(part.planned / examples, tf.float32) for part in parts)
        return int(self._apply(tuple(tf.constant(part.ticket, tf.int64) for part in parts), weights))

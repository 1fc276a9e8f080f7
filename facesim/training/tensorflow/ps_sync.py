"""`ps-sync`: parameters on servers, and every update is made of a gradient from each worker, none of them stale.

After Chen et al. (2016), "Revisiting distributed synchronous SGD", with backup workers: of N + b workers the first N
gradients make an update, and the b that come too late for it are dropped, so that a straggler holds nobody up. Their
examples go back to the front of the queue, so that an epoch is still every example once.

Each worker leaves its gradient on the servers, under a ticket of its own, and says so; the chief decides which tickets
make the update, and the servers add those gradients up and apply the sum. So a gradient counts for all parameters or
for none, and one that comes too late changes nothing. With it goes what its examples add to moving statistics, which
so take one step an update, as in one process. Of a gradient that is a product its factors are left, and those of all
workers are multiplied at once, as one process would do it with the whole batch.
"""

from __future__ import annotations

import itertools
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.protocols import StepResult
from facesim.training.tensorflow.forward import Average
from facesim.training.tensorflow.gradients import Gradient, values_of, with_values
from facesim.training.tensorflow.packing import pack, unpack
from facesim.training.tensorflow.parameter_server import ParameterServerReplicas
from facesim.training.tensorflow.partition import pieces
from facesim.training.tensorflow.pipeline import index_batch
from facesim.training.tensorflow.products import Factors
from facesim.training.tensorflow.step import compiled


def train(context: Context) -> None:
    fit(context, _Workers(context))


class _Part(NamedTuple):
    """A worker's part of an update: example indices of a batch of `planned` examples, the classes of that batch if the
    head is a sampled one, and where its gradient waits.
    """

    indices: np.ndarray
    planned: int
    classes: tuple[np.ndarray, ...]
    ticket: int


class _Workers(ParameterServerReplicas):
    def __init__(self, context: Context):
        super().__init__(context)
        # Of a batch of fewer examples than workers some have nothing to do: else an update would be of several batches.
        self._needed = min(context.job.joint_workers, context.job.update_batch)
        self._workers = self._needed + context.job.strategy.backup_workers
        self._tickets = itertools.count()
        # Names the gradients that wait on a server; a server that outlives its chief may still hold some of another's.
        store = f"gradients-{uuid.uuid4().hex}"
        parameters = self.model.trainable_variables
        held = pieces(parameters)
        forms: list[_Form] = []  # of what waits, in the places of `homes`
        averages: list[Average] = []  # known, as the forms are, when `push` is traced, which comes before all else
        waiting_dtypes: dict[str, list[tf.DType]] = {}  # by server, of the messages of a ticket

        def waited_for() -> list[tf.Variable]:
            """What is updated: the parameters' pieces, and then the averages."""
            return [*held, *(average.statistic for average in averages)]

        def homes() -> dict[str, list[int]]:
            """For each server the places of what it holds."""
            servers: dict[str, list[int]] = {}
            for place, variable in enumerate(waited_for()):
                servers.setdefault(variable.device, []).append(place)
            return servers

        def specs(places: list[int]) -> list[tf.TensorSpec | None]:
            """As what the tensors of some places are sent. Factors and rows may have another size in each batch."""
            variables = waited_for()
            return [
                tf.TensorSpec(variables[place].shape, dtype) if forms[place].kind is tf.Tensor else None
                for place in places
                for dtype in forms[place].dtypes
            ]

        @compiled
        def push(
            data: tf.data.Iterator,
            share: tf.Tensor,
            ticket: tf.Tensor,
            indices: tf.Tensor,
            labels: tf.Tensor,
            *classes: tf.Tensor,
        ) -> tf.Tensor:
            images, worker = self.examples.take(next(data), indices)

            def replica() -> tf.Tensor:
                packed, gradients, averages[:] = self.compute(images, labels, worker, share, classes)
                sent = [*gradients, *(share * average.added for average in averages)]
                forms[:] = map(_form, sent)
                pushes = []
                for server, places in homes().items():
                    parts = [part for place in places for part in _parts(sent[place])]
                    values = pack(parts, specs(places))
                    waiting_dtypes[server] = [value.dtype for value in values]
                    with tf.device(server):  # which keeps what it receives: nothing is copied
                        pushes.append(
                            tf.raw_ops.MapStage(
                                key=ticket,
                                indices=range(len(values)),
                                values=values,
                                dtypes=[value.dtype for value in values],
                                shared_name=store,
                            )
                        )
                with tf.control_dependencies(pushes):
                    return tf.identity(packed)

            return self.strategy.run(replica)

        def taken(server: str, places: list[int], ticket: tf.Tensor) -> list[Gradient | Factors]:
            """What waits on a server under a ticket, and waits no more."""
            variables, dtypes = waited_for(), waiting_dtypes[server]
            with tf.device(server):
                messages = tf.raw_ops.MapUnstage(
                    key=ticket, indices=range(len(dtypes)), dtypes=dtypes, shared_name=store
                )
                waiting = iter(unpack(messages, specs(places)))
                return [
                    _received(variables[place], forms[place], [*itertools.islice(waiting, len(forms[place].dtypes))])
                    for place in places
                ]

        @tf.function(autograph=False)
        def apply(tickets: tuple[tf.Tensor, ...], weights: tuple[tf.Tensor, ...] | None) -> tf.Tensor:
            sums: dict[int, Gradient] = {}
            for server, places in homes().items():
                with tf.device(server):
                    rows = [taken(server, places, ticket) for ticket in tickets]
                    if weights is not None:
                        rows = [[_weighted(each, weight) for each in row] for row, weight in zip(rows, weights)]
                    sums |= {place: _sum(parts) for place, parts in zip(places, zip(*rows))}
            for place, average in enumerate(averages, len(held)):
                average._replace(added=sums[place]).apply()
            return self.optimizer.apply([sums[place] for place in range(len(held))], parameters)

        @tf.function(autograph=False)
        def drop(ticket: tf.Tensor) -> None:
            for server, places in homes().items():
                taken(server, places, ticket)

        self._push, self._apply, self._drop = push, apply, drop

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        parts = (
            (part, len(batch), classes)
            for batch, classes in self.with_classes(batches)
            for part in np.array_split(batch, self._needed)
            if len(part)
        )
        due = deque[tuple[np.ndarray, int, tuple[np.ndarray, ...]]]()  # parts that came too late, to be done again
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
                        due.appendleft(part[:-1])
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
        return self.schedule(self._push, share, ticket, *index_batch(part.indices, self.labels, *part.classes))

    def _update(self, parts: list[_Part]) -> int:
        """Make an update from the gradients of `parts`; its number. It adds them up in the order of the examples, in
        whichever they came: so the sum is the same to the bit each time.
        """
        parts = sorted(parts, key=lambda part: part.ticket)
        examples = sum(len(part.indices) for part in parts)
        weights = None
        if any(part.planned != examples for part in parts):  # of several batches: each meant to share in its own
            weights = tuple(tf.constant(part.planned / examples, tf.float32) for part in parts)
        return int(self._apply(tuple(tf.constant(part.ticket, tf.int64) for part in parts), weights))


class _Form(NamedTuple):
    """As what tensors a gradient waits: `Factors`, `tf.IndexedSlices` or `tf.Tensor`, and of which dtypes."""

    kind: type
    dtypes: list[tf.DType]


def _form(gradient: Gradient | Factors) -> _Form:
    kinds = (Factors, tf.IndexedSlices, tf.Tensor)
    kind = next(each for each in kinds if isinstance(gradient, each))
    return _Form(kind, [part.dtype for part in _parts(gradient)])


def _parts(gradient: Gradient | Factors) -> list[tf.Tensor]:
    """The tensors of a gradient: its factors; or its numbers, and of which rows they are if it is of some."""
    if isinstance(gradient, Factors):
        return [*gradient]
    return [gradient.values, gradient.indices] if isinstance(gradient, tf.IndexedSlices) else [gradient]


def _received(variable: tf.Variable, form: _Form, parts: list[tf.Tensor]) -> Gradient | Factors:
    """A gradient of a variable from its tensors; its numbers in the variable's precision, before they are added to
    others.
    """
    if form.kind is Factors:
        return Factors(*(tf.ensure_shape(part, (None, size)) for part, size in zip(parts, variable.shape, strict=True)))
    values, *rows = parts
    if not rows:
        return tf.cast(tf.ensure_shape(values, variable.shape), variable.dtype)
    values = tf.cast(tf.ensure_shape(values, (None, *variable.shape[1:])), variable.dtype)
    return tf.IndexedSlices(values, tf.ensure_shape(*rows, (None,)))


def _weighted(gradient: Gradient | Factors, weight: tf.Tensor) -> Gradient:
    """A gradient times a weight, float32 ()."""
    if isinstance(gradient, Factors):
        return weight * tf.cast(gradient.product(), weight.dtype)
    return with_values(gradient, weight * values_of(gradient))


def _sum(gradients: Sequence[Gradient | Factors]) -> Gradient:
    """The sum of gradients of a variable. Those that are of some rows may be of different ones: of two batches."""
    if isinstance(gradients[0], Factors):
        of_all = Factors(*(tf.concat(same, axis=0) for same in zip(*gradients)))
        return tf.cast(of_all.product(), tf.float32)
    if not isinstance(gradients[0], tf.IndexedSlices):
        return tf.add_n(gradients)
    rows, places = tf.unique(tf.concat([each.indices for each in gradients], axis=0))
    values = tf.concat([each.values for each in gradients], axis=0)
    return tf.IndexedSlices(tf.math.unsorted_segment_sum(values, places, tf.size(rows)), rows)

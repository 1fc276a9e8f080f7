"""Training as a cluster would train, in one process: the same updates in the order of the cluster's, the same to the
bit each time.

Asynchronous workers differ from one process only in which version of the parameters each gradient is taken at. Their
order (`facesim.training.order`) tells that; here the last versions are kept, each gradient is computed at the one that
was read, and applied when it was applied. Where workers make every update together, each normalises its own part of the
batch, so the parts are computed one after another. `local-sgd` is as many sets of parameters as it has workers.

A real cluster's worker may read some variables before and others after an update by another: such a pull counts as one
of the version at its beginning.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

import facesim.training.tensorflow.preload  # noqa: F401  # isort: skip  before TensorFlow imports Keras
from facesim.runs.directory import Run
from facesim.training.context import Context, open_context
from facesim.training.keras.network import vary_dropout
from facesim.training.loop import fit
from facesim.training.order import Order, load_orders
from facesim.training.protocols import Replicas, StepResult
from facesim.training.tensorflow.forward import Passed, drawn_by, forward_of, passed_with, seeds_of, served_forward_of
from facesim.training.tensorflow.gradients import values_of, with_values
from facesim.training.tensorflow.network import KerasReplicas, build
from facesim.training.tensorflow.objective import loss_for
from facesim.training.tensorflow.pipeline import ExampleSource, index_batch
from facesim.training.tensorflow.replicated import slice_of_batch
from facesim.training.tensorflow.single import Alone
from facesim.training.tensorflow.step import compiled, compute_step, training_step
from facesim.training.tensorflow.task import work_in
from facesim.util.errors import InputError

#: Where in its run directory a replay finds the orders of its epochs.
ORDERS = "orders.npz"


def train(
    epochs: int,
    run_directory: str,
    threads: int,
    data_directory: str,
    checkpoint_directory: str,
    pretrained: str | None = None,
) -> None:
    """A chief that trains alone what the run's job would have trained on its cluster, in its first `epochs`."""
    run = Run(Path(run_directory))
    work_in(run.task_directory("chief-0"), 0)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    context = open_context(
        run, Path(data_directory), Path(checkpoint_directory), "chief", 0, 0, Path(pretrained) if pretrained else None
    )
    context.epochs = epochs
    with context.recorder.timed("build_s"):
        replicas = _replicas(context)
    fit(context, replicas)


def _replicas(context: Context) -> Replicas:
    file, strategy = context.run.directory / ORDERS, context.job.strategy
    if file.exists():
        return Stale(context, load_orders(file))
    if strategy.averaging:
        return Copies(context)
    return Together(context) if strategy.joint else Alone(context)


class Stale(KerasReplicas):
    """One set of parameters, and the versions of it that the orders' updates read.

    Moving statistics are no part of a gradient: what a batch adds to them is added when its forward pass is over, to
    what they are then.
    """

    steps_per_exchange = 1

    def __init__(self, context: Context, orders: list[Order]):
        self._labels = context.data.labels
        self._orders = iter(orders)
        self._made = 0  # updates, by the orders that are done
        model, optimizer = build(context)
        super().__init__(context, model, optimizer)
        self.exchange_bytes = self.parameter_bytes
        examples, loss = ExampleSource(context.data, context.experiment.cache), loss_for(context.experiment)
        self._data = iter(examples.dataset())
        trained = model.trainable_variables
        seeds = seeds_of(model)
        # What is read is put here: a gradient can be taken with respect to it, whatever the parameters are meanwhile.
        read = [tf.Variable(variable.value, dtype=variable.dtype) for variable in trained]

        @compiled
        def gradient(
            version: list[tf.Tensor],
            drawing: tf.Tensor,
            data: tf.data.Iterator,
            indices: tf.Tensor,
            labels: tf.Tensor,
            *classes: tf.Tensor,
        ) -> tuple[tf.Tensor, list[tf.Tensor]]:
            for held, value in zip(read, version, strict=True):
                held.assign(value)

            def forward(images: tf.Tensor, *classes: tf.Tensor, **_: tf.Tensor) -> Passed:
                values = [*zip(trained, (each.read_value() for each in read)), *drawn_by(seeds, drawing)]
                return passed_with(model, images, values, read, classes)

            images, worker = examples.take(next(data), indices)
            packed, gradients, averages = compute_step(
                forward, optimizer, loss, images, labels, worker, classes=classes
            )
            for average in averages:
                average.apply()
            return packed, gradients

        @compiled
        def apply(gradients: list[tf.Tensor]) -> None:
            optimizer.apply(gradients, trained)

        @compiled
        def newest() -> list[tf.Tensor]:
            return [variable.value.read_value() for variable in trained]

        self._gradient, self._apply, self._newest = gradient, apply, newest

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        given, done = self.with_classes(batches), 0
        for first in given:
            try:
                order = next(self._orders)
            except StopIteration:
                raise InputError("there are fewer orders of updates than epochs") from None
            yield from self._in_order(order, itertools.chain([first], given), done)
            done += len(order)

    def _in_order(
        self, order: Order, batches: Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]], before: int
    ) -> Iterator[StepResult]:
        """The updates of an order, from batches of which so many came `before`.

        One may be used before those that come earlier: they are taken as far as need be.
        """
        held = list[tuple[np.ndarray, tuple[np.ndarray, ...]]]()
        versions, computed = {0: self._newest()}, dict[int, tuple[np.ndarray, list[tf.Tensor]]]()
        is_read = order.is_read()
        readers = np.bincount(order.versions_read, minlength=len(order) + 1)
        for number, applies in order.events():
            version, batch = int(order.versions_read[number]), int(order.batches[number])
            if not applies:
                held += itertools.islice(batches, max(0, batch + 1 - len(held)))
                if len(held) <= batch:  # asked to stop
                    return
                indices, classes = held[batch]
                drawing = tf.constant((order.workers[number], self._made + version), tf.int64)
                packed, gradients = self._gradient(
                    versions[version], drawing, self._data, *index_batch(indices, self._labels, *classes)
                )
                computed[number] = packed.numpy(), gradients
                readers[version] -= 1
                if not readers[version]:
                    del versions[version]
                continue
            packed, gradients = computed.pop(number)
            self._apply(gradients)
            if is_read[number + 1]:
                versions[number + 1] = self._newest()
            yield StepResult(
                float(packed[0]), int(packed[1]), int(packed[2]), int(order.workers[number]),
                self._made + version, self._made + number, before + batch,
            )  # fmt: skip
        self._made += len(order)


class Together(KerasReplicas):
    """One set of parameters, updated by the sum of what workers make of their parts of a batch."""

    steps_per_exchange = 1

    def __init__(self, context: Context):
        self._labels, job = context.data.labels, context.job
        self._workers, self._served = job.strategy.joint_workers(job.shape), job.strategy.coordinated
        model, optimizer = build(context)
        super().__init__(context, model, optimizer)
        self.exchange_bytes = self.parameter_bytes
        examples, loss = ExampleSource(context.data, context.experiment.cache), loss_for(context.experiment)
        self._data, forward = iter(examples.dataset()), served_forward_of(model)

        @compiled
        def update(data: tf.data.Iterator, *parts: tuple[tf.Tensor, ...]) -> tf.Tensor:
            element, size = next(data), tf.add_n([tf.size(indices) for indices, *_ in parts])
            rows, gradients, averages = [], [], []
            for worker, (indices, labels, *classes) in enumerate(parts):
                images, _ = examples.take(element, indices)
                share = tf.cast(tf.size(indices) / size, tf.float32)
                packed, worker_gradients, worker_averages = compute_step(
                    forward, optimizer, loss, images, labels, tf.constant(worker), share, classes
                )
                rows.append(packed)
                gradients.append(worker_gradients)
                averages.append([average._replace(added=share * average.added) for average in worker_averages])
            for same in zip(*averages, strict=True):
                same[0]._replace(added=tf.add_n([average.added for average in same])).apply()
            # Widened before they are added up, as servers do.
            sums = [
                with_values(same[0], tf.add_n([tf.cast(values_of(each), tf.float32) for each in same]))
                for same in zip(*gradients, strict=True)
            ]
            version = tf.cast(optimizer.apply(sums, model.trainable_variables), tf.float64)
            return tf.stack([tf.concat([row[:5], [version]], axis=0) for row in rows])

        self._update = update

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch, classes in self.with_classes(batches):
            parts = [index_batch(part, self._labels, *classes) for part in self._parts(batch) if len(part)]
            rows = self._update(self._data, *parts).numpy()
            yield from map(StepResult.unpack, rows)

    def _parts(self, batch: np.ndarray) -> list[np.ndarray]:
        """Of each worker: as `ps-sync` divides a batch, or as peers take theirs of it."""
        if self._served:
            return np.array_split(batch, self._workers)
        return [batch[worker :: self._workers] for worker in range(self._workers)]


class Copies(KerasReplicas):
    """`local-sgd`: as many sets of parameters as there are workers, which are averaged every so many steps."""

    def __init__(self, context: Context):
        count = context.job.replicas
        built = [build(context) for _ in range(count)]
        super().__init__(context, *built[0])
        self.steps_per_exchange, self.exchange_bytes = context.job.strategy.local_steps, self.parameter_bytes
        self._labels = context.data.labels
        examples, loss = ExampleSource(context.data, context.experiment.cache), loss_for(context.experiment)
        self._data = iter(examples.dataset())
        models = [model for model, _ in built]
        for number, model in enumerate(models):
            vary_dropout(model, number)

        def local_update(number: int) -> tf.types.experimental.PolymorphicFunction:
            model, optimizer = built[number]
            forward = forward_of(model)

            @compiled
            def update(data: tf.data.Iterator, indices: tf.Tensor, labels: tf.Tensor, *classes: tf.Tensor) -> tf.Tensor:
                indices, labels, share = slice_of_batch(indices, labels, tf.constant(number), count)
                weight = tf.cast(share > 0, tf.float32)
                images, _ = examples.take(next(data), indices)
                return training_step(forward, optimizer, loss, images, labels, tf.constant(number), weight, classes)

            return update

        averaged = [
            copies for copies in zip(*(model.variables for model in models)) if copies[0].dtype.startswith("float")
        ]

        @compiled
        def average() -> None:
            for copies in averaged:
                mean = tf.add_n([copy.value.read_value() for copy in copies]) / len(copies)
                for copy in copies:
                    copy.value.assign(mean)

        self._updates, self._average = [local_update(number) for number in range(count)], average

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        steps = 0
        for batch, classes in self.with_classes(batches):
            for update in self._updates:
                packed = update(self._data, *index_batch(batch, self._labels, *classes))
                yield StepResult.unpack(packed.numpy())
            steps += 1
            if steps % self.steps_per_exchange == 0:
                self._average()
        if steps % self.steps_per_exchange:
            self._average()

"""The parts of a parameter-server step, each as a function of its own: dispatch, pull, push, compute, optimiser."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.tensorflow.forward import Average, forward_of, moving_statistics, pulled, pushed_dtype
from facesim.training.tensorflow.gradients import Gradient, values_of, with_values
from facesim.training.tensorflow.network import build
from facesim.training.tensorflow.optimizer import Fused
from facesim.training.tensorflow.partition import pieces
from facesim.training.tensorflow.pipeline import index_batch
from facesim.training.tensorflow.products import Factors, on_servers
from facesim.training.tensorflow.ps_async import Workers
from facesim.training.tensorflow.step import compute_step

#: Small, so that a pull that must not be left out changes nothing that matters.
_LITTLE = 1e-12


class Parts:
    """Each part of a step of `served`, as something to call that waits until it is done. They overlap in the real step,
    so they need not add up to it.
    """

    def __init__(self, context: Context, served: Workers):
        self._served = served
        model, optimizer = served.model, served.optimizer
        held = pieces(model.trainable_variables)
        ((some, classes),) = served.with_classes([context.train_indices[: context.experiment.batch]])
        self._batch = index_batch(some, served.labels, *classes)
        _, labels, *chosen = self._batch
        sent, scratch = pulled(model, *chosen), []
        for _ in served.train([some]):  # a step that is traced shows which gradients servers make
            pass
        factor_rows = served.products.sent_rows(served.pushed_dtypes)
        with served.strategy.scope():
            for piece, each in zip(held, sent, strict=True):
                with served.strategy.extended.colocate_vars_with(piece):
                    scratch.append(tf.Variable(tf.zeros(values_of(each).shape, piece.dtype), trainable=False))
        local_model, local_optimizer = build(context)
        images, forward = tf.constant(context.data.images[some]), forward_of(local_model)

        @tf.function(autograph=False)
        def nothing() -> tf.Tensor:
            return tf.constant(0)

        @tf.function(autograph=False)
        def pull() -> tf.Tensor:
            # One element of each is used: the whole of it has to come for that.
            return tf.add_n([tf.cast(_one(values_of(value)), tf.float32) for value in pulled(model, *chosen)])

        @tf.function(autograph=False)
        def push() -> tf.Tensor:
            stores, made = [], []
            for each, piece, rows in zip(sent, held, factor_rows, strict=True):
                made.append(_pushed(each, piece, rows, tf.constant(0.5)))
            pushed, _ = on_servers(held, made, [])
            for variable, gradient, piece in zip(scratch, pushed, held, strict=True):
                with tf.device(piece.device):
                    stores.append(variable.assign(tf.cast(values_of(gradient), piece.dtype), read_value=False))
            with tf.control_dependencies(stores):
                return tf.constant(0)

        @tf.function(autograph=False)
        def compute() -> tuple[tf.Tensor, list[tf.Tensor]]:
            # The gradients are returned because a backward pass that nobody uses would be left out.
            return compute_step(forward, local_optimizer, served.loss, images, labels, tf.constant(0), classes=chosen)

        @tf.function(autograph=False)
        def optimise() -> tf.Tensor:
            gradients = []
            for piece, each in zip(held, sent, strict=True):
                with tf.device(piece.device):
                    gradients.append(with_values(each, tf.fill(values_of(each).shape, 1e-3)))
            return optimizer.apply(gradients, model.trainable_variables)

        self._nothing, self._pull, self._push, self._compute, self._optimise = nothing, pull, push, compute, optimise
        moving = pieces(variable for variable, _ in moving_statistics(model))
        self.null_step = null_step(
            lambda: pulled(model, *chosen), optimizer, model.trainable_variables, factor_rows, moving, packs=True
        )

    def all(self) -> dict[str, Callable[[], object]]:
        """The parts by name, and the whole step."""
        served = self._served
        return {
            "dispatch": self._on_worker(self._nothing),
            "dispatch, pull": self._on_worker(self._pull),
            "dispatch, push": self._on_worker(self._push),
            "compute (in the chief's process)": lambda: self._compute()[0].numpy(),  # noqa: PLW0108
            "optimiser (on the server)": lambda: self._optimise().numpy(),
            "a step that computes nothing": self._on_worker(self.null_step),
            "the whole step": self._on_worker(served.update, served.data, self._batch),
        }

    def _on_worker(self, function: Callable[..., Any], *arguments: object) -> Callable[[], object]:
        return lambda: self._served.coordinator.schedule(function, args=arguments).fetch()


def null_step(
    read: Callable[[], list[Gradient]],
    optimizer: Fused,
    variables: list[keras.Variable],
    factor_rows: Sequence[int] = (),
    moving: Sequence[tf.Variable] = (),
    packs: bool = False,
) -> Callable[..., tf.Tensor]:
    """A step that computes nothing: all is pulled, a gradient of each piece of `variables` pushed and applied, and
    something added to each of the `moving` statistics. `factor_rows` are as `Products.sent_rows` has them. `packs`:
    what is small is pushed together, as real steps do; else each is a message.
    """
    held = pieces(variables)

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        # Every gradient has to wait for its own parameter, as in a step, and is made where the worker is.
        gradients, averages, little = list[Gradient | Factors](), [], tf.constant(0.0)
        for sent, piece, rows in zip(read(), held, factor_rows or [0] * len(held), strict=True):
            little = tf.cast(_one(values_of(sent)), tf.float32) * _LITTLE
            gradients.append(_pushed(sent, piece, rows, little))
        for statistic in moving:
            averages.append(Average(statistic, 1.0, tf.fill(statistic.shape, tf.cast(little, statistic.dtype))))
        if packs:
            gradients, averages = on_servers(held, gradients, averages, bool(optimizer.global_clipnorm))
        for average in averages:
            average.apply()
        return optimizer.apply(gradients, variables)

    return step


def _pushed(sent: Gradient, piece: tf.Variable, factor_rows: int, number: tf.Tensor) -> Gradient | Factors:
    """A gradient of a piece that is all one number, or its factors."""
    number = tf.cast(number, pushed_dtype(values_of(sent).dtype))
    if factor_rows:
        return Factors(*(tf.fill((factor_rows, size), number) for size in piece.shape))
    return with_values(sent, tf.fill(tf.shape(values_of(sent)), number))


def _one(value: tf.Tensor) -> tf.Tensor:
    return tf.reshape(value, [-1])[0]


def rate_per_s(served: Workers, function: Callable[..., Any], in_flight: int, for_s: float) -> tuple[float, int]:
    """How many calls of `function` a second workers make when `in_flight` of them are under way all the time.

    Returns the rate and the number of calls that it is from.
    """
    at_work = {served.schedule_bare(function) for _ in range(in_flight)}
    done_count, begin, now = 0, time.perf_counter(), 0.0
    while now < for_s or done_count < 3 * in_flight:
        done, at_work = wait(at_work, return_when=FIRST_COMPLETED)
        for each in done:
            each.result()
        done_count += len(done)
        now = time.perf_counter() - begin
        at_work |= {served.schedule_bare(function) for _ in range(len(done))}
    wait(at_work)
    return done_count / now, done_count


def small_variables(count: int, size: int) -> list[keras.Variable]:
    """So many trainable variables of so many numbers: an update of them is messages and nearly no bytes."""
    return [keras.Variable(np.zeros(size, np.float32), name=f"small_{number}") for number in range(count)]

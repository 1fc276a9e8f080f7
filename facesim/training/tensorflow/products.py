"""Gradients that are products of two matrices, which are sent in their place.

The gradient of a dense layer's kernel is x^T d, of the layer's inputs x (examples, rows) and the gradient d of its
outputs (examples, columns). Of few examples these two are much smaller than it: `placement.sends_factors` says when
they are sent in its place. A parameter server multiplies what a worker sends it; replicas that sum their gradients send
each other their rows of both factors, and each multiplies all of them. The kernel that multiplies is the one that would
have done so for the worker's own. A gradient that is made in another way, as of a layer that is called twice, or whose
kernel is normalised, is sent itself.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from facesim.training.placement import sends_factors
from facesim.training.tensorflow.collectives import Summing
from facesim.training.tensorflow.forward import Average
from facesim.training.tensorflow.gradients import Gradient, values_of, with_values
from facesim.training.tensorflow.packing import sent_to
from facesim.training.tensorflow.partition import pieces

#: What TensorFlow cuts the gradient of joined pieces with: it takes the second for many of them.
_CUTS = ("Slice", "SplitV")


class Factors(NamedTuple):
    """A gradient left^T right, as its factors: (n, rows) and (n, columns)."""

    left: tf.Tensor
    right: tf.Tensor

    def product(self) -> tf.Tensor:
        return tf.matmul(self.left, self.right, transpose_a=True)


class Products:
    """Those among the gradients of `variables`, in a worker's steps of so many `examples` at the most.

    `factor_rows`: by the place of a variable, how many rows for each example the factors of its gradient have; filled
    as a step is traced. Of what is traced first the size is known.
    """

    def __init__(self, variables: list[keras.Variable], examples: int):
        self._variables, self._examples = variables, examples
        self.factor_rows: dict[int, float] = {}

    def multiplied_alike(self, summed: Summing, number: int, count: int, dtypes: Sequence[tf.DType]) -> bool:
        """Whether all `count` replicas, of which this is `number`, get the same products of the same factors to the
        bit. Processors of several kinds may not: they add in another order. All replicas call this at the same time.
        """
        rows, digest = count * self._examples, 0
        for variable, dtype in zip(self._variables, dtypes, strict=True):
            if len(variable.shape) == 2 and sends_factors(variable.shape, dtype.size, rows):
                factors = [np.random.default_rng(0).standard_normal((rows, size)) for size in variable.shape]
                made = tf.matmul(*(tf.cast(factor, dtype) for factor in factors), transpose_a=True)
                digest = zlib.crc32(made.numpy().tobytes(), digest)
        halves = [digest >> 16, digest & 0xFFFF]  # a float32 has no room for the whole
        (digests,) = summed([tf.one_hot(number, count)[:, tf.newaxis] * tf.constant([halves], tf.float32)])
        return bool(tf.reduce_all(digests == digests[0]))

    def in_slots(
        self, gradients: list[Gradient], examples: int | None, number: tf.Tensor, count: int
    ) -> list[list[tf.Tensor]]:
        """What replica `number` of `count` adds to the sum for each gradient: its numbers, or its factors, each
        with the rows of all replicas, of which the others' are 0. Of a step of so many `examples`, if known.
        """
        sent = []
        for place, (gradient, variable) in enumerate(zip(gradients, self._variables, strict=True)):
            factors = _factors([gradient], variable.shape)
            if factors and examples and factors[0].shape[0]:
                self.factor_rows.setdefault(place, factors[0].shape[0] / examples)
            rows = round(self._examples * self.factor_rows.get(place, 0))
            if factors and rows and sends_factors(variable.shape, gradient.dtype.size, count * rows):
                sent.append([_in_slot(factor, rows, number, count) for factor in factors])
            else:
                sent.append([values_of(gradient)])
        return sent

    def factored(self, gradients: list[Gradient], examples: int | None) -> list[Gradient | Factors]:
        """The same gradients, piece by piece, or their factors where these are less to send; of so many `examples`, if
        known.
        """
        given, sent = iter(gradients), list[Gradient | Factors]()
        for place, variable in enumerate(self._variables):
            held = pieces([variable])
            parts = list(itertools.islice(given, len(held)))
            factors = _factors(parts, variable.shape)
            if factors is None:
                sent += parts
                continue
            left, right = factors
            known = left.shape[0] and examples
            rows = self._examples * self.factor_rows.setdefault(place, left.shape[0] / examples if known else 1.0)
            lefts = tf.split(left, [piece.shape[0] for piece in held], axis=1)
            sent += [
                Factors(its_left, right) if sends_factors(piece.shape, part.dtype.size, rows) else part
                for piece, part, its_left in zip(held, parts, lefts)
            ]
        return sent

    def sent_rows(self, dtypes: Sequence[tf.DType]) -> list[int]:
        """Of each piece, whose gradient is of one of `dtypes`: how many rows the factors have that are sent in place of
        it; 0 where it is sent itself.
        """
        rows = [
            round(self._examples * self.factor_rows.get(place, 0))
            for place, variable in enumerate(self._variables)
            for _ in pieces([variable])
        ]
        return [
            count if count and sends_factors(piece.shape, dtype.size, count) else 0
            for piece, count, dtype in zip(pieces(self._variables), rows, dtypes, strict=True)
        ]


def from_slots(sums: Sequence[tf.Tensor], gradient: Gradient) -> Gradient:
    """The sum of all replicas' gradients from those of what `in_slots` made of one: this replica's own."""
    return tf.matmul(*sums, transpose_a=True) if len(sums) > 1 else with_values(gradient, *sums)


def _in_slot(factor: tf.Tensor, rows: int, number: tf.Tensor, count: int) -> tf.Tensor:
    """A factor (n, any), n up to `rows`, as the rows of replica `number` among those of all `count`."""
    before = rows * number
    padded = tf.pad(factor, [[before, count * rows - before - tf.shape(factor)[0]], [0, 0]])
    return tf.ensure_shape(padded, (count * rows, factor.shape[1]))


def on_servers(
    held: Sequence[tf.Variable],
    gradients: Sequence[Gradient | Factors],
    averages: Sequence[Average],
    limited: bool = False,
) -> tuple[list[Gradient], list[Average]]:
    """What a worker sends of a step, where it is applied: the gradients of the pieces that are `held`, and what is
    added to averages. Small tensors come together, and factors are multiplied. Where the gradients' norm is `limited`
    they stay where they are: it is computed there.
    """
    whole = [place for place, gradient in enumerate(gradients) if isinstance(gradient, tf.Tensor) and not limited]
    homes = [*(held[place].device for place in whole), *(average.statistic.device for average in averages)]
    sent = [*(gradients[place] for place in whole), *(average.added for average in averages)]
    came = iter(sent_to(homes, sent))
    arrived = dict(zip(whole, came))  # the gradients; the others follow
    return [
        arrived.get(place, product(piece, *gradient) if isinstance(gradient, Factors) else gradient)
        for place, (piece, gradient) in enumerate(zip(held, gradients, strict=True))
    ], [average._replace(added=added) for average, added in zip(averages, came, strict=True)]


def product(piece: tf.Variable, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """left^T right, computed on the device that holds `piece`."""
    with tf.device(piece.device):
        return Factors(left, right).product()


def _factors(parts: list[Gradient], shape: Sequence[int]) -> list[tf.Tensor] | None:
    """The factors a (n, rows) and b (n, columns) of a gradient a^T b of a variable, from its pieces' parts of it."""
    if any(isinstance(part, tf.IndexedSlices) for part in parts):
        return None
    makers = [_maker(part) for part in parts]
    if len(makers) > 1:
        makers = [_maker(maker.inputs[0]) if maker.type in _CUTS else maker for maker in makers]
    maker = makers[0]
    if (
        maker.type != "MatMul"
        or any(other.name != maker.name for other in makers)
        or maker.outputs[0].dtype != parts[0].dtype
        or maker.outputs[0].shape.as_list()[1:] != list(shape[1:])  # rows are as many, but may not be known
        or not maker.get_attr("transpose_a")
        or maker.get_attr("transpose_b")
    ):
        return None
    return [tf.ensure_shape(factor, (None, size)) for factor, size in zip(maker.inputs, shape, strict=True)]


def _maker(tensor: tf.Tensor) -> tf.Operation:
    """What a tensor is from, but for casts, because mixed precision widens what it narrows at once, and for reshaping,
    which is around a layer of several rows for each example.
    """
    while tensor.op.type in ("Cast", "Reshape"):
        tensor = tensor.op.inputs[0]
    return tensor.op

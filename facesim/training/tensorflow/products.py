"""Gradients that are products of two matrices: made on the server that holds their variable, from what a worker sends.

The gradient of a dense layer's kernel is x^T d, of the layer's inputs x (examples, rows) and the gradient d of its
outputs (examples, columns). Of few examples these two are much smaller than it: `placement.sends_factors` says when
they are sent in its place. The kernel that multiplies them is the one that would have done so on the worker. A gradient
that is made in another way, as of a layer that is called twice, or whose kernel is normalised, is sent itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import keras
import tensorflow as tf

from facesim.training.placement import sends_factors
from facesim.training.tensorflow.gradients import Gradient
from facesim.training.tensorflow.partition import pieces

#: What TensorFlow cuts the gradient of joined pieces with: it takes the second for many of them.
_CUTS = ("Slice", "SplitV")


class Products:
    """Those among the gradients of `variables`, in steps of so many `examples` at the most.

    `factor_rows`: by the place of a variable, how many rows for each example the factors of its gradient have; filled
    as a step is traced. Of what is traced first the size is known.
    """

    def __init__(self, variables: list[keras.Variable], examples: int):
        self._variables, self._examples = variables, examples
        self.factor_rows: dict[int, float] = {}

    def on_servers(self, gradients: list[Gradient], examples: int | None) -> list[Gradient]:
        """The same gradients, piece by piece, products made where their pieces are; of so many `examples`, if known."""
        given, made = iter(gradients), list[Gradient]()
        for place, variable in enumerate(self._variables):
            held = pieces([variable])
            parts = list(itertools.islice(given, len(held)))
            factors = _factors(parts, variable.shape)
            if factors is None:
                made += parts
                continue
            left, right = factors
            known = left.shape[0] and examples
            rows = self._examples * self.factor_rows.setdefault(place, left.shape[0] / examples if known else 1.0)
            lefts = tf.split(left, [piece.shape[0] for piece in held], axis=1)
            made += [
                product(piece, its_left, right) if sends_factors(piece.shape, part.dtype.size, rows) else part
                for piece, part, its_left in zip(held, parts, lefts)
            ]
        return made

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


def product(piece: tf.Variable, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """left^T right, computed on the device that holds `piece`."""
    with tf.device(piece.device):
        return tf.matmul(left, right, transpose_a=True)


def _factors(parts: list[Gradient], shape: Sequence[int]) -> Sequence[tf.Tensor] | None:
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
        or maker.outputs[0].shape != tuple(shape)
        or not maker.get_attr("transpose_a")
        or maker.get_attr("transpose_b")
    ):
        return None
    return maker.inputs


def _maker(tensor: tf.Tensor) -> tf.Operation:
    """What a tensor is from, but for casts: mixed precision widens what it narrows at once."""
    while tensor.op.type == "Cast":
        tensor = tensor.op.inputs[0]
    return tensor.op

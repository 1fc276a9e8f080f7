"""The forward pass, and what a gradient is taken with respect to.

From parameter servers a worker reads every parameter anew for each step. In mixed precision its layers would round
float32 kernels to bfloat16 before they use them, and widen the kernels' gradients after. Rounded where they are kept,
and widened where they are applied, the same is computed from the same numbers, and half the bytes cross the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from facesim.training.tensorflow.partition import pieces

#: From images, uint8 (n, height, width, channels), in training: the logits, and for each trainable variable, or piece
#: of one, in order, what its gradient is taken with respect to.
Forward = Callable[[tf.Tensor], tuple[tf.Tensor, list[tf.Variable | tf.Tensor]]]


def forward_of(model: keras.Model) -> Forward:
    """A forward pass that reads the parameters as they are."""
    return lambda images: (model(images, training=True), pieces(model.trainable_variables))


def served_forward_of(model: keras.Model) -> Forward:
    """A forward pass of a model on parameter servers, which send what `sent_dtypes` says."""
    dtypes = _dtypes(model)
    if not dtypes:
        return forward_of(model)

    def forward(images: tf.Tensor) -> tuple[tf.Tensor, list[tf.Variable | tf.Tensor]]:
        values, sources = list[tuple[keras.Variable, tf.Tensor]](), list[tf.Variable | tf.Tensor]()
        for variable in model.trainable_variables:
            parts = pieces([variable])
            if id(variable) in dtypes:
                parts = [_rounded(piece, dtypes[id(variable)]) for piece in parts]
                values.append((variable, parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)))
            sources += parts
        return logits_with(model, images, values), sources

    return forward


def logits_with(model: keras.Model, images: tf.Tensor, values: list[tuple[keras.Variable, tf.Tensor]]) -> tf.Tensor:
    """The forward pass in training, with other values of some variables than they have. What it learns about the data,
    such as moving statistics, is kept.
    """
    scope = keras.StatelessScope()
    for variable, value in values:
        scope.add_update((variable, value))
    with scope:
        logits = model(images, training=True)
    for variable in model.non_trainable_variables:  # which the scope has kept from being assigned
        value = scope.get_current_value(variable)
        if value is not None:
            variable.assign(value)
    return logits


def pulled(model: keras.Model) -> list[tf.Tensor]:
    """What a worker reads of a served model for a step: the trainable variables, piece by piece, as they are sent."""
    dtypes = _dtypes(model)
    return [
        _rounded(piece, dtypes[id(variable)]) if id(variable) in dtypes else piece.read_value()
        for variable in model.trainable_variables
        for piece in pieces([variable])
    ]


def sent_dtypes(model: keras.Model) -> list[tf.DType]:
    """As what a server sends each piece of the trainable variables, and gets its gradient."""
    dtypes = _dtypes(model)
    return [
        tf.as_dtype(dtypes.get(id(variable), variable.dtype))
        for variable in model.trainable_variables
        for _ in pieces([variable])
    ]


def parameter_bytes(model: keras.Model, dtypes: list[tf.DType] | None = None) -> int:
    """What the trainable variables take, as they are or, piece by piece, as `dtypes`."""
    held = pieces(model.trainable_variables)
    sizes = [dtype.size for dtype in dtypes or [piece.dtype for piece in held]]
    return sum(piece.shape.num_elements() * size for piece, size in zip(held, sizes, strict=True))


def _dtypes(model: keras.Model) -> dict[int, str]:
    """By id, the variables that their layers round before all else, and to what. Others are small, and are left."""
    return {
        id(variable): layer.compute_dtype
        for layer in _layers(model)
        if layer.compute_dtype != layer.variable_dtype
        for variable in layer.trainable_variables
        if variable.name == "kernel"
    }


def _layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _rounded(piece: tf.Variable, dtype: str) -> tf.Tensor:
    """A variable's value, rounded on the device that holds it."""
    with tf.device(piece.device):
        return tf.cast(piece, dtype)

"""The forward pass, what a gradient is taken with respect to, and what moving statistics learn.

From parameter servers a worker reads every parameter anew for each step. In mixed precision its layers would round
float32 kernels to bfloat16 before they use them, and widen the kernels' gradients after. Rounded where they are kept,
and widened where they are applied, the same is computed from the same numbers, and half the bytes cross the network.
In float16 that holds for kernels only: gradients are widened by the worker, which takes the scale of the loss away.

Moving statistics of batches have no gradient. A layer assigns m v + (1-m) x, from a value v that it has read: of
workers that share them, the last to assign undoes what the others have added. So these workers send what a batch
adds, (1-m) x, and v is what it is where it is kept: `Average`.

A layer that draws random numbers counts how often it has. Workers that share the counters would draw the same at the
same time, and read and write each of them in every step. What they draw follows from which worker draws, and at which
version of the parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from facesim.models import embedder
from facesim.training.keras.network import is_seed, penalty
from facesim.training.placement import is_packed
from facesim.training.tensorflow.gradients import Gradient
from facesim.training.tensorflow.packing import fetched_from
from facesim.training.tensorflow.partition import pieces, rows_by_piece, rows_of


class Average(NamedTuple):
    """What a batch makes of a moving statistic, or of a piece of one: `kept`, 0-1, of what it is, and `added`."""

    statistic: tf.Variable
    kept: float
    added: tf.Tensor

    def apply(self) -> None:
        """Take the step on the device that holds the statistic, as an atomic addition: nothing is lost of what several
        workers add at the same time.
        """
        with tf.device(self.statistic.device):
            added = tf.identity(tf.cast(self.added, self.statistic.dtype))
            with tf.control_dependencies([added]):  # what it is now, not what it was when the worker's step began
                value = tf.raw_ops.ReadVariableOp(resource=self.statistic.handle, dtype=self.statistic.dtype)
            change = added - (1 - self.kept) * value
            tf.raw_ops.AssignAddVariableOp(resource=self.statistic.handle, value=change)


class Passed(NamedTuple):
    """What a forward pass in training gives: the `logits`, and the `penalty` () that regularizers add to the loss; for
    each trainable variable, or piece of one, in order, what its gradient is taken with respect to, the `sources`; and
    what is still to be made of the moving statistics.
    """

    logits: tf.Tensor
    penalty: tf.Tensor | float
    sources: list[tf.Variable | tf.Tensor]
    averages: list[Average]


#: From images, uint8 (n, height, width, channels), and, of a sampled head, the classes, int32 (k,), to compute. As
#: `drawing` it is told which worker draws random numbers, and at which version of the parameters, int64 (2,).
Forward = Callable[..., Passed]

#: A layer may draw so often in one step without drawing again what it draws in the next.
_DRAWS_A_STEP = 64
#: So far apart are the seeds of two workers: a layer's may be next to another layer's.
_SEEDS_APART = 1_000_003


def forward_of(model: keras.Model) -> Forward:
    """A forward pass that reads the parameters as they are, and changes the moving statistics and the counters of
    random generators by itself.
    """
    return lambda images, *classes, drawing=None: Passed(
        _logits(model, images, classes), penalty(model), pieces(model.trainable_variables), []
    )


def _logits(model: keras.Model, images: tf.Tensor, classes: Sequence[tf.Tensor]) -> tf.Tensor:
    """The logits in training: of all identities, or of a sampled head's classes, of which alone anything is read."""
    if not classes:
        return model(images, training=True)
    head = model.layers[-1]
    return head(embedder(model)(images, training=True), rows=rows_of(head.kernel, *classes))


def served_forward_of(model: keras.Model) -> Forward:
    """A forward pass of a model on parameter servers, which send what `pulled_dtypes` says."""
    dtypes, seeds = _dtypes(model), seeds_of(model)

    def is_read_once(variable: keras.Variable) -> bool:
        # The penalty would read it once more. All else is left to its layer.
        return id(variable) in dtypes or variable.regularizer or _is_packed(variable)

    def forward(images: tf.Tensor, *classes: tf.Tensor, drawing: tf.Tensor | None = None) -> Passed:
        values, sources = [] if drawing is None else drawn_by(seeds, drawing), list[tf.Variable | tf.Tensor]()
        trained = model.trainable_variables
        read = _read([each for each in trained if is_read_once(each) and not _is_sampled(model, each, classes)], dtypes)
        for variable in trained:
            parts = read.get(id(variable))
            if parts:
                values.append((variable, parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)))
            sources += parts or pieces([variable])
        return passed_with(model, images, values, sources, classes)

    return forward


def passed_with(
    model: keras.Model,
    images: tf.Tensor,
    values: list[tuple[keras.Variable, tf.Tensor]],
    sources: list[tf.Variable | tf.Tensor],
    classes: Sequence[tf.Tensor] = (),
) -> Passed:
    """The forward pass in training, with other values of some variables than they have. It does not change these, nor
    the moving statistics. What it leaves in others is kept.
    """
    momentums = moving_statistics(model)
    while True:
        # What the layers make of nothing is what the batch adds, and the statistics need not even be read.
        scope = _Scope([*values, *((variable, tf.zeros(variable.shape, variable.dtype)) for variable, _ in momentums)])
        with scope:
            logits, added_loss = _logits(model, images, classes), penalty(model)
        learning = [(variable, momentum) for variable, momentum in momentums if scope.updates[id(variable)]]
        if len(learning) == len(momentums):
            break
        momentums = learning  # others are called as in use, and normalise by what they have: once more, with that
    averages = []
    for variable, momentum in momentums:
        split, added = pieces([variable]), scope.get_current_value(variable)
        parts = [added] if len(split) == 1 else tf.split(added, [piece.shape[0] for piece in split])
        kept = momentum ** scope.updates.pop(id(variable))  # a layer may be called more than once
        averages += [Average(piece, kept, part) for piece, part in zip(split, parts, strict=True)]
    given = {id(variable) for variable, _ in values}
    for variable in model.non_trainable_variables:
        if scope.updates[id(variable)] and id(variable) not in given:
            variable.assign(scope.get_current_value(variable))
    return Passed(logits, added_loss, sources, averages)


def seeds_of(model: keras.Model) -> list[tuple[keras.Variable, int]]:
    """The states of a network's random generators, each with its seed."""
    generators = [variable for variable in model.non_trainable_variables if is_seed(variable)]
    return [(variable, int(variable.value.numpy()[0])) for variable in generators]


def drawn_by(seeds: list[tuple[keras.Variable, int]], drawing: tf.Tensor) -> list[tuple[keras.Variable, tf.Tensor]]:
    """The states of random generators for one step of one worker, which `drawing` names."""
    worker, version = tf.unstack(drawing)
    return [
        (variable, tf.cast(tf.stack([seed + _SEEDS_APART * worker, version * _DRAWS_A_STEP]), variable.dtype))
        for variable, seed in seeds
    ]


class _Scope(keras.StatelessScope):
    """Keeps variables from being assigned, and counts how often each would have been."""

    def __init__(self, values: list[tuple[keras.Variable, tf.Tensor]]):
        super().__init__(values)
        self.updates = Counter[int]()

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        super().add_update(update)
        self.updates[id(update[0])] += 1


def moving_statistics(model: keras.Model) -> list[tuple[keras.Variable, float]]:
    """The moving statistics of a network that may learn, with their momentums. Renormalisation reads them in training,
    so its own are left as they are.
    """
    return [
        (variable, layer.momentum)
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not getattr(layer, "renorm", False)
        for variable in (layer.moving_mean, layer.moving_variance)
    ]


def pulled(model: keras.Model, *classes: tf.Tensor) -> list[Gradient]:
    """What a worker reads of a served model for a step, and sends gradients of: the trainable variables, piece by
    piece, as they are sent; of a sampled head the rows of the `classes` alone.
    """
    trained, values = model.trainable_variables, list[Gradient]()
    read = _read([variable for variable in trained if not _is_sampled(model, variable, classes)], _dtypes(model))
    for variable in trained:
        if id(variable) in read:
            values += read[id(variable)]
        else:
            by_piece = zip(pieces([variable]), rows_by_piece(variable, *classes))
            values += [tf.IndexedSlices(tf.gather(piece, rows), rows) for piece, rows in by_piece]
    return values


def _is_sampled(model: keras.Model, variable: keras.Variable, classes: Sequence[tf.Tensor]) -> bool:
    """Whether only some rows of a variable are read."""
    return bool(classes) and variable is model.layers[-1].kernel


def _is_packed(variable: keras.Variable) -> bool:
    return any(is_packed(piece.shape.num_elements() * piece.dtype.size) for piece in pieces([variable]))


def _read(variables: list[keras.Variable], dtypes: dict[int, str]) -> dict[int, list[tf.Tensor]]:
    """By id, the values of the pieces of each variable, rounded where they are kept."""
    held = [(variable, piece) for variable in variables for piece in pieces([variable])]
    there = [_rounded(piece, dtypes.get(id(variable), variable.dtype)) for variable, piece in held]
    read: dict[int, list[tf.Tensor]] = {}
    for (variable, _), value in zip(held, fetched_from([piece.device for _, piece in held], there), strict=True):
        read.setdefault(id(variable), []).append(value)
    return read


def pulled_dtypes(model: keras.Model) -> list[tf.DType]:
    """As what a server sends each piece of the trainable variables."""
    dtypes = _dtypes(model)
    return [
        tf.as_dtype(dtypes.get(id(variable), variable.dtype))
        for variable in model.trainable_variables
        for _ in pieces([variable])
    ]


def pushed_dtypes(model: keras.Model) -> list[tf.DType]:
    """As what the gradient of each piece is sent."""
    return [pushed_dtype(dtype) for dtype in pulled_dtypes(model)]


def pushed_dtype(pulled: tf.DType) -> tf.DType:
    """As what the gradient of something is sent that was sent as `pulled`. float16 is widened: little gradients would
    be 0 in it without the scale of the loss, and sums of gradients too large with it.
    """
    return tf.float32 if pulled == tf.float16 else pulled


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

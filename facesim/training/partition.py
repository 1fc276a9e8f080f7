"""Parameters on several servers: large ones are split, and each piece goes where least is held, so all serve alike.

Keras sees one variable, whose pieces TensorFlow joins when it is read. A gradient is taken with respect to the pieces,
because its parts are what the servers apply: `pieces` names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

#: A variable is split into pieces of no less than this: each one is a message of its own.
_LEAST_PIECE_BYTES = 128 * 1024

_Sharded = tf.__internal__.distribute.ShardedVariable


def pieces(variables: Iterable[keras.Variable]) -> list[tf.Variable]:
    """The TensorFlow variables that hold `variables`, in order: one each, or as many as it was split into."""
    return [piece for variable in variables for piece in _pieces_of(variable.value)]


def _pieces_of(held: tf.Variable | _Sharded) -> list[tf.Variable]:
    return list(held.variables) if isinstance(held, _Sharded) else [held]


@contextmanager
def balanced(strategy: tf.distribute.ParameterServerStrategy, servers: int) -> Iterator[None]:
    """Within this scope of `strategy`, whose servers must not hold anything yet, variables are split and placed so that
    all servers hold alike. What is created beside a split variable (an optimiser's moments) is split as that is.
    """
    with strategy.scope():
        if servers == 1:
            yield
            return
        # The strategy itself deals out variables in turn, whatever their size. These mark the servers.
        marks = [tf.Variable(0.0, trainable=False, name=f"server_{server}") for server in range(servers)]
        held_bytes = [0] * servers

        def create(next_creator: Any, **options: Any) -> tf.Variable | _Sharded:
            beside = options.pop("colocate_with", None)
            value = options.pop("initial_value")
            value = tf.convert_to_tensor(value() if callable(value) else value, dtype=options.get("dtype"))
            if beside is None:
                parts = tf.split(value, _rows(value.shape, value.dtype.size, servers)) if value.shape.rank else [value]
                places = [_lightest(held_bytes, part) for part in parts]
                places = [marks[place] for place in places]
            elif isinstance(beside, _Sharded):
                places = beside.variables
                parts = tf.split(value, [piece.shape[0] for piece in places])
            else:
                places, parts = [beside], [value]
            name = options.pop("name", None) or "variable"
            options.pop("shape", None)
            made = [
                next_creator(**options, initial_value=part, name=f"{name}/part_{number}", colocate_with=place)
                for number, (part, place) in enumerate(zip(parts, places))
            ]
            return made[0] if len(made) == 1 else _Sharded(made, name=name)

        with tf.variable_creator_scope(create):
            yield


def _rows(shape: tf.TensorShape, item_bytes: int, servers: int) -> list[int]:
    """Of how many rows (along the first axis) each piece of a variable consists, the largest first."""
    size = int(np.prod(shape)) * item_bytes
    count = max(1, min(servers, size // _LEAST_PIECE_BYTES, shape[0]))
    return [len(rows) for rows in np.array_split(range(shape[0]), count)]


def _lightest(held_bytes: list[int], part: tf.Tensor) -> int:
    """The server that holds least; from now on it holds `part`, too."""
    server = held_bytes.index(min(held_bytes))
    held_bytes[server] += int(np.prod(part.shape)) * part.dtype.size
    return server

"""Parameters on several servers: large ones are split, and each piece goes where least is held, so all serve alike.

Keras sees one variable, whose pieces TensorFlow joins when it is read. A gradient is taken with respect to the pieces,
because its parts are what the servers apply: `pieces` names them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from facesim.training.placement import lightest, piece_rows

_Sharded = tf.__internal__.distribute.ShardedVariable


def pieces(variables: Iterable[keras.Variable]) -> list[tf.Variable]:
    """The TensorFlow variables that hold `variables`, in order: one each, or as many as it was split into."""
    return [piece for variable in variables for piece in _pieces_of(variable.value)]


def rows_of(variable: keras.Variable, rows: tf.Tensor) -> tf.Tensor:
    """Some rows of a variable, `rows` int32 (k,) ascending: each read from the piece that it is in, no other is."""
    taken = [tf.gather(piece, its_rows) for piece, its_rows in zip(pieces([variable]), rows_by_piece(variable, rows))]
    return tf.ensure_shape(tf.concat(taken, axis=0), (rows.shape[0], *variable.shape[1:]))


def rows_by_piece(variable: keras.Variable, rows: tf.Tensor) -> list[tf.Tensor]:
    """Rows of a variable, int32 (k,) ascending, as rows of each piece of it."""
    ends = list(itertools.accumulate(piece.shape[0] for piece in pieces([variable])))
    places = tf.unstack(tf.searchsorted(rows, [0, *ends]))
    return [rows[first:last] - begin for first, last, begin in zip(places, places[1:], [0, *ends])]


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
                shape = value.shape.as_list()
                parts = tf.split(value, piece_rows(shape, value.dtype.size, servers)) if shape else [value]
                places = [lightest(held_bytes, _bytes(part)) for part in parts]
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


def _bytes(part: tf.Tensor) -> int:
    return part.shape.num_elements() * part.dtype.size

"""What one update asks of each parameter server, in messages and bytes, from the variables and where they lie.

Two rules of placement: facesim's own (`balanced`) and TensorFlow's `replica_device_setter` (`round_robin`), by which
the published measurements were made. The second can be very uneven: a network that creates an even number of variables
for each layer puts every kernel on one of two servers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from facesim.training.placement import lightest, piece_rows


class Variable(NamedTuple):
    """A variable as servers hold it. `sent_bytes` is what crosses the network each way (less than it holds where it is
    sent rounded). One that is not `trainable` is updated by a step, but not pulled for it: batch statistics.
    """

    shape: tuple[int, ...]
    held_bytes: int
    sent_bytes: int
    trainable: bool = True


class ServerLoad(NamedTuple):
    """What one update asks of a server: messages and bytes that are pulled from it and pushed to it."""

    pull_messages: int
    push_messages: int
    pull_bytes: float
    push_bytes: float


_NOTHING = ServerLoad(0, 0, 0.0, 0.0)


def round_robin(variables: Iterable[Variable], servers: int, before: int = 1) -> tuple[ServerLoad, ...]:
    """The load of each server when variables are dealt out in turn, in the order of their creation.

    `before` scalars that every update pushes come first: TensorFlow's global step is one.

    Source: `tf.train.replica_device_setter` of TensorFlow 1, whose default strategy is round robin.
    """
    step = Variable((), 8, 8, trainable=False)
    loads = [_NOTHING] * servers
    for place, variable in enumerate([*[step] * before, *variables]):
        loads[place % servers] = _with(loads[place % servers], variable.sent_bytes, variable.trainable)
    return tuple(loads)


def balanced(variables: Iterable[Variable], servers: int) -> tuple[ServerLoad, ...]:
    """The load of each server as facesim places variables: large ones split, each piece where least is held.

    Source: `facesim.training.tensorflow.partition`, by the same arithmetic.
    """
    loads = [_NOTHING] * servers
    held_bytes = [0] * servers
    for variable in variables:
        shape = variable.shape
        rows = piece_rows(shape, variable.held_bytes // max(1, math.prod(shape)), servers) if shape else [1]
        for count in rows:
            share = count / sum(rows)
            server = lightest(held_bytes, round(variable.held_bytes * share)) if servers > 1 else 0
            loads[server] = _with(loads[server], variable.sent_bytes * share, variable.trainable)
    return tuple(loads)


def _with(load: ServerLoad, sent_bytes: float, trainable: bool) -> ServerLoad:
    return ServerLoad(
        load.pull_messages + trainable,
        load.push_messages + 1,
        load.pull_bytes + (sent_bytes if trainable else 0.0),
        load.push_bytes + sent_bytes,
    )


def total(loads: Sequence[ServerLoad]) -> ServerLoad:
    """What one update asks of all servers together."""
    return ServerLoad(*(sum(part) for part in zip(*loads)))

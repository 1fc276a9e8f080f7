"""What one update asks of each parameter server, in messages and bytes, from the variables and where they lie.

Two rules of placement: facesim's own (`balanced`) and TensorFlow's `replica_device_setter` (`round_robin`), by which
the published measurements were made. The second can be very uneven: a network that creates an even number of variables
for each layer puts every kernel on one of two servers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from facesim.training.placement import lightest, piece_rows, product_flops, sends_factors


class Variable(NamedTuple):
    """A variable as servers hold it. `sent_bytes` is what crosses the network each way (less than it holds where it is
    sent rounded), but for its gradient if that takes other `pushed_bytes`. One that is not `trainable` is updated by a
    step, but not pulled for it: batch statistics. Of one whose gradient is a product of two matrices, these have so
    many `factor_rows` in a step; 0 where it is none.
    """

    shape: tuple[int, ...]
    held_bytes: int
    sent_bytes: float
    trainable: bool = True
    factor_rows: float = 0.0
    pushed_bytes: float | None = None

    @property
    def gradient_bytes(self) -> float:
        """What its gradient takes, if that is sent itself."""
        return self.sent_bytes if self.pushed_bytes is None else self.pushed_bytes


class ServerLoad(NamedTuple):
    """What one update asks of a server: messages and bytes that are pulled from it and pushed to it, and floating-point
    operations to make gradients of what is pushed.
    """

    pull_messages: int
    push_messages: int
    pull_bytes: float
    push_bytes: float
    push_flops: float = 0.0


_NOTHING = ServerLoad(0, 0, 0.0, 0.0)


def round_robin(variables: Iterable[Variable], servers: int, before: int = 1) -> tuple[ServerLoad, ...]:
    """The load of each server when variables are dealt out in turn, in the order of their creation.

    `before` scalars that every update pushes come first: TensorFlow's global step is one.

    Source: `tf.train.replica_device_setter` of TensorFlow 1, whose default strategy is round robin.
    """
    step = Variable((), 8, 8, trainable=False)
    loads = [_NOTHING] * servers
    for place, variable in enumerate([*[step] * before, *variables]):
        loads[place % servers] = _with(loads[place % servers], variable)
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
            sent_bytes, pushed_bytes = (share * whole for whole in (variable.sent_bytes, variable.gradient_bytes))
            piece = variable._replace(shape=(count, *shape[1:]), sent_bytes=sent_bytes, pushed_bytes=pushed_bytes)
            loads[server] = _with(loads[server], piece)
    return tuple(loads)


def _with(load: ServerLoad, held: Variable) -> ServerLoad:
    pushes, pushed_bytes, flops = 1, held.gradient_bytes, 0.0
    item_bytes = pushed_bytes / max(1, math.prod(held.shape))
    if held.factor_rows and sends_factors(held.shape, item_bytes, held.factor_rows):
        pushes, pushed_bytes = 2, item_bytes * held.factor_rows * sum(held.shape)
        flops = product_flops(held.shape, held.factor_rows)
    return ServerLoad(
        load.pull_messages + held.trainable,
        load.push_messages + pushes,
        load.pull_bytes + (held.sent_bytes if held.trainable else 0.0),
        load.push_bytes + pushed_bytes,
        load.push_flops + flops,
    )


def total(loads: Sequence[ServerLoad]) -> ServerLoad:
    """What one update asks of all servers together."""
    return ServerLoad(*(sum(part) for part in zip(*loads)))

"""What one update asks of each parameter server, in messages and bytes, from the variables and where they lie.

Two rules of placement: facesim's own (`balanced`) and TensorFlow's `replica_device_setter` (`round_robin`), by which
the published measurements were made. The second can be very uneven: a network that creates an even number of variables
for each layer puts every kernel on one of two servers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from facesim.training.placement import is_packed, lightest, piece_rows, product_flops, sends_factors


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


def round_robin(variables: Iterable[Variable], servers: int, before: int = 1) -> tuple[ServerLoad, ...]:
    """The load of each server when variables are dealt out in turn, in the order of their creation, each of which is a
    message by itself.

    `before` scalars that every update pushes come first: TensorFlow's global step is one.

    Source: `tf.train.replica_device_setter` of TensorFlow 1, whose default strategy is round robin.
    """
    step = Variable((), 8, 8, trainable=False)
    held: list[list[Variable]] = [[] for _ in range(servers)]
    for place, variable in enumerate([*[step] * before, *variables]):
        held[place % servers].append(variable)
    return tuple(_load(each, packs=False, packs_pushes=False) for each in held)


def balanced(
    variables: Iterable[Variable], servers: int, packs: bool = True, packs_pushes: bool = True
) -> tuple[ServerLoad, ...]:
    """The load of each server as facesim places variables: large ones split, each piece where least is held. `packs`:
    small ones of a server share messages; with `packs_pushes`, their gradients, too.

    Source: `facesim.training.tensorflow.partition` and `packing`, by the same arithmetic.
    """
    held: list[list[Variable]] = [[] for _ in range(servers)]
    held_bytes = [0] * servers
    for variable in variables:
        shape = variable.shape
        rows = piece_rows(shape, variable.held_bytes // max(1, math.prod(shape)), servers) if shape else [1]
        for count in rows:
            share = count / sum(rows)
            server = lightest(held_bytes, round(variable.held_bytes * share)) if servers > 1 else 0
            sent_bytes, pushed_bytes = (share * whole for whole in (variable.sent_bytes, variable.gradient_bytes))
            piece_shape = (count, *shape[1:]) if shape else ()
            held[server].append(variable._replace(shape=piece_shape, sent_bytes=sent_bytes, pushed_bytes=pushed_bytes))
    return tuple(_load(each, packs, packs and packs_pushes) for each in held)


def _load(held: Sequence[Variable], packs: bool, packs_pushes: bool) -> ServerLoad:
    """What an update asks of a server that holds these."""
    pulls, pushes = _Messages(packs), _Messages(packs_pushes)
    flops = 0.0
    for variable in held:
        numbers, pushed_bytes = max(1, math.prod(variable.shape)), variable.gradient_bytes
        if variable.trainable:
            pulls.add(variable.sent_bytes, numbers)
        item_bytes = pushed_bytes / numbers
        if variable.factor_rows and sends_factors(variable.shape, item_bytes, variable.factor_rows):
            for size in variable.shape:
                pushes.add_alone(item_bytes * variable.factor_rows * size)
            flops += product_flops(variable.shape, variable.factor_rows)
        else:
            pushes.add(pushed_bytes, numbers)
    return ServerLoad(pulls.count, pushes.count, pulls.sent_bytes, pushes.sent_bytes, flops)


class _Messages:
    """How many messages tensors are, and how many bytes. Small ones of one precision may be one together."""

    def __init__(self, packs: bool):
        self._packs, self._alone, self._together = packs, 0, set[float]()
        self.sent_bytes = 0.0

    def add(self, size_bytes: float, numbers: int) -> None:
        if self._packs and is_packed(size_bytes):
            self._together.add(round(size_bytes / numbers, 3))
            self.sent_bytes += size_bytes
        else:
            self.add_alone(size_bytes)

    def add_alone(self, size_bytes: float) -> None:
        self._alone += 1
        self.sent_bytes += size_bytes

    @property
    def count(self) -> int:
        return self._alone + len(self._together)


def total(loads: Sequence[ServerLoad]) -> ServerLoad:
    """What one update asks of all servers together."""
    return ServerLoad(*(sum(part) for part in zip(*loads)))

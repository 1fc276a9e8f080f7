"""Which parameter server holds what, and what it is sent: the arithmetic of `partition`, `packing` and `products`,
without TensorFlow, so that a forecast can do it.

Large variables are split, and each piece goes where least is held. Small ones of a server cross the network together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: A variable is split into pieces of no less than this: each one is a message of its own. What takes less shares one
#: with others: to join and cut it costs less than a message.
LEAST_PIECE_BYTES = 128 * 1024

#: Floating-point operations of a matrix product in the time in which a server's core receives a byte through gRPC: some
#: 60 GFLOP/s with AVX2 by some 1 GB/s. Cores with wider instructions would gain from more of them, too.
_FLOPS_A_BYTE = 64


def piece_rows(shape: Sequence[int], item_bytes: int, servers: int) -> list[int]:
    """Of how many rows (along the first axis) each piece of a variable of `shape` consists, the largest first."""
    size_bytes = math.prod(shape) * item_bytes
    count = max(1, min(servers, size_bytes // LEAST_PIECE_BYTES, shape[0]))
    rows, more = divmod(shape[0], count)
    return [rows + (piece < more) for piece in range(count)]


def lightest(held_bytes: list[int], size_bytes: int) -> int:
    """The server that holds least of `held_bytes`; from now on it holds `size_bytes` more."""
    server = held_bytes.index(min(held_bytes))
    held_bytes[server] += size_bytes
    return server


def is_packed(size_bytes: float) -> bool:
    """Whether a tensor is sent together with others."""
    return size_bytes < LEAST_PIECE_BYTES


def product_flops(shape: Sequence[int], rows: float) -> float:
    """Floating-point operations of a gradient of `shape` (n, m) from its factors, (`rows`, n) and (`rows`, m)."""
    return 2 * rows * math.prod(shape)


def sends_factors(shape: Sequence[int], item_bytes: float, rows: float) -> bool:
    """Whether a worker sends the factors of a gradient, (`rows`, n) and (`rows`, m), in place of it, `shape` (n, m).

    Then the server, which serves all workers, multiplies in place of receiving so much. So it does where its processor
    has less to do for it; the network and the worker's processor always have.
    """
    saved_bytes = item_bytes * (math.prod(shape) - rows * sum(shape))
    return product_flops(shape, rows) < _FLOPS_A_BYTE * saved_bytes

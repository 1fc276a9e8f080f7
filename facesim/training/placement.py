"""Which parameter server holds what: the arithmetic of `partition`, without TensorFlow, so that a forecast can do it.

Large variables are split, and each piece goes where least is held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: A variable is split into pieces of no less than this: each one is a message of its own.
LEAST_PIECE_BYTES = 128 * 1024


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

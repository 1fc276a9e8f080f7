"""Sums of arrays over several processes, in a ring of TCP connections: each sends to the next and hears from the one
before, and every link carries the same (Patarasuk and Yuan, 2009, "Bandwidth optimal all-reduce algorithms").

TensorFlow's own ring, for CPUs, wraps every piece in a protocol buffer inside a remote call, and copies it some eight
times on its way; here the kernel copies it out of one process and into the other.
"""

from __future__ import annotations

import hmac
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

#: What is received at a time: small enough to be in the cache still when it is added up.
_PIECE_BYTES = 256 * 1024
_ALIGNMENT_BYTES = 64
TOKEN_BYTES = 16
#: A process that connects has this long to send the token.
_SAYS_TOKEN_WITHIN_S = 1.0


class Listener:
    """Where this process can be reached by the one before it in the ring, at `host`, on any free port or on `port`."""

    def __init__(self, host: str, port: int = 0):
        self.socket = socket.create_server((host, port))
        self.port: int = self.socket.getsockname()[1]


class Ring:
    """A place in a ring of processes, all of which call `sum` with arrays of the same sizes and dtypes, in one order.

    `addresses` are those of all listeners, by rank; `token`, the same everywhere and known to nobody else, tells who
    belongs to the ring. A process that does not come within `wait_s` is gone.

    Raises:
        OSError: from here or from `sum`: a process of the ring is gone.
    """

    def __init__(
        self, rank: int, addresses: list[tuple[str, int]], listener: Listener, token: bytes, wait_s: float = 60.0
    ):
        self._rank, self._count = rank, len(addresses)
        self._next = socket.create_connection(addresses[(rank + 1) % self._count], wait_s)
        self._next.sendall(token)
        self._before = _accepted(listener, token, wait_s)
        for connection in (self._next, self._before):
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="ring")
        self._scratch = np.empty(_PIECE_BYTES, np.uint8)
        self._sums: dict[int, np.ndarray] = {}

    def sum(self, array: np.ndarray, place: int = 0) -> np.ndarray:
        """The sum of all processes' (n,) `array`s, float32 or bfloat16, the same to the bit in each of them.

        They are added in float32, and rounded as they are sent on. The result is overwritten by the next sum with the
        same `place`.
        """
        sums = self._sums.get(place)
        if sums is None or len(sums) != len(array) or sums.dtype != array.dtype:
            sums = self._sums[place] = _aligned(len(array), array.dtype)
        bounds = [len(array) * part // self._count for part in range(self._count + 1)]
        parts = [slice(*pair) for pair in zip(bounds, bounds[1:])]
        # First each part goes round, and grows by one process's share at every station ...
        partial = array
        for step in range(self._count - 1):
            leaving, coming = (parts[(self._rank - step - back) % self._count] for back in (0, 1))
            sending = self._sender.submit(self._next.sendall, _bytes(partial[leaving]))
            self._receive_onto(array[coming], sums[coming])
            sending.result()
            partial = sums
        # ... then, complete, once more.
        for step in range(self._count - 1):
            leaving, coming = (parts[(self._rank + 1 - step - back) % self._count] for back in (0, 1))
            sending = self._sender.submit(self._next.sendall, _bytes(sums[leaving]))
            self._receive(_bytes(sums[coming]))
            sending.result()
        return sums

    def close(self) -> None:
        """Leave: for the others, this process is gone."""
        for connection in (self._next, self._before):
            connection.close()

    def _receive_onto(self, mine: np.ndarray, sums: np.ndarray) -> None:
        scratch = self._scratch.view(mine.dtype)
        for begin in range(0, len(mine), len(scratch)):
            piece = mine[begin : begin + len(scratch)]
            theirs = scratch[: len(piece)]
            self._receive(_bytes(theirs))
            np.add(piece, theirs, out=sums[begin : begin + len(piece)], dtype=np.float32, casting="unsafe")

    def _receive(self, room: memoryview) -> None:
        while room:
            # All of it: what a slow link brings, packet by packet, is put together without this thread.
            count = self._before.recv_into(room, 0, socket.MSG_WAITALL)
            if not count:
                raise ConnectionError("the process before this one in the ring is gone")
            room = room[count:]


def _accepted(listener: Listener, token: bytes, wait_s: float) -> socket.socket:
    """The connection of the process before this one; one that does not know the token is turned away."""
    until = time.monotonic() + wait_s
    with listener.socket:
        while True:
            listener.socket.settimeout(max(0.01, until - time.monotonic()))
            connection, _ = listener.socket.accept()
            if hmac.compare_digest(_token_of(connection), token):
                return connection
            connection.close()


def _token_of(connection: socket.socket) -> bytes:
    connection.settimeout(_SAYS_TOKEN_WITHIN_S)
    token = b""
    try:
        while len(token) < TOKEN_BYTES and (more := connection.recv(TOKEN_BYTES - len(token))):
            token += more
    except OSError:
        return b""
    return token


def _bytes(array: np.ndarray) -> memoryview:
    return memoryview(array.view(np.uint8))


def _aligned(size: int, dtype: np.dtype) -> np.ndarray:
    """Room for `dtype` (size,) at an address that TensorFlow takes as it is, without a copy."""
    room = np.empty(size * dtype.itemsize + _ALIGNMENT_BYTES, np.uint8)
    begin = -room.ctypes.data % _ALIGNMENT_BYTES
    return room[begin : begin + size * dtype.itemsize].view(dtype)

"""What the ring of `allreduce` shows: seconds of sums of several sizes by two, three and more processes."""

from __future__ import annotations

import secrets
import socket
import statistics
import time
from pathlib import Path

import numpy as np

from cluster.topology import LOOPBACK
from facesim.profiling.stages import leave
from facesim.runs.directory import Run
from facesim.training.ring import TOKEN_BYTES, Listener, Ring

#: Numbers in the arrays that are summed: 64 kB to 16 MB.
SIZES = (16 * 1024, 512 * 1024, 4 * 1024 * 1024)
PEERS = (2, 3, 4)
_FOR_S = 0.7
_WITHIN_S = 60.0


def measure(run_directory: str, rank: int, ports: list[int], token: str) -> None:
    """Number `rank` of the processes; with each number of `PEERS`, so many of them form a ring, the rest wait."""
    rows = []
    for number, peers in enumerate(PEERS):
        if rank >= peers:
            continue
        addresses = [(LOOPBACK, port) for port in ports[number * max(PEERS) :][:peers]]
        listener = Listener(*addresses[rank])
        _wait_for(addresses[(rank + 1) % peers])
        ring = Ring(rank, addresses, listener, bytes.fromhex(token))
        for size in SIZES:
            array = np.full(size, 1.0, np.float32)
            rows.append({"peers": peers, "bytes": array.nbytes, "seconds": _seconds(ring, array)})
        ring.close()
    if rank == 0:
        leave(Run(Path(run_directory)), rows)


def _seconds(ring: Ring, array: np.ndarray) -> float:
    """The median of sums for about `_FOR_S` seconds; how many these are is agreed on, because all must take part."""
    begin = time.perf_counter()
    for _ in range(2):
        ring.sum(array)
    mine_s = (time.perf_counter() - begin) / 2
    together = ring.sum(np.array([mine_s, 1.0], np.float32), place=1)
    times = []
    for _ in range(int(np.clip(_FOR_S * together[1] / together[0], 5, 200))):
        begin = time.perf_counter()
        ring.sum(array)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _wait_for(address: tuple[str, int]) -> None:
    """Wait until another process listens. It turns this connection away, which says no token."""
    until = time.monotonic() + _WITHIN_S
    while True:
        try:
            socket.create_connection(address).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def new_token() -> str:
    """What the processes know each other by."""
    return secrets.token_hex(TOKEN_BYTES)

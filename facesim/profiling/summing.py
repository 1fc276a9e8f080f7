"""What sums over processes show, the ring's and those of other frameworks: seconds, by size and number of processes."""

from __future__ import annotations

import json
import os
import secrets
import socket
import statistics
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from cluster.topology import LOOPBACK, free_ports
from facesim.profiling.stages import leave
from facesim.runs.directory import Run
from facesim.training.ring import TOKEN_BYTES, Listener, Ring

#: Numbers in the arrays that are summed: 64 kB to 16 MB.
SIZES = (16 * 1024, 512 * 1024, 4 * 1024 * 1024)
PEERS = (2, 3, 4)
_FOR_S = 0.7
_WITHIN_S = 60.0


class Group(Protocol):
    """Some processes, this one among them, which sum together."""

    def take(self, array: np.ndarray) -> Any:
        """An array, float32 (n,), as the group has it."""

    def sum(self, taken: Any) -> Any:
        """The sum of all that the processes took, when it is there: n numbers."""


def measure(run: Run, rank: int, groups: Iterable[tuple[int, Group]]) -> None:
    """Measure the groups, each with its number of processes, that process `rank` is in; the first one leaves it."""
    rows = []
    for peers, group in groups:
        for size in SIZES:
            array = np.full(size, 1.0, np.float32)
            rows.append({"peers": peers, "bytes": array.nbytes, "seconds": _seconds(group, array)})
    if rank == 0:
        leave(run, rows)


def rank() -> int:
    """This task's number among all workers, of which the chief is the first."""
    task = json.loads(os.environ["TF_CONFIG"])["task"]
    return 0 if task["type"] == "chief" else task["index"] + 1


class _OfRing:
    def __init__(self, ring: Ring):
        self.sum = ring.sum

    def take(self, array: np.ndarray) -> np.ndarray:
        return array


def new_ring() -> tuple[list[int], str]:
    """Where processes can listen for those of their rings, and what they know each other by."""
    return free_ports(len(PEERS) * max(PEERS)), secrets.token_hex(TOKEN_BYTES)


def rings(rank: int, ports: list[int], token: str) -> Iterator[tuple[int, Group]]:
    """The rings that process `rank` is in, each with its number of processes, from `new_ring`."""
    for number, peers in enumerate(PEERS):
        if rank >= peers:
            continue
        addresses = [(LOOPBACK, port) for port in ports[number * max(PEERS) :][:peers]]
        listener = Listener(*addresses[rank])
        _wait_for(addresses[(rank + 1) % peers])
        ring = Ring(rank, addresses, listener, bytes.fromhex(token))
        yield peers, _OfRing(ring)
        ring.close()


def _seconds(group: Group, array: np.ndarray) -> float:
    """The median of sums for about `_FOR_S` seconds; how many these are is agreed on, because all must take part."""
    taken = group.take(array)
    group.sum(taken)  # the first may connect, or compile
    begin = time.perf_counter()
    for _ in range(2):
        group.sum(taken)
    mine_s = (time.perf_counter() - begin) / 2
    all_s, count = (float(each) for each in group.sum(group.take(np.array([mine_s, 1.0], np.float32))))
    times = []
    for _ in range(int(np.clip(_FOR_S * count / all_s, 5, 200))):
        begin = time.perf_counter()
        group.sum(taken)
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

"""A ring of processes, each played by a thread with real connections."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from facesim.training.ring import TOKEN_BYTES, Listener, Ring

TOKEN = b"t" * TOKEN_BYTES


def around(count: int, work: Callable[[int, Ring], Any]) -> list[Any]:
    """What `work` returns in each process of a ring."""
    listeners = [Listener("127.0.0.1") for _ in range(count)]
    addresses = [("127.0.0.1", listener.port) for listener in listeners]

    def process(rank: int) -> Any:
        return work(rank, Ring(rank, addresses, listeners[rank], TOKEN))

    with ThreadPoolExecutor(count) as processes:
        return list(processes.map(process, range(count)))

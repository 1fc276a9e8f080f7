"""What takes samples. `COLLECTORS` names them; adding one is one module with a `Collector` and one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Protocol

#: Values of one task, or of the host: role, task index, and value by metric name.
Reading = tuple[str, int, dict[str, float]]


class Collector(Protocol):
    """Measures one resource. Made with every task's pid by name, such as `{"worker-1": 4711}`."""

    #: What the samples name as their source; also the name of their file.
    source: str

    def collect(self) -> Iterator[Reading]:
        """One round of readings, in the schema's units. May raise anything: the monitor notes it and goes on."""


COLLECTORS: dict[str, str] = {
    "psutil": "facesim.metrics.collectors.host:PsutilCollector",
    "sockets": "facesim.metrics.collectors.sockets:SocketCollector",
}

#: INET_DIAG is Linux'. Elsewhere the host's interface counters, which psutil reads, are all there is.
_LINUX_ONLY = {"sockets"}


def make_collectors(pids: dict[str, int], names: Iterable[str] = COLLECTORS) -> list[Collector]:
    """Those of the collectors called `names` that work on this system."""
    collectors: list[Collector] = []
    for name in names:
        place = COLLECTORS[name]
        if name not in _LINUX_ONLY or sys.platform == "linux":
            module, kind = place.split(":")
            collectors.append(getattr(import_module(module), kind)(pids))
    return collectors


def role_and_index(task: str) -> tuple[str, int]:
    """`worker-1` -> ("worker", 1)."""
    role, index = task.rsplit("-", 1)
    return role, int(index)

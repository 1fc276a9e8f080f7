"""What takes samples. `COLLECTORS` names it; adding one is one module with a `Collector` and one line, and another
package adds one by an entry point of `facesim.collectors`.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from facesim.util.registry import Registry, loaded

#: Values of one task, or of the host: role, task index, and value by metric name.
Reading = tuple[str, int, dict[str, float]]


class Collector(Protocol):
    """Measures one resource. Made with every task's pid by name, such as `{"worker-1": 4711}`."""

    #: What the samples name as their source, which is its name in the registry; also the name of their file.
    source: str

    def collect(self) -> Iterator[Reading]:
        """One round of readings, in the schema's units. May raise anything: the monitor notes it and goes on."""


class NotHere(Exception):
    """Raised where a collector is made: what it measures is not there. That is no error."""


@dataclass(frozen=True)
class Measuring:
    """What a collector measures, and what makes it.

    rank: where several sources have the same metric, the one of the lowest rank is used.
    make: what makes the `Collector` that a host's monitor asks, or where that is (`module:name`).
    platforms: systems, as `sys.platform` names them, on which it works; empty is all.
    """

    summary: str
    rank: int
    make: str | Callable[[dict[str, int]], Collector]
    platforms: tuple[str, ...] = ()


COLLECTORS: Registry[Measuring] = Registry(
    "collector",
    "facesim.collectors",
    {
        "psutil": Measuring("processes and host, by psutil", 0, "facesim.metrics.collectors.host:PsutilCollector"),
        "nvml": Measuring("NVIDIA's GPUs, by nvidia-ml-py", 5, "facesim.metrics.collectors.nvml:NvmlCollector"),
        # Elsewhere than on Linux, which has INET_DIAG, the host's interface counters, which psutil reads, are all.
        "sockets": Measuring(
            "bytes of each task's connections, from the kernel", 10,
            "facesim.metrics.collectors.sockets:SocketCollector", ("linux",),
        ),
    },
)  # fmt: skip

#: The ranks of sources of samples that no monitor asks: the backends that have them write them.
_OF_BACKENDS = {"docker": 20, "cloudwatch": 30}


def ranks() -> dict[str, int]:
    """Every source of samples by its name, numbered by rank from 0: no two have the same number."""
    rank_of = {name: measuring.rank for name, measuring in COLLECTORS.available()} | _OF_BACKENDS
    return {name: number for number, name in enumerate(sorted(rank_of, key=rank_of.__getitem__))}


def make_collectors(pids: dict[str, int], names: Iterable[str] | None = None) -> list[Collector]:
    """Those of the collectors that work on this system: all of them, or those called `names`.

    One that cannot be made is left out, and its error printed: a host is sampled without it.
    """
    collectors: list[Collector] = []
    for name, measuring in COLLECTORS.available():
        here = not measuring.platforms or sys.platform in measuring.platforms
        if here and (names is None or name in names):
            try:
                collectors.append(loaded(measuring.make)(pids))
            except NotHere:
                continue
            except Exception:
                traceback.print_exc()
    return collectors


def role_and_index(task: str) -> tuple[str, int]:
    """`worker-1` -> ("worker", 1)."""
    role, index = task.rsplit("-", 1)
    return role, int(index)

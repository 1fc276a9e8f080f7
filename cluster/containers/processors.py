"""Which of the engine's processors each host runs on."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.containers.host import HostShape


def processors_of(hosts: Sequence[HostShape], count: int) -> list[tuple[int, ...]]:
    """For each host the processors, of `count`, that it runs on: as many as it has, those with the least to do.

    With nothing but a share of all processors, the threads of a host of one would run on several at once, wake each
    other up across them, and then stand still until the period of the share ends.
    """
    loads = [0.0] * count
    chosen: list[tuple[int, ...]] = [()] * len(hosts)
    # Hosts that need much of a processor come first; the others fill up what is left.
    for place in sorted(range(len(hosts)), key=lambda place: -_load(hosts[place], count)):
        width = _width(hosts[place], count)
        chosen[place] = tuple(sorted(sorted(range(count), key=loads.__getitem__)[:width]))
        for processor in chosen[place]:
            loads[processor] += _load(hosts[place], count)
    return chosen


def busiest(hosts: Sequence[HostShape], count: int) -> float:
    """How much the hosts ask of the processor of which they ask most: 1 is all of it."""
    loads = [0.0] * count
    for host, chosen in zip(hosts, processors_of(hosts, count)):
        for processor in chosen:
            loads[processor] += _load(host, count)
    return max(loads)


def _width(host: HostShape, count: int) -> int:
    return min(host.processors or count, count)


def _load(host: HostShape, count: int) -> float:
    return host.cpus / _width(host, count)

"""Which of the engine's processors each host runs on."""

from __future__ import annotations

from collections.abc import Sequence

from cluster.containers.host import HostShape


def processors_of(hosts: Sequence[HostShape], count: int) -> list[tuple[int, ...]]:
    """For each host the processors, of `count`, that it runs on: as many as it has, those with the least to do.

    With nothing but a share of all processors, the threads of a host of one would run on several at once, wake each
    other up across them, and then stand still until the period of the share ends.
    """
    return _dealt_out(hosts, count)[0]


def busiest(hosts: Sequence[HostShape], count: int) -> float:
    """How much the hosts ask of the processor of which they ask most: 1 is all of it."""
    return max(_dealt_out(hosts, count)[1])


def _dealt_out(hosts: Sequence[HostShape], count: int) -> tuple[list[tuple[int, ...]], list[float]]:
    """The processors of each host, and how much is asked of each processor."""
    widths = [min(host.processors or count, count) for host in hosts]
    asked = [host.cpus / width for host, width in zip(hosts, widths)]
    chosen: list[tuple[int, ...]] = [()] * len(hosts)
    loads = [0.0] * count
    # Hosts that need much of a processor come first; the others fill up what is left.
    for place in sorted(range(len(hosts)), key=lambda place: -asked[place]):
        chosen[place] = tuple(sorted(sorted(range(count), key=loads.__getitem__)[: widths[place]]))
        for processor in chosen[place]:
            loads[processor] += asked[place]
    return chosen, loads

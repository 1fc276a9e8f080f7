"""Limits what this network namespace sends: `python -m cluster.containers.bandwidth INTERFACE BITS_PER_SECOND`.

A token bucket filter (tc-tbf(8)) shapes what leaves an interface only, so a host's download is limited by what the
others may send: every host of a cluster has to be shaped. It needs CAP_NET_ADMIN, which the host that is shaped must
not have: this runs in a container beside it that shares its network namespace.
"""

from __future__ import annotations

import sys
from typing import Any

#: How long a packet may wait in the queue before one is dropped.
_LONGEST_WAIT = "100ms"


def limit_egress(interface: str, bits_per_s: float) -> None:
    """Replace whatever discipline `interface` has."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        index = route.link_lookup(ifname=interface)[0]
        route.tc(
            "replace", "tbf", index, rate=f"{round(bits_per_s)}bit", burst=_burst(bits_per_s), latency=_LONGEST_WAIT
        )


def _burst(bits_per_s: float) -> int:
    """The bucket in bytes: 5 ms of the rate, for the kernel fills it by its timer, and at least one large packet."""
    return max(int(bits_per_s / 8 * 0.005), 128 * 1024)


def main(arguments: list[Any]) -> None:
    interface, bits_per_s = arguments
    limit_egress(interface, float(bits_per_s))


if __name__ == "__main__":
    main(sys.argv[1:])

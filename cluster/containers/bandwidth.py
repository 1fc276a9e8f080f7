"""Limits what an interface of this network namespace sends.

`python -m cluster.containers.bandwidth INTERFACE BITS_PER_SECOND`

A token bucket filter (tc-tbf(8)) shapes what leaves an interface only. What a host receives is what the other end of
its link sends, outside of its namespace; so that end's number is printed, and INTERFACE may be such a number. Without
the second limit a parameter server would receive from all workers at once as much as all of them may send.

It needs CAP_NET_ADMIN, which the host that is shaped must not have: this runs in containers beside it, one that shares
its network namespace and one in the engine's.
"""

from __future__ import annotations

import sys
from typing import Any

#: How long a packet may wait in the queue before one is dropped.
_LONGEST_WAIT = "1s"

#: How much of the bucket a sender may hand over at once, before the headers of its packets are counted.
_OF_BUCKET = 0.9
#: Nor more than this, as without a limit (linux/netdevice.h).
_GSO_BYTES = 65_536


def limit_egress(interface: str, bits_per_s: float) -> int | None:
    """Replace whatever discipline `interface`, a name or a number, has. The number of its link's other end, if any."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        index = int(interface) if interface.isdigit() else route.link_lookup(ifname=interface)[0]
        burst = _burst(bits_per_s)
        route.link("set", index=index, gso_max_size=min(int(_OF_BUCKET * burst), _GSO_BYTES))
        route.tc("replace", "tbf", index, rate=f"{round(bits_per_s)}bit", burst=burst, latency=_LONGEST_WAIT)
        (link,) = route.get_links(index)
        return link.get_attr("IFLA_LINK")


def _burst(bits_per_s: float) -> int:
    """The bucket in bytes: 1 ms of the rate, and at least some packets, because the kernel fills it by its timers.

    No more, because after each pause so much comes for nothing, which no instance's link gives. Nor may the kernel hand
    over more at once (`gso_max_size`), as it does to a network card: it would be cut up into packets here, and each of
    these costs both ends time, some 8 us of a processor, that the card of an instance takes off them.
    """
    return max(int(bits_per_s / 8 * 0.001), 16 * 1024)


def main(arguments: list[Any]) -> None:
    interface, bits_per_s = arguments
    print(limit_egress(interface, float(bits_per_s)) or "")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Which tasks a cluster has and where they listen: roles and addresses -> TF_CONFIG."""

from __future__ import annotations

import json
import random
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"

#: Ports below the range from which systems hand out client ports (from 32768 on Linux, 49152 on macOS), so that no
#: connection that is opened between choosing a port and listening on it can take it.
_PORTS = range(20_000, 32_000)

#: The first port of a host that has an address of its own; each further task of the host listens on the next.
_FIRST_PORT = 2222


@dataclass(frozen=True)
class Topology:
    """Addresses (`host:port`) of every task by role; the position in a role's tuple is the task's index."""

    addresses: dict[str, tuple[str, ...]]

    def tasks(self) -> list[tuple[str, int]]:
        """(role, index) of every task."""
        return [(role, index) for role, hosts in self.addresses.items() for index in range(len(hosts))]

    def tasks_on(self, host: str) -> list[tuple[str, int]]:
        """(role, index) of the tasks of one host."""
        return [(role, index) for role, index in self.tasks() if self.addresses[role][index].rsplit(":", 1)[0] == host]

    def port(self, role: str, index: int) -> int:
        """Where a task listens."""
        return int(self.addresses[role][index].rsplit(":", 1)[1])

    def tf_config(self, role: str, index: int) -> str:
        """The value of TF_CONFIG for one task, as `tf.distribute.cluster_resolver.TFConfigClusterResolver` reads it."""
        cluster = {name: list(hosts) for name, hosts in self.addresses.items()}
        return json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})


def local_topology(counts: dict[str, int]) -> Topology:
    """A topology on this machine's loopback address: `{"chief": 1, "worker": 2, "ps": 1}` with a free port a task.

    Raises:
        OSError: this machine has not enough free ports.
    """
    ports = iter(free_ports(sum(counts.values())))
    return Topology(
        {role: tuple(f"{LOOPBACK}:{next(ports)}" for _ in range(count)) for role, count in counts.items() if count}
    )


def hosted_topology(counts: dict[str, int], hosts: Sequence[str], ps_hosts: Sequence[str] = ()) -> Topology:
    """A topology on hosts that have addresses of their own: `{"ps": 1, "worker": 2, "chief": 1}` on algo-1, algo-2.

    Parameter servers are on `ps_hosts`; without them on the last hosts where there are enough for each to have one of
    its own, else beside the workers, from the first host on. The first of the other hosts has the chief. Workers take
    turns on the others, beginning with the chief's host where a chief only coordinates, because there are parameter
    servers, and after it where the chief is itself one of the workers.
    """
    servers, workers = counts.get("ps", 0), counts.get("worker", 0)
    others = [host for host in hosts if host not in ps_hosts]
    if servers and not ps_hosts:
        if len(others) >= workers + servers:
            others, ps_hosts = others[:-servers], others[-servers:]
        else:
            ps_hosts = others
    after_chief = 0 if servers else 1
    places = {
        "chief": others[:1],
        "worker": others[after_chief:] + others[:after_chief],
        "ps": list(ps_hosts),
    }
    used: Counter[str] = Counter()

    def address(host: str) -> str:
        used[host] += 1
        return f"{host}:{_FIRST_PORT + used[host] - 1}"

    return Topology(
        {
            role: tuple(address(places[role][index % len(places[role])]) for index in range(count))
            for role, count in counts.items()
            if count
        }
    )


def why_unconnected(addresses: Sequence[str], patience_s: float = 2.0) -> str:
    """What keeps a task from connecting to those at `addresses`, as far as asking each port can tell."""
    reasons = []
    for address in addresses:
        host, port = address.rsplit(":", 1)
        try:
            socket.create_connection((host, int(port)), patience_s).close()
        except OSError as error:
            reasons.append(f"{address} does not answer ({error.strerror or error})")
    if reasons:
        return "; ".join(reasons)
    return (
        f"{', '.join(addresses)} can be reached, but no task of this training answers there; is it another program's "
        "port, or is there a proxy or a firewall in between?"
    )


def _in_random_order(ports: Sequence[int]) -> Iterator[int]:
    """Some are asked for, of thousands: the others are not shuffled."""
    left, chance = list(ports), random.SystemRandom()
    while left:
        place = chance.randrange(len(left))
        left[place], left[-1] = left[-1], left[place]
        yield left.pop()


def free_ports(count: int) -> list[int]:
    """`count` distinct loopback ports on which nothing listens now.

    TensorFlow's server opens its port itself, so a port cannot be held for it. The caller that starts the tasks must be
    ready to find one taken; in a private network (`cluster.isolation`) that cannot happen.

    Raises:
        OSError: fewer than `count` are free.
    """
    free: list[int] = []
    for port in _in_random_order(_PORTS):
        if len(free) == count:
            return free
        # TensorFlow listens on every address, so the port must be free on every address.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("", port))
            except OSError:
                continue
        free.append(port)
    raise OSError(f"only {len(free)} free ports between {_PORTS.start} and {_PORTS.stop}, {count} needed")

"""The workers of a strategy that has no parameter servers: all alike, the chief the first of them."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psutil

from cluster.task import connecting
from facesim.metrics.host_identity import has_own_network
from facesim.util.errors import FacesimError
from facesim.util.words import count_text

#: Tasks of one machine are started together; hosts may come minutes after one another.
_WITHIN_S, _HOSTED_WITHIN_S = 120.0, 600.0


@dataclass(frozen=True)
class Peers:
    """Where the workers are: `host:port` of each, by rank. One worker alone has no address."""

    addresses: tuple[str, ...]

    @classmethod
    def of_this_cluster(cls) -> Peers:
        """As this process' environment has them."""
        cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
        return cls(tuple(address for role in ("chief", "worker") for address in cluster.get(role, ())))

    @property
    def count(self) -> int:
        return max(1, len(self.addresses))

    def connecting(self) -> AbstractContextManager[None]:
        """For as long as this task connects to the others."""
        return connecting_to_all(self.addresses)

    def device(self, rank: int, devices: int) -> int:
        """The number, on its host, of the accelerator that worker `rank` computes on, where the host has `devices`; 0
        where it has none.

        Raises:
            FacesimError: there are more workers on the host than devices.
        """
        number = number_on_host(self.addresses, rank)
        if devices and number >= devices:
            raise FacesimError(
                f"this host has {count_text(devices, 'GPU')}, and {number + 1} or more workers, which "
                "need one each: give fewer --workers, or --workers-per-host, or instances with more GPUs; with "
                "CUDA_VISIBLE_DEVICES=-1 they compute on processors"
            )
        return number if devices else 0

    def interface(self, rank: int) -> str | None:
        """The network interface that has worker `rank`'s address, if it is this machine's."""
        address = socket.gethostbyname(self.addresses[rank].rsplit(":", 1)[0])
        interfaces = psutil.net_if_addrs().items()
        return next((name for name, addresses in interfaces if address in {each.address for each in addresses}), None)


def number_on_host(addresses: Sequence[str], rank: int) -> int:
    """How many of the tasks at `addresses`, `host:port`, are before number `rank` on its host; one alone has none."""
    hosts = [address.rsplit(":", 1)[0] for address in addresses]
    return hosts[:rank].count(hosts[rank]) if hosts else 0


def connecting_to_all(addresses: Iterable[str]) -> AbstractContextManager[None]:
    """For as long as this task connects to those at `addresses`."""
    return connecting(addresses, _HOSTED_WITHIN_S if has_own_network() else _WITHIN_S)

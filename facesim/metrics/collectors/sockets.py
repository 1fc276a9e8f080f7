"""Bytes that each task sent and received over its TCP connections, exactly, from Linux' socket diagnostics.

The kernel keeps for every connection what was acknowledged and what arrived (tcp_info, sock_diag(7)); psutil knows
network bytes of whole interfaces only. In the cluster's private network all connections are the cluster's own.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterator

from pyroute2 import DiagSocket

from facesim.metrics.collectors import Reading, role_and_index

_ESTABLISHED = 1 << 1  # tcp_states.h
_WITH_TCP_INFO = 1 << 1  # inet_diag.h: bit INET_DIAG_INFO - 1


class SocketCollector:
    """Totals by task over its connections, those that have closed included as far as they were seen."""

    source = "sockets"

    def __init__(self, pids: dict[str, int]):
        self._pids = pids
        self._owner: dict[int, str | None] = {}  # inode -> task; None: nobody's of ours
        self._bytes: dict[int, tuple[int, int]] = {}  # inode -> sent, received
        self._diagnostics = DiagSocket()
        self._diagnostics.bind()

    def collect(self) -> Iterator[Reading]:
        seen = dict(self._connections())
        if seen.keys() - self._owner.keys():
            self._find_owners()
        for inode, counts in seen.items():
            if self._owner.setdefault(inode, None):
                self._bytes[inode] = counts
        totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for inode, (sent, received) in self._bytes.items():
            total = totals[self._owner[inode]]  # type: ignore[index]
            total[0] += sent
            total[1] += received
        for task, (sent, received) in totals.items():
            yield *role_and_index(task), {"net_sent_bytes": sent, "net_received_bytes": received}

    def _connections(self) -> Iterator[tuple[int, tuple[int, int]]]:
        for family in (socket.AF_INET, socket.AF_INET6):
            for connection in self._diagnostics.get_sock_stats(
                family=family, states=_ESTABLISHED, extensions=_WITH_TCP_INFO
            ):
                info = connection.get_attr("INET_DIAG_INFO")
                yield connection["idiag_inode"], (info["tcpi_bytes_acked"], info["tcpi_bytes_received"])

    def _find_owners(self) -> None:
        for task, pid in self._pids.items():
            try:
                for descriptor in os.scandir(f"/proc/{pid}/fd"):
                    try:
                        target = os.readlink(descriptor.path)
                    except FileNotFoundError:
                        continue  # closed meanwhile
                    if target.startswith("socket:["):
                        self._owner[int(target[8:-1])] = task
            except FileNotFoundError:
                continue  # the task has ended

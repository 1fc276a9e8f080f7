"""Bytes that each task sent and received over its TCP connections, exactly, from Linux' socket diagnostics.

The kernel keeps for every connection what was acknowledged and what arrived (tcp_info, sock_diag(7)); psutil knows
network bytes of whole interfaces only. In the cluster's private network all connections are the cluster's own.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from pyroute2 import DiagSocket

from facesim.metrics.collectors import Reading, role_and_index

_ESTABLISHED, _TIME_WAIT, _LISTEN = 1 << 1, 1 << 6, 1 << 10  # tcp_states.h
_WITH_TCP_INFO = 1 << 1  # inet_diag.h: bit INET_DIAG_INFO - 1


#: Where a connection ends: its address and port.
End = tuple[str, int]


class Connection(NamedTuple):
    """One end of an established connection on this machine: its socket, (address, port) of both ends, its bytes."""

    inode: int
    local: End
    remote: End
    sent_bytes: int
    received_bytes: int


class Connections:
    """The established TCP connections of this network, as the kernel counts them."""

    def __init__(self) -> None:
        self._diagnostics = DiagSocket()
        self._diagnostics.bind()

    def __iter__(self) -> Iterator[Connection]:
        for message in self._in_state(_ESTABLISHED):
            info = message.get_attr("INET_DIAG_INFO")
            inode, sent_bytes, received_bytes = (
                message["idiag_inode"], info["tcpi_bytes_acked"], info["tcpi_bytes_received"],
            )  # fmt: skip
            yield Connection(inode, *_ends(message), sent_bytes, received_bytes)

    def closed(self) -> Iterator[tuple[End, End]]:
        """Both ends of each connection that was closed within the last minute, as far as the kernel keeps them."""
        return map(_ends, self._in_state(_TIME_WAIT))

    def listening(self) -> Iterator[tuple[int, int]]:
        """The socket and the port of everything that takes connections."""
        return ((message["idiag_inode"], message["idiag_sport"]) for message in self._in_state(_LISTEN))

    def _in_state(self, state: int) -> Iterator[Any]:
        for family in (socket.AF_INET, socket.AF_INET6):
            yield from self._diagnostics.get_sock_stats(family=family, states=state, extensions=_WITH_TCP_INFO)


def _ends(message: Any) -> tuple[End, End]:
    return (message["idiag_src"], message["idiag_sport"]), (message["idiag_dst"], message["idiag_dport"])


def sockets_of(pid: int) -> Iterator[int]:
    """The sockets that a process has open, by their inodes; none when it has ended. While one ends, its files are
    root's: others may not look at them any more.
    """
    try:
        for descriptor in os.scandir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(descriptor.path)
            except (FileNotFoundError, PermissionError):
                continue  # closed meanwhile
            if target.startswith("socket:["):
                yield int(target[8:-1])
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return


class SocketCollector:
    """Totals by task over its connections, those that have closed included as far as they were seen."""

    source = "sockets"

    def __init__(self, pids: dict[str, int]):
        self._pids = pids
        self._owner: dict[int, str | None] = {}  # inode -> task; None: nobody's of ours
        self._bytes: dict[int, tuple[int, int]] = {}  # inode -> sent, received
        self._connections = Connections()

    def collect(self) -> Iterator[Reading]:
        seen = {one.inode: (one.sent_bytes, one.received_bytes) for one in self._connections}
        if seen.keys() - self._owner.keys():
            self._owner |= {inode: task for task, pid in self._pids.items() for inode in sockets_of(pid)}
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

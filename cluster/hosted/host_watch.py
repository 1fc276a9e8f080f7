"""How the hosts of a job notice that the first one has ended, for TensorFlow's servers never return by themselves; and
how they hear of the steps that faults wait for, which the first one counts.

The first host's node listens (`HostWatch`); the leader task of every other host, `watch_first_host`, connects and waits
for the connection to end. The kernel ends it however that node ends. Being the leader, it is also asked to stop when
the work is to stop; it continues all the same, for parameters live on these hosts until the chief has saved them.

Over the connection the first host's node sends a line with each step that a fault waits for, on whatever host; the
other host answers with one byte when its own supervisor has done what it has to do there.

Where hosts are stopped one by one, as nodes of a cluster are drained, one that is stopped has the first host save
(`stop_first_host`): the work cannot go on without it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from typing import Any

from cluster.pulse import WAITING, phase
from cluster.task import reached

PORT = 2221

#: The role of the task that runs `watch_first_host`.
WATCHER = "watcher"

#: What another host says: that it has done what it has to do at a step, and that it is being stopped.
_DONE, _STOP = b".", b"!"

_RETRY_S = 0.2
_STOP_S = 2.0
_KEEPALIVE_S = 5  # between probes, of which three unanswered ones mean that the host is gone


class HostWatch:
    """Listens, so that the `hosts` of the job notice the end of this process, and tells the others of steps: it is what
    a supervisor calls `Others`. Until then nobody need accept: the kernel makes the connection.
    """

    def __init__(self, hosts: int):
        self._listener = socket.create_server(("", PORT), backlog=max(hosts, 16))
        self._hosts = hosts
        self._step = 0
        self._owing: dict[socket.socket, int] = {}  # by connection: answers that are still to come

    def files(self) -> list[Any]:
        return [self._listener, *self._owing]

    def read(self, ready: list[Any]) -> None:
        if self._listener in ready:
            connection, _ = self._listener.accept()
            self._owing[connection] = 0
            if self._step:
                self._send(connection)
        for connection in [one for one in self._owing if one in ready]:
            try:
                message = connection.recv(1024)
            except OSError:
                message = b""
            if _STOP in message:
                signal.raise_signal(signal.SIGTERM)  # as if this host were stopped itself
            if message:
                self._owing[connection] -= message.count(_DONE)
            else:  # its tasks are being started again: it will be back, and be notified again
                del self._owing[connection]
                connection.close()

    def tell(self, step: int) -> None:
        if step > self._step:
            self._step = step
            for connection in self._owing:
                self._send(connection)

    @property
    def done(self) -> bool:
        return len(self._owing) == self._hosts - 1 and not any(self._owing.values())

    def end(self) -> None:
        # Not only close: tasks that were forked from this process hold the sockets, too.
        for end in (self._listener, *self._owing):
            with contextlib.suppress(OSError):  # the other host is gone
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _send(self, connection: socket.socket) -> None:
        self._owing[connection] += 1
        with contextlib.suppress(OSError):  # it has ended: the next reading tells
            connection.sendall(b"%d\n" % self._step)


def stop_first_host(host: str, port: int = PORT) -> None:
    """Let the first host of a job stop; where it cannot be reached it has ended, or will find this host gone."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=_STOP_S) as connection:
        connection.sendall(_STOP)


@phase(WAITING)
def watch_first_host(host: str, patience_s: float, port: int = PORT, over: bool = False) -> None:
    """Return when the node of `host` has ended; end this process with 1 if it is not there within `patience_s`, unless
    its work is known to be `over`: then it has ended.

    Told to stop before it was there, it returns at once: it may have ended already, and there is nothing to outlive.
    """
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=10)
            break
        except OSError as error:  # its name is not known yet, or it does not listen yet
            if time.monotonic() > deadline and over:
                print(f"{host} had ended before this host was there")
                return
            if time.monotonic() > deadline:
                sys.exit(f"{host} cannot be reached within {patience_s:.0f} s: {error}")
            if stopping:
                return
            time.sleep(_RETRY_S)
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", _KEEPALIVE_S), ("TCP_KEEPCNT", 3)):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    with contextlib.suppress(OSError):  # reset, or the host is gone: it has ended, too
        for line in connection.makefile("rb"):
            reached(int(line))
            connection.sendall(_DONE)
    print(f"{host} has ended")

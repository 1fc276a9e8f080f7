"""How the hosts of a job notice that the first one has ended: TensorFlow's servers never return by themselves.

The first host's node listens; the leader task of every other host, `attend`, connects and waits for the connection to
end. The kernel ends it however that node ends. Being the leader, `attend` is also who is told when the work is to stop;
it goes on all the same, for parameters live on these hosts until the chief has saved them.
"""

from __future__ import annotations

import signal
import socket
import sys
import time

PORT = 2221

#: The role of the task that runs `attend`.
ATTEND = "attend"

_RETRY_S = 0.2
_KEEPALIVE_S = 5  # between probes, of which three unanswered ones mean that the host is gone


class Beacon:
    """Listens, so that others notice the end of this process. Nobody need accept: the kernel makes the connection."""

    def __init__(self, hosts: int):
        self._listener = socket.create_server(("", PORT), backlog=max(hosts, 16))

    def end(self) -> None:
        # Not only close: tasks that were forked from this process hold the socket, too.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def attend(host: str, patience_s: float, port: int = PORT) -> None:
    """Return when the node of `host` has ended; end this process with 1 if it is not there within `patience_s`.

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
    try:
        connection.recv(1)
    except OSError:
        pass  # reset, or the host is gone: it has ended, too
    print(f"{host} has ended")

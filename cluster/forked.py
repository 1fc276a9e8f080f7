"""Nodes that are forked from processes which have loaded what they need, so that runs one after another start without
loading. Linux forks; macOS' frameworks do not survive it, and there every node loads for itself.

A forked node is as one that was started by itself: it has its own session, folder, network and log. It ends with its
fork server (`cluster.fork_server`), which ends with the process that started it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from pathlib import Path
from threading import Lock
from typing import IO

from cluster.lifeline import start_child
from cluster.surroundings import home, python

#: What a fork server says when it can fork.
LOADED = b"loaded"

#: How long it may take to load, on a machine that is busy, and to fork.
_LOADING_S, _FORKING_S = 300.0, 60.0

#: What two nodes must have in common to be forked from one process: variables, modules, processors.
_Kind = tuple[frozenset[tuple[str, str]], tuple[str, ...], frozenset[int]]


class ForkedNode:
    """A node that a fork server started, with the part of `subprocess.Popen` that who follows a node needs."""

    def __init__(self, link: socket.socket, pid: int, stdin: IO[bytes], stdout: IO[bytes]):
        self._link = link
        self.pid, self.stdin, self.stdout = pid, stdin, stdout
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for the number of a signal, when it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not within `timeout` seconds.
        """
        if self.returncode is None:
            if not wait([self._link], timeout):
                raise subprocess.TimeoutExpired("cluster.node", timeout or 0.0)
            # Without a word the fork server is gone, with which the kernel has killed the node.
            self.returncode = int(_received(self._link) or -signal.SIGKILL)
            self._link.close()
        return self.returncode

    def terminate(self) -> None:
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._send_signal(signal.SIGKILL)

    def _send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class ForkServers:
    """The fork servers of this process, one for each kind of node, for as long as nodes of it may be started."""

    def __init__(self) -> None:
        self._servers: dict[_Kind, _ForkServer] = {}
        self._lock = Lock()

    @contextmanager
    def loaded(self, environment: Mapping[str, str], modules: Sequence[str]) -> Iterator[None]:
        """Within it nodes with this environment and these modules, started by this thread, are forked. It begins when
        the modules are loaded.
        """
        if sys.platform != "linux":
            yield
            return
        kind = _kind(environment, modules)
        with self._lock:
            server = self._servers.get(kind)
            if server is None or not server.alive:
                server = self._servers[kind] = _ForkServer(environment, modules)
            server.users += 1
        try:
            server.await_loaded()
            yield
        finally:
            with self._lock:
                server.users -= 1
                if not server.users:
                    server.close()
                    if self._servers.get(kind) is server:
                        del self._servers[kind]

    def fork(
        self, environment: Mapping[str, str], modules: Sequence[str], plan_file: Path, errors: int, hold: Sequence[int]
    ) -> ForkedNode | None:
        """A node that runs a plan, prints errors to the descriptor `errors` and has those of `hold` open; None where
        nothing is loaded for it, or what was has ended: then it has to load for itself.
        """
        server = self._servers.get(_kind(environment, modules)) if self._servers else None
        return server.fork(plan_file, errors, hold) if server else None


class _ForkServer:
    def __init__(self, environment: Mapping[str, str], modules: Sequence[str]):
        self.users = 0
        self._loaded, self._lock = False, Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = start_child(
                python("cluster.fork_server", str(theirs.fileno()), str(os.getpid()), *modules),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # what cannot be loaded here is loaded, and fails, in the node
                env=dict(environment),
                cwd=home(),  # what lies in the user's folder is not for the tasks
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def await_loaded(self) -> None:
        """Wait until it can fork, has ended, or has taken too long and is ended."""
        with self._lock:
            if not self._loaded and self.alive:
                self._loaded = bool(wait([self._channel], _LOADING_S)) and _received(self._channel) == LOADED
            if not self._loaded:
                self.close()

    def fork(self, plan_file: Path, errors: int, hold: Sequence[int]) -> ForkedNode | None:
        link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        (input_of_node, stdin), (stdout, output_of_node) = os.pipe(), os.pipe()
        descriptors = [theirs.fileno(), input_of_node, output_of_node, errors, *hold]
        try:
            socket.send_fds(self._channel, [json.dumps(str(plan_file)).encode()], descriptors)
        except OSError:
            pass  # it has ended
        finally:
            theirs.close()
            os.close(input_of_node)
            os.close(output_of_node)
        pid = _received(link) if wait([link], _FORKING_S) else b""
        if not pid:
            self.close()
            for end in (link.detach(), stdin, stdout):
                os.close(end)
            return None
        return ForkedNode(link, int(pid), open(stdin, "wb", buffering=0), open(stdout, "rb", buffering=0))

    def close(self) -> None:
        """End it, and the nodes that it has forked. Harmless when repeated."""
        self._process.kill()
        self._process.wait()
        self._channel.close()


def _kind(environment: Mapping[str, str], modules: Sequence[str]) -> _Kind:
    return frozenset(environment.items()), tuple(modules), frozenset(os.sched_getaffinity(0))


def _received(connection: socket.socket) -> bytes:
    """A message, which has come; empty if the other end is gone."""
    try:
        return connection.recv(64)
    except OSError:
        return b""

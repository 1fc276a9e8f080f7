"""An update's number is its place in the order of application, however long its gradient is under way."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from cluster.topology import free_ports

#: Numbers in the variable: its gradient is much more than all else that a worker answers.
SIZE = 4_000_000


class HoldingRelay:
    """Forwards TCP connections to some ports of this machine; the first answer of more than `most` bytes waits for
    `released`.
    """

    def __init__(self, targets: list[int], most: int):
        self._most, self._first = most, threading.Lock()
        self.held, self.released = threading.Event(), threading.Event()
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in targets]
        self.ports = [listener.getsockname()[1] for listener in listeners]
        for listener, target in zip(listeners, targets):
            threading.Thread(target=self._accept, args=(listener, target), daemon=True).start()

    def _accept(self, listener: socket.socket, target: int) -> None:
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", target))
            except ConnectionRefusedError:  # it does not listen yet
                near.close()
                continue
            for source, sink, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if answers and passed > self._most and self._first.acquire(blocking=False):
                    self.held.set()
                    self.released.wait()
                sink.sendall(data)


@pytest.mark.slow
def test_a_gradient_that_is_long_under_way_is_numbered_when_it_has_arrived(tmp_path):
    ports = free_ports(3)
    relay = HoldingRelay(ports[1:], most=4 * SIZE - 500_000)
    command = [sys.executable, "-m", "tests.integration.late_gradient", *map(str, [SIZE, *ports, *relay.ports])]
    errors = tmp_path / "errors"
    with (
        errors.open("w") as error_file,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=error_file, text=True, start_new_session=True
        ) as process,
    ):
        try:
            assert relay.held.wait(60), errors.read_text()
            process.stdin.write("go\n")
            process.stdin.flush()
            soon = process.stdout.readline()
            relay.released.set()
            late = process.stdout.readline()
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the servers as well

    assert (soon, late) == ("0\n", "1\n"), errors.read_text()

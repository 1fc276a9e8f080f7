"""The entry point that every host runs: `python -m cluster.node PLAN.json`.

It speaks a small protocol with whoever started it. On its output it writes one JSON object a line for each event, the
last of them `node_ended`. On its input it takes a line `stop` (drain, within the plan's grace) or `kill` (end at
once); when its input closes, whoever started it is gone, and it ends at once. SIGTERM and SIGINT drain as `stop` does.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from importlib import import_module
from os import _exit, getpid, read
from pathlib import Path
from typing import Any

from cluster.isolation import enter_private_network
from cluster.plan import Plan
from cluster.supervisor import COMPLETED, FAILED, Supervisor

_INPUT = 0


class _InputAndSignals:
    """Commands from this process's input and from SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def files(self) -> list[Any]:
        return [_INPUT, self._signals]

    def read(self, ready: list[Any]) -> str | None:
        command = None
        if self._signals in ready:
            self._signals.recv(64)
            command = "stop"
        if _INPUT in ready:
            said = read(_INPUT, 1024)
            command = "kill" if not said or b"kill" in said else "stop"
        return command


def report(event: str, **details: Any) -> None:
    """Tell whoever started this node what happened."""
    print(json.dumps({"time_unix_s": time.time(), "event": event, **details}), flush=True)


def main(plan_file: str) -> int:
    """Run a plan; 0 when it completed."""
    plan = Plan.read(Path(plan_file))
    commands = _InputAndSignals()
    report("node_started", pid=getpid())
    if plan.private_network:
        report("network", private=enter_private_network())
    for module in plan.preload:
        import_module(module)
    outcome = FAILED
    try:
        outcome = Supervisor(plan, report, commands).run()
    finally:
        report("node_ended", outcome=outcome)
    return 0 if outcome == COMPLETED else 1


if __name__ == "__main__":
    code = main(sys.argv[1])
    # Not sys.exit: unloading what was preloaded for the tasks takes longer than a second and changes nothing.
    _exit(code)

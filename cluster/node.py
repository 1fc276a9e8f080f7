"""The entry point that every host runs: `python -m cluster.node PLAN.json`, or `--contract MODULE:FUNCTION`.

It speaks a small protocol with whoever started it. On its output it writes one JSON object a line for each event, the
last of them `node_ended`. On its input it takes a line `stop` (drain, within the plan's grace) or `kill` (end at
once); when its input closes, whoever started it is gone, and it ends at once. SIGTERM and SIGINT drain as `stop` does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from cluster.contract import Contract, HostWork
from cluster.failure import why_failed
from cluster.isolation import enter_private_network
from cluster.liveness import Beacon
from cluster.plan import Plan
from cluster.relay import Relay
from cluster.supervisor import COMPLETED, FAILED, STOPPED, Supervisor
from cluster.surroundings import set_environment, without_proxies

_INPUT = 0

#: How long the name of another host may take to be known.
_NAMES_S = 300.0


class _Signals:
    """Commands from SIGTERM and SIGINT."""

    def __init__(self) -> None:
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def files(self) -> list[Any]:
        return [self._signals]

    def read(self, ready: list[Any]) -> str | None:
        if self._signals in ready:
            self._signals.recv(64)
            return "stop"
        return None


class _InputAndSignals(_Signals):
    """Commands from this process's input, too."""

    def files(self) -> list[Any]:
        return [_INPUT, *super().files()]

    def read(self, ready: list[Any]) -> str | None:
        command = super().read(ready)
        if _INPUT in ready:
            said = os.read(_INPUT, 1024)
            command = "kill" if not said or b"kill" in said else "stop"
        return command


def report(event: str, **details: Any) -> None:
    """Tell whoever started this node what happened."""
    print(json.dumps({"time_unix_s": time.time(), "event": event, **details}), flush=True)


def main(plan_file: str) -> int:
    """Run a plan; 0 when it completed."""
    plan = Plan.read(Path(plan_file))
    commands = _InputAndSignals()
    report("node_started", pid=os.getpid())
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


def main_hosted(function: str) -> int:
    """Be one host of a SageMaker job; 0 when its work was done or stopped."""
    commands = _Signals()
    report("node_started", pid=os.getpid())
    contract = Contract.read()
    outcome, reason, relay, beacon = FAILED, "", None, None
    failed: list[dict[str, Any]] = []
    told: dict[str, str] = {}  # why, by the task

    def tell(event: str, **details: Any) -> None:
        report(event, host=contract.current_host, **details)
        work.record(event, **details)
        if event == "task_ended" and details["exit_code"] != 0:
            failed.append(details)
        elif event in ("task_failed", "not_connected"):
            told[details["task"]] = details["why"]
        elif event == "recovering":
            failed.clear()
            told.clear()

    try:
        module, name = function.split(":")
        work: HostWork = getattr(import_module(module), name)(contract)
        relay = Relay(Path(work.plan.tasks[0].log).parent)
        beacon = Beacon(len(contract.hosts)) if contract.current_host == work.first_host else None
        stopped = not _await_names(contract.hosts, commands)
        for module in () if stopped else work.plan.preload:
            import_module(module)
        if stopped or commands.read(wait(commands.files(), 0)):
            outcome = STOPPED
        else:
            outcome = Supervisor(work.plan, tell, commands, beacon).run()
        if outcome == FAILED:
            reason = _reason(work.plan, failed, told)
        work.finish()
    except Exception as error:
        traceback.print_exc()
        outcome, reason = FAILED, f"{type(error).__name__}: {error}"
    if outcome == FAILED:
        contract.tell_failure(f"{contract.current_host}: {reason}")
    if beacon:
        beacon.end()
    if relay:
        relay.end()
    report("node_ended", host=contract.current_host, outcome=outcome)
    return 1 if outcome == FAILED else 0


def _await_names(hosts: tuple[str, ...], commands: _Signals) -> bool:
    """Wait until every host's name is known, which may take a while; False when told to stop meanwhile.

    Raises:
        TimeoutError: one never is.
    """
    deadline = time.monotonic() + _NAMES_S
    for host in hosts:
        while True:
            try:
                socket.getaddrinfo(host, None)
                break
            except socket.gaierror as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the name {host} is not known after {_NAMES_S:.0f} s: {error}") from None
            if commands.read(wait(commands.files(), 0.2)):
                return False
    return True


def _reason(plan: Plan, failed: list[dict[str, Any]], told: dict[str, str]) -> str:
    """Why a host failed: the first task that did since it was last started, and its last lines."""
    if not failed:
        return "the work failed"
    last = failed[0]
    log = next(task.log for task in plan.tasks if task.name == last["task"])
    return why_failed(last, told.get(last["task"]), Path(log))


if __name__ == "__main__":
    set_environment(without_proxies(os.environ))  # a container has those of its engine's configuration, or of its image
    code = main_hosted(sys.argv[2]) if sys.argv[1] == "--contract" else main(sys.argv[1])
    # Not sys.exit: unloading what was preloaded for the tasks takes longer than a second and changes nothing.
    os._exit(code)

"""The entry point that every host runs: `python -m cluster.node PLAN.json PARENT`, or `--contract MODULE:FUNCTION`.

It speaks a small protocol with the process that started it. On its output it writes one JSON object a line for each
event, the last of them `node_ended`. On its input it takes a line `stop` (drain, within the plan's grace) or `kill`
(end at once), and answers `ping` with an event `pong`; when its input closes, that process is gone, and it ends at
once. SIGTERM, SIGINT and SIGHUP drain as `stop` does. It ends with the process PARENT, which started it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NoReturn

from cluster import clock
from cluster.failure import why_failed
from cluster.hosted.contract import Contract, HostWork
from cluster.hosted.host_watch import HostWatch, stop_first_host
from cluster.hosted.log_relay import LogRelay
from cluster.isolation import enter_private_network
from cluster.lifeline import end_with_parent
from cluster.plan import Plan
from cluster.supervisor import COMPLETED, FAILED, STOPPED, Supervisor
from cluster.surroundings import allow_open_files, set_environment, without_proxies

_INPUT = 0

#: How long the name of another host may take to be known.
_NAMES_S = 300.0

#: How long a cluster may take to notice that a host was taken away.
_TAKEN_AWAY_S = 10.0


class _Signals:
    """Commands from SIGTERM, SIGINT and SIGHUP."""

    def __init__(self) -> None:
        self._signals, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._heed)
        self._has_tasks = True

    def _heed(self, *_: object) -> None:
        """A signal is read where commands are; while there are no tasks there is nothing to drain."""
        if not self._has_tasks:
            report("node_ended", outcome=STOPPED)
            os._exit(1)

    @contextlib.contextmanager
    def without_tasks(self) -> Iterator[None]:
        """Meanwhile a signal ends this process at once."""
        self._has_tasks = False
        yield
        self._has_tasks = True

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
        if command is None and _INPUT in ready:
            chunk = os.read(_INPUT, 1024)
            words = chunk.split()
            command = (
                next((one for one in ("kill", "stop", "ping") if one.encode() in words), None) if chunk else "kill"
            )
        return command


def report(event: str, **details: Any) -> None:
    """Tell the process that started this node what happened."""
    with contextlib.suppress(BrokenPipeError):  # it is gone, which the end of our input tells
        print(json.dumps({"time_unix_s": clock.time_unix_s(), "event": event, **details}), flush=True)


def load(modules: Sequence[str]) -> None:
    """Import what tasks need that are forked then. It stays: collecting garbage meanwhile would take a fifth of the
    time, and each task that does so later would look at all of it, and get a copy of its memory.
    """
    gc.disable()
    try:
        for module in modules:
            import_module(module)
    finally:
        gc.enable()
    gc.freeze()


def main(plan_file: str, parent: int) -> int:
    """Run a plan for the process `parent`; 0 when it completed."""
    end_with_parent(parent)
    plan = Plan.read(Path(plan_file))
    commands, private = _InputAndSignals(), False
    with commands.without_tasks():  # from the first word on: who hears it may want this to stop
        report("node_started", pid=os.getpid())
        if plan.private_network:
            private = enter_private_network()
            report("network", private=private)
            end_with_parent(parent)  # a new user namespace changes the credentials
        os.environ.update(plan.environment)
        load(plan.preload)
    outcome = FAILED
    try:
        outcome = Supervisor(plan, report, commands, private=private).run()
    finally:
        report("node_ended", outcome=outcome)
    return 0 if outcome == COMPLETED else 1


def main_hosted(function: str) -> int:
    """Be one host of a job; 0 when its work was done, the contract's `stopped_exit_code` when it was stopped."""
    commands = _Signals()
    report("node_started", pid=os.getpid())
    contract = Contract.read()
    outcome, reason, relay, watch = FAILED, "", None, None
    failed: list[dict[str, Any]] = []
    reasons: dict[str, str] = {}  # why, by the task

    def tell(event: str, **details: Any) -> None:
        report(event, host=contract.current_host, **details)
        work.record(event, **details)
        if event == "task_ended" and details["exit_code"] != 0:
            failed.append(details)
        elif event in ("task_failed", "not_connected"):
            reasons[details["task"]] = details["why"]
        elif event == "recovering":
            failed.clear()
            reasons.clear()
        elif event == "stopping" and watch is None:
            stop_first_host(work.first_host)

    try:
        module, name = function.split(":")
        work: HostWork = getattr(import_module(module), name)(contract)
        relay = LogRelay(Path(work.plan.tasks[0].log).parent, work.kept)
        watch = HostWatch(len(contract.hosts)) if contract.current_host == work.first_host else None
        there = _await_names(contract.hosts, commands, work.patience_s)
        if there is None and not work.over:
            raise TimeoutError(f"not all of {', '.join(contract.hosts)} are known after {work.patience_s:.0f} s")
        load(work.plan.preload if there else ())
        if there is None:
            outcome = COMPLETED  # this host is late: the first has ended, and is gone
        elif not there or commands.read(wait(commands.files(), 0)):
            outcome = STOPPED
        else:
            outcome = Supervisor(work.plan, tell, commands, watch).run()
        if outcome == FAILED:
            reason = _reason(work.plan, failed, reasons)
        work.finish(outcome)
    except Exception as error:
        traceback.print_exc()
        outcome, reason = FAILED, f"{type(error).__name__}: {error}"
    if outcome == FAILED:
        contract.tell_failure(f"{contract.current_host}: {reason}")
        if contract.stopped_exit_code and len(contract.hosts) > 1:
            # Perhaps for want of a host that was taken away: of that the cluster hears first, and stops this one.
            wait(commands.files(), _TAKEN_AWAY_S)
    if watch:
        watch.end()
    if relay:
        relay.end()
    report("node_ended", host=contract.current_host, outcome=outcome)
    return {COMPLETED: 0, STOPPED: contract.stopped_exit_code}.get(outcome, 1)


def _await_names(hosts: tuple[str, ...], commands: _Signals, patience_s: float) -> bool | None:
    """Wait until every host's name is known, which may take a while; False when told to stop meanwhile, None when one
    is not known within `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    for host in hosts:
        while True:
            try:
                socket.getaddrinfo(host, None)
                break
            except socket.gaierror:
                if time.monotonic() > deadline:
                    return None
            if commands.read(wait(commands.files(), 0.2)):
                return False
    return True


def _reason(plan: Plan, failed: list[dict[str, Any]], reasons: dict[str, str]) -> str:
    """Why a host failed: the first task that did since it was last started, and its last lines."""
    if not failed:
        return "the work failed"
    last = failed[0]
    log = next(task.log for task in plan.tasks if task.name == last["task"])
    return why_failed(last, reasons.get(last["task"]), Path(log))


def prepare() -> None:
    """What a process does first that is a node, or forks nodes."""
    allow_open_files()
    set_environment(without_proxies(os.environ))  # a container has those of its engine's configuration, or of its image


def run(work: Callable[[], int]) -> NoReturn:
    """Do a node's work, and end this process with the exit code that it returns."""
    code = 1
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
    # Not sys.exit: unloading what was preloaded for the tasks takes longer than a second and changes nothing, and a
    # task that an error has left behind would be waited for.
    os._exit(code)


def _by_arguments() -> int:
    if sys.argv[1] in ("--contract", "train"):  # SageMaker's own word; what to do is then the image's to say
        return main_hosted(os.environ["CLUSTER_CONTRACT"] if sys.argv[1] == "train" else sys.argv[2])
    return main(sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    prepare()
    run(_by_arguments)

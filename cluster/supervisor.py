"""Starts a host's tasks, watches them, and ends them in the order in which a cluster can be ended.

The order matters: the leader (the chief) uses the other tasks until its last step, and parameters live in the parameter
servers, so whatever ends the run, the leader goes first and the others outlive it.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from cluster.plan import Plan, Task
from cluster.task import run_task

#: How a host's work can end.
COMPLETED, FAILED, STOPPED = "completed", "failed", "stopped"

_MONITOR_END_S = 2.0
_TASK_END_S = 1.0


class Commands(Protocol):
    """Where a supervisor is told what to do."""

    def files(self) -> list[Any]:
        """What becomes readable (descriptors, or objects with a `fileno`) when there is a command."""

    def read(self, ready: list[Any]) -> str | None:
        """The command in the readable ones: "stop" to drain, "kill" to end at once."""


class Supervisor:
    """Runs one plan once.

    `report(event, **details)` is told what happens as it happens; `commands` is asked what to do.
    """

    def __init__(self, plan: Plan, report: Callable[..., None], commands: Commands):
        self._plan = plan
        self._report = report
        self._commands = commands
        # Linux forks, so that tasks share what the node has loaded; macOS' frameworks do not survive a fork.
        self._context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._processes: dict[str, BaseProcess] = {}
        self._monitor: BaseProcess | None = None

    def run(self) -> str:
        """Start every task and return how the work ended, with nothing left running."""
        try:
            for task in self._plan.tasks:
                self._processes[task.name] = self._start(task)
            if self._plan.monitor:
                pids = {name: process.pid for name, process in self._processes.items()}
                self._monitor = self._start(self._plan.monitor, pids)
            outcome = self._watch()
            self._end(self._monitor, _MONITOR_END_S)
            return outcome
        finally:
            for process in (*self._processes.values(), self._monitor):
                self._end(process, _TASK_END_S)

    def _start(self, task: Task, *more_arguments: Any) -> BaseProcess:
        process = self._context.Process(target=run_task, args=(task, *more_arguments), name=task.name)  # type: ignore[attr-defined]
        process.start()
        self._report("task_started", task=task.name, pid=process.pid)
        return process

    def _watch(self) -> str:
        """Wait until all the work is done, a task has crashed, or a command says to stop."""
        leader = self._processes[self._plan.leader]
        running = dict(self._processes)  # those whose end has not been seen
        working = {task.name for task in self._plan.tasks if not task.serves}
        deadline: float | None = None  # by when a stopping leader must have ended
        while True:
            sentinels = [process.sentinel for process in running.values()]
            monitor = [self._monitor.sentinel] if self._monitor else []
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = wait([*sentinels, *monitor, *self._commands.files()], left)
            ended = {name: process for name, process in running.items() if process.sentinel in ready}

            command = self._commands.read(ready)
            if command == "kill":
                for process in self._processes.values():
                    process.kill()  # not politely: a task that is told might save what a lost host could not
                return STOPPED
            if command == "stop" and deadline is None:
                self._report("stopping", grace_s=self._plan.grace_s)
                deadline = time.monotonic() + self._plan.grace_s
                leader.terminate()
            if self._monitor and self._monitor.sentinel in ready:
                self._report_end("monitor_ended", self._plan.monitor.name, self._monitor)
                self._monitor = None
            if ended:
                # What another task's crash does to the leader is not the cause: tell the others first.
                for name, process in sorted(ended.items(), key=lambda item: item[1] is leader):
                    self._report_end("task_ended", name, process)
                    del running[name]
                well = all(name in working and process.exitcode == 0 for name, process in ended.items())
                working -= ended.keys()
                if deadline is None and not well:
                    return FAILED
                if deadline is None and not working:
                    return COMPLETED
                if deadline is not None and leader in ended.values():
                    return STOPPED
            if deadline is not None and time.monotonic() >= deadline:
                self._report("grace_exceeded", task=self._plan.leader)
                return STOPPED

    def _report_end(self, event: str, name: str, process: BaseProcess) -> None:
        process.join()
        code = process.exitcode
        name_of_signal = signal.Signals(-code).name if code < 0 else None
        self._report(event, task=name, pid=process.pid, exit_code=code, signal=name_of_signal)

    def _end(self, process: BaseProcess | None, patience_s: float) -> None:
        """End a process if it still runs: politely, then for good."""
        if process is None or not process.is_alive():
            return
        process.terminate()
        process.join(patience_s)
        if process.is_alive():
            process.kill()
            process.join()

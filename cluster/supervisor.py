"""Starts a host's tasks, watches them, starts again what fails, and ends them in the order in which a cluster can be
ended.

The order matters: the leader (the chief) uses the other tasks until its last step, and parameters live in the parameter
servers, so whatever ends the run, the leader goes first and the others outlive it.

A task may fail and be worth another try: one that was killed, or that ended with `AGAIN` because something that it
needs went away. Any other exit code says that it would happen again, and fails the work at once.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

from cluster.failure import name_of_signal
from cluster.faults import Injector
from cluster.plan import Plan, Task
from cluster.pulse import BEAT, Pulses, beat_s
from cluster.task import AGAIN, CONNECTED, CONNECTING, REACHED, run_task
from cluster.timers import Timers
from cluster.topology import why_unconnected

#: How a host's work can end.
COMPLETED, FAILED, STOPPED = "completed", "failed", "stopped"

#: What a node answers when it is asked whether it is there.
PONG = "pong"

_MONITOR_END_S = 2.0
_TASK_END_S = 1.0
_LONGEST_BACKOFF_S = 30.0


class Commands(Protocol):
    """Where a supervisor's commands come from."""

    def files(self) -> list[Any]:
        """What becomes readable (descriptors, or objects with a `fileno`) when there is a command."""

    def read(self, ready: list[Any]) -> str | None:
        """The command in the readable ones: "stop" to drain, "kill" to end at once, "ping" to answer `PONG`."""


class Others(Protocol):
    """The other hosts of a job: they, too, do what is to be done at a step that is reached on this one."""

    def files(self) -> list[Any]:
        """What becomes readable when one of them answers."""

    def read(self, ready: list[Any]) -> None:
        """Take the answers in the readable ones."""

    def tell(self, step: int) -> None:
        """The parameters' version is `step` now."""

    @property
    def done(self) -> bool:
        """Whether every other host has done what it has to do at the steps that were reported to it."""


class Supervisor:
    """Runs one plan once.

    `report(event, **details)` is called with what happens as it happens; `commands` is asked what to do; `others` are
    given where this host is the one whose steps count for them; `private` says that the tasks have a network of their
    own.
    """

    def __init__(
        self,
        plan: Plan,
        report: Callable[..., None],
        commands: Commands,
        others: Others | None = None,
        *,
        private: bool = False,
    ):
        self._plan = plan
        self._report = report
        self._commands = commands
        self._others = others
        # Linux forks, so that tasks share what the node has loaded; macOS' frameworks do not survive a fork.
        self._context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._tasks = {task.name: task for task in plan.tasks}
        self._processes: dict[str, BaseProcess] = {}  # the newest of each task
        self._running: dict[str, BaseProcess] = {}  # those whose end has not been seen
        self._channels: dict[str, Connection] = {}
        self._monitor: BaseProcess | None = None
        self._working = {task.name for task in plan.tasks if not task.serves}
        self._timers = Timers()
        self._pulses = Pulses(plan.hang_s, set(self._working), plan.leader)
        self._beat_s = beat_s(plan.hang_s) if plan.hang_s else None
        self._held_back: dict[str, float] = {}
        self._at_step: list[Connection] = []  # of tasks that wait for what is done at the step that they reached
        self._to_be_ended = False  # those tasks, from outside
        self._connecting: set[str] = set()  # tasks that wait for others to answer
        self._unconnected: set[str] = set()  # those that did so for too long
        # Where nobody else is in between, servers that did not find each other may do so the next time: once.
        self._may_connect_again = private
        self._restarts = 0
        self._starting: set[str] = set()  # tasks that failed and wait to be started again
        self._stopping = self._at_once = False
        self._outcome: str | None = None

    def run(self) -> str:
        """Start every task and return how the work ended, with nothing left running."""
        self._injector = Injector(self._plan.faults, self, self._timers, self._report)
        try:
            self._start(self._tasks)
            if self._beat_s:
                self._timers.add(self._beat_s, partial(self._look_for_hung_ones, self._beat_s))
            while self._outcome is None:
                ready = wait(self._awaited(), self._timers.wait_s())
                self._obey(self._commands.read(ready))
                self._listen(ready)
                if self._others:
                    self._others.read(ready)
                self._let_go_on()
                self._injector.refuse(ready)
                self._attend(ready)
                self._timers.run_due()
            if not self._at_once:
                self._end(self._monitor, _MONITOR_END_S)
            return self._outcome
        finally:
            self._injector.end()
            for process in (*self._processes.values(), self._monitor):
                self._end(process, 0 if self._at_once else _TASK_END_S)

    # What an injector of faults may do

    def signal(self, task: str, number: int) -> None:
        process = self._running.get(task)
        if process is not None and process.pid is not None and process.is_alive():
            os.kill(process.pid, number)

    def hold_back(self, task: str, for_s: float) -> None:
        self._held_back[task] = for_s

    def tasks_of(self, host: str) -> list[str]:
        return [task.name for task in self._plan.tasks if task.host == host]

    def port_of(self, task: str) -> int | None:
        return self._tasks[task].port

    def pid_of(self, task: str) -> int | None:
        return self._running[task].pid if task in self._running else None

    # Starting

    def _start(self, names: Iterable[str]) -> None:
        """Start tasks, and the monitor of all of them anew."""
        self._end(self._monitor, _MONITOR_END_S)  # before, so that what it says is of the tasks that were
        for name in names:
            channel, task_end = self._context.Pipe()
            self._connecting.discard(name)
            self._processes[name] = self._running[name] = self._fork(self._tasks[name], task_end)
            self._channels[name] = channel
            task_end.close()
            self._pulses.started(name)
        if self._plan.monitor:
            pids = {name: process.pid for name, process in self._running.items()}
            self._monitor = self._fork(self._plan.monitor, None, pids)

    def _fork(self, task: Task, channel: Connection | None, *more_arguments: Any) -> BaseProcess:
        """Start a process; known to others only once it will end with this one, whatever is done to it then."""
        reader, writer = self._context.Pipe(duplex=False)
        process: BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=run_task,
            args=(task, writer, channel, self._injector.awaited_steps, self._beat_s, *more_arguments),
            name=task.name,
        )
        process.start()
        writer.close()
        if sys.platform == "linux":  # elsewhere it has modules to import first
            wait([reader])
        reader.close()
        self._report("task_started", task=task.name, pid=process.pid)
        return process

    # Watching

    def _awaited(self) -> list[Any]:
        processes = [*self._running.values(), *([self._monitor] if self._monitor else [])]
        return [
            *(process.sentinel for process in processes),
            *self._channels.values(),
            *self._injector.refusing,
            *self._commands.files(),
            *(self._others.files() if self._others else []),
        ]

    def _obey(self, command: str | None) -> None:
        if command == "ping":
            self._report(PONG)
        elif command == "kill":
            self._at_once, self._outcome = True, STOPPED
        elif command == "stop" and not self._stopping:
            self._stopping = True
            self._report("stopping", grace_s=self._plan.grace_s)
            self._injector.end()
            self._timers.clear()
            self._timers.add(self._plan.grace_s, self._exceed_grace)
            if self._plan.leader in self._running:
                self._running[self._plan.leader].terminate()
            else:
                self._outcome = STOPPED

    def _exceed_grace(self) -> None:
        self._report("grace_exceeded", task=self._plan.leader)
        self._outcome = STOPPED

    def _listen(self, ready: list[Any]) -> None:
        """Take what tasks tell and pass it on; at a step that faults wait for, have them done."""
        for name, channel in list(self._channels.items()):
            if channel not in ready:
                continue
            try:
                while channel.poll():
                    message = json.loads(channel.recv_bytes())
                    if message["event"] == BEAT:
                        self._pulses.heard(name, message)
                    elif message["event"] == REACHED:
                        self._at_step.append(channel)
                        self._to_be_ended |= not self._injector.reached(message["step"])
                        if self._others:
                            self._others.tell(message["step"])
                    elif message["event"] == CONNECTING:
                        self._bound_connecting(name, message["addresses"], message["within_s"])
                    elif message["event"] == CONNECTED:
                        self._connecting.discard(name)
                    else:
                        self._report(**{"task": name, **message})
            except (EOFError, OSError):  # the task has ended
                channel.close()
                del self._channels[name]

    def _bound_connecting(self, name: str, addresses: list[str], within_s: float) -> None:
        process = self._processes[name]
        self._connecting.add(name)

        def end() -> None:
            if name not in self._connecting or self._running.get(name) is not process:
                return
            why = f"no cluster after {within_s:g} s: {why_unconnected(addresses)}"
            with open(self._tasks[name].log, "a", encoding="utf-8") as log:
                log.write(why + "\n")
            self._report("not_connected", task=name, why=why)
            self._unconnected.add(name)
            process.kill()

        self._timers.add(within_s, end)

    def _let_go_on(self) -> None:
        """Let tasks go on after what was to be done at their step, here and on the other hosts."""
        done = not self._to_be_ended and (self._others is None or self._others.done)
        if self._at_step and (done or self._stopping):
            for channel in self._at_step:
                with contextlib.suppress(OSError):  # it was the target, or has been ended with all others
                    channel.send_bytes(b"go on")
            self._at_step.clear()

    def _attend(self, ready: list[Any]) -> None:
        """See to the tasks that have ended."""
        if self._monitor and self._monitor.sentinel in ready:
            self._report_end("monitor_ended", self._monitor.name, self._monitor)
            self._monitor = None
        ended = [name for name, process in self._running.items() if process.sentinel in ready]
        # What another task's crash does to the leader is not the cause: tell the others first.
        for name in sorted(ended, key=lambda name: name == self._plan.leader):
            self._report_end("task_ended", name, self._running.pop(name))
        failed = [name for name in ended if self._tasks[name].serves or self._processes[name].exitcode != 0]
        self._working -= set(ended) - set(failed)
        if self._stopping:
            if self._plan.leader in ended:
                self._outcome = STOPPED
        elif ended and not self._working:  # also if a server failed at the same time: nobody needs it any more
            self._outcome = COMPLETED
        elif failed:
            self._recover(failed)

    def _look_for_hung_ones(self, every_s: float) -> None:
        """Name the tasks that hang, and end them: the rest is as for any that die."""
        for hung in self._pulses.hung():
            if hung.task in self._connecting:  # which has a limit of its own
                continue
            self._report("hung", **asdict(hung))
            self.signal(hung.task, signal.SIGKILL)
        self._timers.add(every_s, partial(self._look_for_hung_ones, every_s))

    def _recover(self, failed: list[str]) -> None:
        """Have the tasks that failed started again, or all of them, unless it is hopeless."""
        unconnected = self._unconnected.intersection(failed)
        hopeless = [
            name
            for name in failed
            if not (self._may_connect_again if name in unconnected else _worth_another_try(self._processes[name]))
        ]
        if unconnected:
            self._may_connect_again = False
            self._unconnected.clear()
        if hopeless or self._restarts >= self._plan.max_restarts:
            if self._plan.max_restarts and not hopeless:
                self._report("gave_up", task=failed[0], restarts=self._restarts)
            self._outcome = FAILED
            return
        self._restarts += 1
        alone = all(self._tasks[name].replaceable for name in failed)
        names = failed if alone else list(self._tasks)
        backoff_s = min(self._plan.backoff_s * 2 ** (self._restarts - 1), _LONGEST_BACKOFF_S)
        in_s = max([backoff_s, *(self._held_back.pop(name, 0.0) for name in names)])
        if not alone:
            self._abandon()
        self._report("recovering", task=failed[0], restart=self._restarts, starting=names, in_s=in_s)
        self._starting |= set(names)
        self._timers.add(in_s, lambda: self._start_again(names))

    def _abandon(self) -> None:
        """End every task at once: what they did since the last checkpoint is lost anyway."""
        for process in self._running.values():
            process.kill()
        for name, process in self._running.items():
            process.join()
            self._report_end("task_ended", name, process)
        self._running.clear()
        self._working = {task.name for task in self._plan.tasks if not task.serves}

    def _start_again(self, names: list[str]) -> None:
        due = [name for name in names if name in self._starting]  # others have been started with all
        self._starting -= set(due)
        if due:
            self._start(due)

    # Ending

    def _report_end(self, event: str, name: str, process: BaseProcess) -> None:
        process.join()
        self._pulses.ended(name)
        code = process.exitcode
        killed_by = name_of_signal(-code) if code is not None and code < 0 else None
        self._report(event, task=name, pid=process.pid, exit_code=code, signal=killed_by)

    def _end(self, process: BaseProcess | None, patience_s: float) -> None:
        """End a process if it still runs: politely, then for good."""
        if process is None or not process.is_alive():
            return
        if patience_s:
            process.terminate()
            process.join(patience_s)
        if process.is_alive():
            process.kill()
            process.join()


def _worth_another_try(process: BaseProcess) -> bool:
    code = process.exitcode
    return code is not None and (code < 0 or code == AGAIN)

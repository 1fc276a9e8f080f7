"""What is done to a cluster on purpose, to see what it survives: real signals, a real full disk, a port really taken.

`Fault` is the script, as plain data in the plan. The supervisor asks an `Injector` to act it out.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Protocol

from cluster.network import Disturbance, ports_of
from cluster.timers import Timers

#: kind -> what is done to the target
KINDS = {
    "kill": "the task is ended by SIGKILL",
    "freeze": "the task is stopped for `for_s` seconds, then goes on",
    "slow": "the task gets `share` of the CPU time that it would use, for `for_s` seconds",
    "interrupt": "every task of the host gets SIGTERM, SIGKILL `notice_s` later, and comes back after `for_s` seconds",
    "fill": "the file system of the directory is full for `for_s` seconds",
    "refuse": "the task is ended and its port is taken by somebody else for `for_s` seconds",
    "partition": "no packet reaches or leaves the task for `for_s` seconds",
    "loss": "of the packets that reach and leave the task, `share` are dropped, for `for_s` seconds",
    "delay": "the packets that reach and leave the task come `delay_s` later, for `for_s` seconds",
}

#: The target is a task, a host or a directory.
TARGET = {"interrupt": "host", "fill": "directory"}

#: A file system with more room than this is not filled: it is hardly one that was made for it.
MOST_FILLED_BYTES = 4 * 2**30

_SLOW_PERIOD_S = 0.05
#: How often it is seen what connections a task has whose network is disturbed.
_LOOK_S = 0.2
#: Within which a task that was killed has let go of its port.
_LETS_GO_S = 1.0


@dataclass(frozen=True)
class Fault:
    """One fault: what, to whom, when.

    It comes once, `at_s` seconds after the start or when the parameters' version reaches `at_step`, or again and again,
    `per_minute` times on average, at exponential intervals drawn from `seed`. One of several `targets` is drawn.

    Where a job has several hosts, each has the whole script, so that all draw the same. `elsewhere` are the targets
    that another host sees to. What `outside` says is done by the caller that drives the hosts, once the report tells
    that it is due; a task that has come to its step waits there until it is ended. `number` is the fault's place in the
    script.
    """

    kind: str
    targets: tuple[str, ...]
    at_s: float | None = None
    at_step: int | None = None
    per_minute: float | None = None
    for_s: float = 1.0
    share: float = 0.25
    notice_s: float = 0.0
    delay_s: float = 0.1
    seed: int = 0
    number: int = 0
    elsewhere: tuple[str, ...] = ()
    outside: bool = False


class Cluster(Protocol):
    """What an injector may do to a cluster's tasks; those that do not run are passed over."""

    def signal(self, task: str, number: int) -> None: ...

    def hold_back(self, task: str, for_s: float) -> None:
        """Do not start the task again before `for_s` seconds have passed."""

    def tasks_of(self, host: str) -> list[str]: ...

    def port_of(self, task: str) -> int | None: ...

    def pid_of(self, task: str) -> int | None:
        """The process of a task that runs."""


class Injector:
    """Acts out faults. `report` is called with each as it happens and as it ends."""

    def __init__(self, faults: tuple[Fault, ...], cluster: Cluster, timers: Timers, report: Callable[..., None]):
        self._cluster, self._timers, self._report = cluster, timers, report
        self._at_step = [fault for fault in faults if fault.at_step is not None]
        self._over = False
        self._ends: list[Callable[[], None]] = []
        #: Sockets on which connections are to be refused.
        self.refusing: list[socket.socket] = []
        self._ballast: list[IO[bytes]] = []
        os.register_at_fork(after_in_child=self._let_go)  # a task must hold no port of another's, and no disk's room
        for fault in faults:
            if fault.at_s is not None:
                timers.add(fault.at_s, partial(self._do, fault, random.Random(fault.seed)))
            elif fault.per_minute:
                self._do_again_and_again(fault, fault.per_minute, random.Random(fault.seed))

    def _let_go(self) -> None:
        for listener in self.refusing:
            listener.close()
        for ballast in self._ballast:
            ballast.close()

    @property
    def awaited_steps(self) -> list[int]:
        """The steps at which something is still to be done, in their order."""
        return sorted({fault.at_step for fault in self._at_step if fault.at_step is not None})

    def reached(self, step: int) -> bool:
        """The parameters' version is `step` now; whether it may become more."""
        due = [fault for fault in self._at_step if fault.at_step is not None and step >= fault.at_step]
        self._at_step = [fault for fault in self._at_step if fault not in due]
        for fault in due:
            self._do(fault, random.Random(fault.seed))
        return not any(fault.outside for fault in due)

    def refuse(self, ready: list[Any]) -> None:
        """Reset connections to a port that is taken."""
        for listener in (some for some in self.refusing if some in ready):
            connection, _ = listener.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    def end(self) -> None:
        """No more faults, and what lasts ends now."""
        self._over = True
        for end in list(self._ends):
            end()

    def _do_again_and_again(self, fault: Fault, per_minute: float, draw: random.Random) -> None:
        def once() -> None:
            self._do(fault, draw)
            self._do_again_and_again(fault, per_minute, draw)

        self._timers.add(draw.expovariate(per_minute / 60), once)

    def _do(self, fault: Fault, draw: random.Random) -> None:
        target = draw.choice(fault.targets)
        if self._over or target in fault.elsewhere:
            return
        details = {"kind": fault.kind, "target": target, "for_s": fault.for_s, "notice_s": fault.notice_s}
        self._report("fault", number=fault.number, **details)
        if not fault.outside:
            getattr(self, f"_{fault.kind}")(fault, target)

    def _lasting(self, fault: Fault, target: str, end: Callable[[], None]) -> None:
        """Have `end` done after the fault's time, or earlier if no more faults are wanted; once."""

        def once() -> None:
            if once in self._ends:
                self._ends.remove(once)
                end()
                self._report("fault_ended", kind=fault.kind, target=target)

        self._ends.append(once)
        self._timers.add(fault.for_s, once)

    def _kill(self, fault: Fault, task: str) -> None:
        self._cluster.signal(task, signal.SIGKILL)

    def _freeze(self, fault: Fault, task: str) -> None:
        self._cluster.signal(task, signal.SIGSTOP)
        self._lasting(fault, task, lambda: self._cluster.signal(task, signal.SIGCONT))

    def _slow(self, fault: Fault, task: str) -> None:
        lasting = True

        def stop() -> None:
            if lasting:
                self._cluster.signal(task, signal.SIGSTOP)
                self._timers.add(_SLOW_PERIOD_S * (1 - fault.share), go_on)

        def go_on() -> None:
            self._cluster.signal(task, signal.SIGCONT)
            self._timers.add(_SLOW_PERIOD_S * fault.share, stop)

        def end() -> None:
            nonlocal lasting
            lasting = False
            self._cluster.signal(task, signal.SIGCONT)

        stop()
        self._lasting(fault, task, end)

    def _interrupt(self, fault: Fault, host: str) -> None:
        tasks = self._cluster.tasks_of(host)
        for task in tasks:
            self._cluster.hold_back(task, fault.notice_s + fault.for_s)
            self._cluster.signal(task, signal.SIGTERM if fault.notice_s else signal.SIGKILL)

        def reclaim() -> None:
            for task in tasks:
                self._cluster.signal(task, signal.SIGKILL)

        self._timers.add(fault.notice_s, reclaim)

    def _fill(self, fault: Fault, directory: str) -> None:
        # Without a name: the room is free again when this process ends, however that ends.
        ballast = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it is held until the fault ends
        try:
            free = _free_bytes(ballast.fileno())
            if free > MOST_FILLED_BYTES:
                raise OSError(f"{directory} has {free / 1e9:.0f} GB free, too much to fill")
            _take_all_room(ballast.fileno())
        except OSError as error:
            self._report("fault_failed", kind=fault.kind, target=directory, why=str(error))
        self._ballast.append(ballast)

        def end() -> None:
            self._ballast.remove(ballast)
            ballast.close()

        self._lasting(fault, directory, end)

    def _disturb(self, fault: Fault, task: str) -> None:
        """Disturb the task's network, also for what connects meanwhile, and for a process that takes its place."""
        disturbance = Disturbance(fault.kind, fault.share, fault.delay_s)
        lasting = True

        def affect() -> None:
            pid, port = self._cluster.pid_of(task), self._cluster.port_of(task)
            try:
                if pid is not None:
                    disturbance.affect(ports_of(pid) | ({port} if port else set()))
            except OSError as error:
                self._report("fault_failed", kind=fault.kind, target=task, why=str(error))
                return
            self._timers.add(_LOOK_S, again)

        def again() -> None:
            if lasting:
                affect()

        def end() -> None:
            nonlocal lasting
            lasting = False
            disturbance.end()

        try:
            disturbance.begin()
        except OSError as error:
            self._report("fault_failed", kind=fault.kind, target=task, why=str(error))
            return
        affect()
        self._lasting(fault, task, end)

    _partition = _loss = _delay = _disturb

    def _refuse(self, fault: Fault, task: str) -> None:
        self._cluster.signal(task, signal.SIGKILL)
        self._cluster.hold_back(task, _LETS_GO_S)
        # As TensorFlow does, on every address; it listens, because only then can nobody else.
        listener = socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._listen(fault, task, listener, time.monotonic() + _LETS_GO_S)

    def _listen(self, fault: Fault, task: str, listener: socket.socket, until: float) -> None:
        try:
            listener.bind(("", self._cluster.port_of(task)))
            listener.listen()
        except OSError as error:
            if time.monotonic() < until:  # the task has not let go of it yet
                self._timers.add(0.02, lambda: self._listen(fault, task, listener, until))
                return
            listener.close()
            self._report("fault_failed", kind=fault.kind, target=task, why=str(error))
            return
        self.refusing.append(listener)

        def end() -> None:
            self.refusing.remove(listener)
            listener.close()

        self._lasting(fault, task, end)


def _free_bytes(file: int) -> int:
    space = os.fstatvfs(file)
    return space.f_bavail * space.f_frsize


def _take_all_room(file: int) -> None:
    """Let the file have all that is free where it lies.

    Others write meanwhile, and of what does not fit nothing is allocated: then less is asked for, until nothing fits.
    """
    size, amount = 0, _free_bytes(file)
    while amount:
        try:
            os.posix_fallocate(file, size, amount)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            amount //= 2
        else:
            size, amount = size + amount, _free_bytes(file)

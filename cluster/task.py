"""One task's process: where it prints, what it sees, and that it dies with its parent; then the task's own function."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from cluster.failure import in_short
from cluster.lifeline import end_with_parent
from cluster.plan import Task
from cluster.pulse import start_beating

#: The exit code of a task that failed for want of something that may come back (EX_TEMPFAIL of sysexits.h).
AGAIN = 75
#: What a task reports by `reached`.
REACHED = "reached"
#: What a task reports by `connecting`: that it waits for others, and that it waits no more.
CONNECTING, CONNECTED = "connecting", "connected"

_supervisor: Connection | None = None
_telling = threading.RLock()
_awaited_steps: list[int] = []  # those at which the supervisor has something to do, in their order


def tell(event: str, **details: Any) -> None:
    """Tell the supervisor, which passes it on as an event of this task; nobody in a process that has none."""
    if _supervisor is not None:
        with _telling:
            _supervisor.send_bytes(json.dumps({"event": event, **details}).encode())


def reached(step: int) -> None:
    """Say that the parameters' version is `step`; back when the supervisor has done what is to be done at that step."""
    if _awaited_steps and step >= _awaited_steps[0]:
        while _awaited_steps and step >= _awaited_steps[0]:
            del _awaited_steps[0]
        assert _supervisor is not None, "who has no supervisor waits for nothing"
        tell(REACHED, step=step)
        _supervisor.recv_bytes()


def failing(why: str) -> None:
    """Say in a line why this task is about to end, badly."""
    with suppress(OSError):  # the supervisor is gone, too
        tell("task_failed", why=why)


@contextmanager
def connecting(addresses: Iterable[str], within_s: float) -> Iterator[None]:
    """For as long as this task waits for those at `addresses` (`host:port`): when `within_s` have passed the supervisor
    ends it, and the work, and says which of them do not answer.

    This process could not do that itself: TensorFlow keeps all of Python waiting while it connects.
    """
    tell(CONNECTING, addresses=list(addresses), within_s=within_s)
    yield
    tell(CONNECTED)


def run_task(
    task: Task,
    begun: Connection,
    supervisor: Connection | None,
    awaited_steps: list[int],
    beat_s: float | None,
    *more_arguments: Any,
) -> None:
    """Become `task`: runs in a process of its own, started by the supervisor. Closes `begun` once it ends with that,
    and tells it of its progress every `beat_s`.
    """
    global _supervisor  # noqa: PLW0603
    parent = multiprocessing.parent_process()
    assert parent is not None and parent.pid is not None, "run_task is for a child process"
    end_with_parent(parent.pid)
    begun.close()
    _supervisor = supervisor
    _awaited_steps[:] = awaited_steps
    signal.set_wakeup_fd(-1)  # the supervisor's: it does not get this process's signals
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes is the supervisor's to answer
    _print_to(task.log)
    os.environ.update(task.environment)
    if supervisor and beat_s:
        start_beating(tell, beat_s)
    module, function = task.target.split(":")
    try:
        getattr(import_module(module), function)(*task.arguments, *more_arguments)
    except Exception as error:
        with suppress(OSError):  # the log's disk is full
            traceback.print_exc()
        failing(in_short(error))
        sys.exit(1)


def _print_to(log: str) -> None:
    """Send what this process and its C++ libraries print to `log`, and take its input from nowhere."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(null)
    os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

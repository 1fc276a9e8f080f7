"""What Ctrl-C, SIGTERM and a terminal that closes do to what is running."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


def _let_go_of_closed_outputs() -> None:
    """From now on, what would be written to a terminal that has closed, or to a pipe that nobody reads, is nowhere."""
    for output in (1, 2):
        poll = select.poll()
        poll.register(output, 0)
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, output)
            os.close(nowhere)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within it, SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that what is kept can be said: between jobs, and
    after the last. In another thread than the main one, which signals do not reach, it changes nothing.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Interruptible(Protocol):
    """What an interrupt ends."""

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class Interrupts:
    """While a job runs, Ctrl-C or SIGTERM drains it, and a second one ends it at once.

    So does SIGHUP, a terminal that closes, but for the second one: shells repeat it. `nohup` has it ignored. Signals
    reach the main thread alone; what runs in another is not interrupted.
    """

    def __init__(self, execution: Interruptible):
        self._execution = execution
        self._times = 0

    @property
    def heard(self) -> bool:
        """Whether any has come."""
        return self._times > 0

    def _handle(self, number: int, _: object) -> None:
        if number == signal.SIGHUP:
            _let_go_of_closed_outputs()
        if number == signal.SIGHUP or self._times == 0:
            self._execution.stop()
        else:
            self._execution.kill()
        self._times += 1

    def __enter__(self) -> None:
        heeded = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heeded.append(signal.SIGHUP)
        if threading.current_thread() is not threading.main_thread():
            heeded = []
        self._before = {number: signal.signal(number, self._handle) for number in heeded}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

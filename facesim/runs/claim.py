"""Who runs a run: at most one command, with the node and the tasks that it started.

The claim is a lock of the kernel's on a file in the run directory. The node and its tasks are given the open file, so
that it is theirs, too, and lasts until the last of them has ended, however that came about. The file says who they are;
what it still says when nobody has the lock was left by somebody who was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import IO, Any, NamedTuple

import psutil

from facesim.runs.record import LATEST_UNIX_S
from facesim.util.errors import InputError, reason
from facesim.util.files import open_regular, read_text

#: How long a lock that nobody alive has signed is waited for: the tasks of a command and a node that were killed may
#: take so long to end, and `look` has it for a moment.
_ENDS_S, _PAUSE_S = 3.0, 0.01


@dataclass(frozen=True)
class Holder:
    """A process that has a part in a claim, since a time of its host's clock, by which the host began at
    `boot_unix_s`: that changes when the clock is set, and by as much does the time at which a process began.
    """

    pid: int
    host: str
    since_unix_s: float
    boot_unix_s: float | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, of which one can know something."""
        return self.host == socket.gethostname()

    @property
    def process(self) -> psutil.Process | None:
        """The process, while it runs; None if it has ended, or is another machine's."""
        try:
            process = psutil.Process(self.pid) if self.is_here else None
            then, now = self.boot_unix_s, _boot_unix_s()
            set_forward_s = 0.0 if then is None or now is None else max(0.0, now - then)
            same = process and process.create_time() <= self.since_unix_s + set_forward_s + 1
            return process if process and same and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.Error, OverflowError, ValueError):
            return None

    def __str__(self) -> str:
        where = "" if self.is_here else f" on {self.host}"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since_unix_s))
        return f"process {self.pid}{where} (since {since})"


class Look(NamedTuple):
    """What a claim looks like from outside.

    held: whether somebody has it, as the kernel says. holders: who the file names, also where they have it no more.
    """

    held: bool
    holders: tuple[Holder, ...]

    @property
    def alive(self) -> tuple[Holder, ...]:
        """Those of the holders that run; of another host's nobody here knows, and they are taken for alive."""
        return tuple(one for one in self.holders if not one.is_here or one.process)

    def names(self) -> str:
        """Who has it, in words."""
        return names(self.alive)


class Claim:
    """A file that says who runs a run."""

    def __init__(self, file: Path):
        self._file = file
        self._lock: IO[bytes] | None = None

    def take(self) -> str | None:
        """Have the run to oneself until `release`, or until this process and all that hold `descriptor` have ended.
        Returns, in words, who had it before and was killed; None if nobody was.

        Raises:
            InputError: somebody has it.
        """
        if self._lock:
            return None
        try:
            with suppress(FileNotFoundError):
                open_regular(self._file).close()  # what is no file, such as a pipe, would be waited for
            lock = self._file.open("ab")
        except OSError as error:
            raise InputError(
                f"cannot write to {self._file.parent}: {reason(error)}; a run directory has to be writable"
            ) from None
        try:
            self._wait_for(lock)
        except BaseException:
            lock.close()
            raise
        before, self._lock = self._read(), lock
        self._write([])
        self.add(os.getpid())
        return f"{names(before[:1])} is gone and did not end the run; its place is taken" if before else None

    def look(self) -> Look:
        """Who has the run now. Takes nothing.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            with open_regular(self._file) as file:
                return Look(_is_locked(file), self._read())
        except FileNotFoundError:
            return Look(False, ())
        except OSError as error:
            raise InputError(f"cannot read {self._file}: {reason(error)}; ask as the user who runs it") from None

    def _wait_for(self, lock: IO[bytes]) -> None:
        """Get the lock. When nobody who is known to have it is alive, those who are being ended get some time for it.

        Raises:
            InputError: somebody has it, or the file system has no locks.
        """
        until_s = time.monotonic() + _ENDS_S
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alive = Look(True, self._read()).alive
            except OSError as error:
                raise InputError(
                    f"cannot lock {self._file}: {reason(error)}; put runs on a file system that has locks (--output)"
                ) from None
            if alive or time.monotonic() > until_s:
                raise InputError(
                    f"{self._file.parent} is still being run by {names(alive)}; wait for it, or stop it "
                    "(facesim cancel)"
                ) from None
            time.sleep(_PAUSE_S)

    @property
    def descriptor(self) -> int:
        """The open file: every process that holds it has a part in the claim."""
        assert self._lock, "nothing has been claimed"
        return self._lock.fileno()

    def add(self, pid: int) -> None:
        """Say that process `pid` has a part in the claim."""
        self._write([*self._read(), Holder(pid, socket.gethostname(), time.time(), _boot_unix_s())])

    def is_held_by(self, process: psutil.Process) -> bool:
        """Whether a process of this user's has the claim's file open, as everybody has who has a part in it."""
        try:
            return any(os.path.samefile(one.path, self._file) for one in process.open_files())
        except (psutil.Error, OSError):
            return False

    def release(self) -> None:
        """Let others have the run: this is its regular end. Harmless when repeated."""
        if self._lock:
            self._write([])
            self._lock.close()
            self._lock = None

    def _read(self) -> tuple[Holder, ...]:
        try:
            holders = json.loads(read_text(self._file))
        except (OSError, ValueError, RecursionError):
            return ()
        if not isinstance(holders, list):
            return ()
        return tuple(
            Holder(one["pid"], one["host"], one["since_unix_s"], one.get("boot_unix_s"))
            for one in holders
            if _is_holder(one)
        )

    def _write(self, holders: Sequence[Holder]) -> None:
        content = json.dumps([asdict(one) for one in holders]).encode() if holders else b""
        try:
            os.ftruncate(self.descriptor, 0)
            os.write(self.descriptor, content)
        except OSError:
            pass  # a full disk: the lock itself needs no room


def names(holders: Sequence[Holder]) -> str:
    """Holders in words."""
    return " and ".join(map(str, holders)) or "another process"


def _is_locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _boot_unix_s() -> float | None:
    try:
        return psutil.boot_time()
    except (psutil.Error, OSError, RuntimeError):  # a container that hides it
        return None


def _is_holder(one: Any) -> bool:
    number = (int, float)
    kinds: dict[str, Any] = {"pid": int, "host": str, "since_unix_s": number, "boot_unix_s": (*number, NoneType)}
    known = isinstance(one, dict) and all(isinstance(one.get(name), kind) for name, kind in kinds.items())
    return known and 0 <= one["since_unix_s"] <= LATEST_UNIX_S

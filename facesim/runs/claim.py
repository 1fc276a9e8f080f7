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
from pathlib import Path
from typing import IO, Any

import psutil

from facesim.util.errors import InputError, reason

#: How long the tasks of a command and a node that were killed may take to end.
_ENDS_S = 3.0


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
        return f"{_names(before[:1])} is gone and did not end the run; its place is taken" if before else None

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
                alive = _alive(self._read())
            except OSError as error:
                raise InputError(
                    f"cannot lock {self._file}: {reason(error)}; put runs on a file system that has locks (--output)"
                ) from None
            if alive or time.monotonic() > until_s:
                raise InputError(
                    f"{self._file.parent} is still being run by {_names(alive)}; wait for it, or stop it"
                ) from None
            time.sleep(0.05)

    @property
    def descriptor(self) -> int:
        """The open file: whoever holds it has a part in the claim."""
        assert self._lock, "nothing has been claimed"
        return self._lock.fileno()

    def add(self, pid: int) -> None:
        """Say that process `pid` has a part in the claim."""
        now = {"pid": pid, "host": socket.gethostname(), "since_unix_s": time.time()}
        self._write([*self._read(), now])

    def release(self) -> None:
        """Let others have the run: this is its regular end. Harmless when repeated."""
        if self._lock:
            self._write([])
            self._lock.close()
            self._lock = None

    def _read(self) -> list[dict[str, Any]]:
        try:
            holders = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return []
        return [one for one in holders if _is_holder(one)] if isinstance(holders, list) else []

    def _write(self, holders: list[dict[str, Any]]) -> None:
        content = json.dumps(holders).encode() if holders else b""
        try:
            os.ftruncate(self.descriptor, 0)
            os.write(self.descriptor, content)
        except OSError:
            pass  # a full disk: the lock itself needs no room


def _is_holder(one: Any) -> bool:
    kinds = {"pid": int, "host": str, "since_unix_s": (int, float)}
    return isinstance(one, dict) and all(isinstance(one.get(name), kind) for name, kind in kinds.items())


def _alive(holders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that run; of another host's nobody here knows, and they are taken for alive."""
    return [one for one in holders if one["host"] != socket.gethostname() or _runs(one["pid"], one["since_unix_s"])]


def _runs(pid: int, since_unix_s: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() <= since_unix_s + 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _names(holders: list[dict[str, Any]]) -> str:
    return " and ".join(map(_name, holders)) or "another process"


def _name(holder: dict[str, Any]) -> str:
    where = "" if holder["host"] == socket.gethostname() else f" on {holder['host']}"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["since_unix_s"]))
    return f"process {holder['pid']}{where} (since {since})"

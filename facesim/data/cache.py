"""Folders that are made once and found again: written whole or not at all, private, and checked when they are found.

`checks.json` in each has the size, the time of change and the checksums (CRC-32C of every MiB) of its other files. At
each start sizes are compared and some blocks of each file read; all of them where the time of change is another one.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import google_crc32c

from facesim.util.disk import is_full
from facesim.util.errors import InputError
from facesim.util.files import open_regular, read_text
from facesim.util.folders import make_own_folder

CHECKS = "checks.json"

_BLOCK = 1 << 20

#: So many blocks of a file that seems unchanged are read, chosen anew each time: 16 MB, some 10 ms.
_SAMPLED = 16

#: Seconds until an interruption that was not heard is repeated.
_AGAIN_S = 1.0

_LOCK = "lock"
_STALE_S = 24 * 3600

#: What `made_once` calls a folder that it writes or puts aside: FACESIM_CACHE may name one that holds other things.
_LEFT_OVER = re.compile(r"\.[0-9a-f]{24}\.[0-9a-f]{32}(\.old)?")

_Made = TypeVar("_Made")


def made_once(
    cache_dir: Path, key: str, write: Callable[[Path], str | None], load: Callable[[Path], _Made]
) -> tuple[_Made, str | None]:
    """What `load` reads from the folder `key`, 24 hexadecimal digits, of `cache_dir`, which `write` makes if it is not
    there; and, where it was there and damaged, why it was made again.

    write returns None, or what the folder is called in place of `key`, so that it is used now and not found again. load
    raises InputError for a folder that is no use. Ended early, by SIGTERM too, it leaves nothing behind.

    Raises:
        InputError: the folder cannot be written.
    """
    directory, damaged = cache_dir / key, None
    if directory.exists():
        try:
            return _checked(directory, load), None
        except InputError as error:
            damaged = str(error)
    try:
        make_own_folder(cache_dir)
        _remove_left_over(cache_dir)
        new = cache_dir / f".{key}.{uuid.uuid4().hex}"
        new.mkdir()
    except OSError as error:
        raise InputError(
            f"cannot write to {cache_dir}: {error.strerror}. Name a folder that you may write to with FACESIM_CACHE."
        ) from error
    try:
        with signals_interrupt():
            with _locked(new / _LOCK):
                if called := write(new):
                    directory = cache_dir / called
                _seal(new)
            _publish(new, directory, load)
    except OSError as error:
        if is_full(error):
            raise InputError(_no_room(cache_dir, "more bytes")) from error
        raise InputError(
            f"the data could not be prepared in {cache_dir}: {error}. Repair that, or name another folder with "
            f"FACESIM_CACHE."
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return load(directory), damaged


@contextmanager
def room_for(directory: Path, needed: int) -> Iterator[None]:
    """Write `needed` bytes to `directory`, and say so where there is no room for them, before or while writing.

    Raises:
        InputError: the disk is full.
    """
    if needed > shutil.disk_usage(directory).free:
        raise InputError(_no_room(directory.parent, f"{needed:,} bytes"))
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise InputError(_no_room(directory.parent, f"{needed:,} bytes")) from error
        raise


def _no_room(cache_dir: Path, needed: str) -> str:
    free = shutil.disk_usage(cache_dir).free
    return (
        f"no room to prepare the data in {cache_dir}: {needed} are needed and {free:,} are free. Free some, name a "
        f"folder on another disk with FACESIM_CACHE, or use a smaller --image-size or --cache none."
    )


def check(directory: Path, whole: bool = False) -> None:
    """Compare a folder's files with what was written: sizes, and checksums of some blocks, or of all.

    All are read where `whole` says so, and of a file whose time of change is another one.

    Raises:
        InputError: a file has changed.
    """
    try:
        checks = json.loads(read_text(directory / CHECKS))
        for name, facts in checks.items():
            _check_file(directory / name, facts["bytes"], facts["mtime_ns"], facts["crc32c"], whole)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = error.args[0] if isinstance(error, _Changed) else f"{CHECKS} cannot be read ({error})"
        raise InputError(
            f"{directory} has changed since it was written: {problem}. Delete the folder and prepare it again."
        ) from error


class _Changed(ValueError):
    """A file is not what was written."""


def _check_file(path: Path, size: int, mtime_ns: int, sums: list[int], whole: bool) -> None:
    try:
        with open_regular(path) as file:
            stat = os.fstat(file.fileno())
            if stat.st_size != size:
                raise _Changed(f"{path.name} has {stat.st_size:,} bytes instead of {size:,}")
            touched = stat.st_mtime_ns != mtime_ns
            blocks = range(len(sums))
            if not (whole or touched) and len(sums) > _SAMPLED:
                blocks = sorted({0, len(sums) - 1, *random.sample(blocks, _SAMPLED - 2)})
            for block in blocks:
                file.seek(block * _BLOCK)
                if google_crc32c.value(file.read(_BLOCK)) != sums[block]:
                    raise _Changed(f"the checksum of {path.name} does not match at byte {block * _BLOCK:,}")
    except OSError as error:
        raise _Changed(f"{path.name}: {error.strerror}") from error
    if touched:
        try:
            os.utime(path, ns=(stat.st_atime_ns, mtime_ns))  # its bytes are those: the next start is quick again
        except OSError:
            pass


def _seal(directory: Path) -> None:
    checks = {}
    for path in sorted(directory.rglob("*")):
        if path.is_dir() or path == directory / _LOCK:
            continue
        with path.open("rb") as file:
            sums = [google_crc32c.value(block) for block in iter(lambda: file.read(_BLOCK), b"")]
            stat = os.fstat(file.fileno())
        checks[path.relative_to(directory).as_posix()] = {
            "bytes": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "crc32c": sums,
        }
    (directory / CHECKS).write_text(json.dumps(checks), encoding="utf-8")


def _checked(directory: Path, load: Callable[[Path], _Made]) -> _Made:
    loaded = load(directory)
    check(directory)
    return loaded


def _publish(new: Path, directory: Path, load: Callable[[Path], _Made]) -> None:
    """Give the finished folder its name in one step, so that nobody ever sees half of it."""
    try:
        os.replace(new, directory)
    except OSError:
        # Something has that name already: another process was faster and its folder is as good, or it is damaged.
        try:
            _checked(directory, load)
        except InputError:
            os.replace(directory, new.with_name(f"{new.name}.old"))
            os.replace(new, directory)
            shutil.rmtree(new.with_name(f"{new.name}.old"), ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file that is there meanwhile; the system gives it up when this process ends, however it ends."""
    unlocked = path.with_name(f"{path.name}.new")
    with unlocked.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.replace(unlocked, path)  # so that nobody ever finds it without its lock
        except OSError:  # a file system without locks: what is left there goes by its age
            unlocked.unlink()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _remove_left_over(cache_dir: Path) -> None:
    """Remove what killed preparations left: those whose lock nobody holds, and those too old to be going on."""
    for left_over in cache_dir.iterdir():
        if not _LEFT_OVER.fullmatch(left_over.name):
            continue
        try:
            if left_over.is_dir() and (_abandoned(left_over) or time.time() - left_over.stat().st_mtime > _STALE_S):
                shutil.rmtree(left_over, ignore_errors=True)
        except OSError:  # gone meanwhile
            continue


def _abandoned(directory: Path) -> bool:
    try:
        with (directory / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held; or there is none, as in the moments before and after writing
        return False
    return True


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what is done here as Ctrl-C does, so that it is cleaned up, where nobody else has a
    use for them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    unhandled = [
        number for number, handler in before.items() if handler in (signal.SIG_DFL, signal.default_int_handler)
    ]
    again = signal.getsignal(signal.SIGALRM) is signal.SIG_DFL

    def interrupt(*_: object) -> None:
        # An exception that is raised within a callback of the interpreter, as while it imports, is lost.
        if again:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        raise KeyboardInterrupt

    for number in [*unhandled, signal.SIGALRM] if again else unhandled:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        if again:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for number in unhandled:
            signal.signal(number, before[number])

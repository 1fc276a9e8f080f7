"""Disks that are full: the message for users, and room that is kept so that the end can still be written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from facesim.util.errors import DiskFull

#: No room on the disk; no room within the user's share of it; no room within the limit of a file's size (`ulimit -f`).
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: What to do where what did not fit is tried again.
MAKE_ROOM = "make room there"

_RESERVE_BYTES = 256 * 1024
_RESERVE = ".reserve"


def is_full(error: OSError) -> bool:
    """Whether something could not be written because there is no room for it."""
    return error.errno in _FULL


def no_room(folder: Path, remedy: str = "make room there, or name a folder on another disk with --output") -> str:
    """The message when `folder` has no room: its name, what is free, what to do."""
    limit = _file_limit_bytes()
    why = f"{free_bytes(folder) / 1e6:,.1f} MB are free on its disk"
    if limit is not None:
        why += f", and no file may be larger than {limit / 1e6:,.1f} MB (ulimit -f)"
    return f"there is no room left in {folder}: {why}; {remedy}"


def free_bytes(folder: Path) -> int:
    """What is free on the disk of `folder`, or of what there is of its path that this user may see."""
    there = next((place for place in (folder, *folder.absolute().parents) if os.path.exists(place)), Path("/"))
    return shutil.disk_usage(there).free


def probe(folder: Path, size_bytes: int) -> None:
    """Write so much to `folder` and remove it again, with every folder that had to be made for it.

    Raises:
        OSError: it does not take that.
        ValueError: nothing can be called so.
    """
    made = []
    try:
        for place in reversed((folder.absolute(), *folder.absolute().parents)):
            if not place.is_dir():
                place.mkdir()
                made.append(place)
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(os.urandom(size_bytes))  # not zeros, which some file systems give no room
            file.flush()
            os.fsync(file.fileno())
    finally:
        for place in reversed(made):
            with suppress(OSError):
                place.rmdir()


@contextmanager
def writing_to(folder: Path, remedy: str | None = None) -> Iterator[None]:
    """While something is written to `folder`.

    Raises:
        DiskFull: there is no room for it.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise DiskFull(no_room(folder, remedy) if remedy else no_room(folder)) from None


def reserve(folder: Path) -> None:
    """Keep room in `folder` for what `release` makes room for.

    Raises:
        OSError: there is none.
    """
    (folder / _RESERVE).write_bytes(os.urandom(_RESERVE_BYTES))  # not zeros, which some file systems give no room


def release(folder: Path) -> None:
    """Make room for the little that has to be written at the end, also on a disk that is full."""
    (folder / _RESERVE).unlink(missing_ok=True)


def _file_limit_bytes() -> int | None:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else soft

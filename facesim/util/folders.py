"""Folders that a user names, and where facesim keeps, on this user's account, what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from facesim.util.errors import InputError
from facesim.util.files import written_ns

#: The folder of runs where none is named.
RUNS = Path("runs")


def local_path(given: str | os.PathLike[str]) -> Path:
    """A path that a user gave, in which `~` is a home folder, as in a shell.

    Raises:
        InputError: it is none.
    """
    if not isinstance(given, (str, os.PathLike)):
        raise InputError(f"{given!r} is no path; give a text or a pathlib.Path", value=given)
    return Path(os.path.expanduser(given))


def path_named_by(variable: str, default: Path) -> Path:
    """What a variable of the environment names, in which `~` is a home folder; `default` where it names nothing."""
    return local_path(os.environ.get(variable) or default)


def cache_folder() -> Path:
    """The user's cache folder, or the one that `FACESIM_CACHE` names. It need not exist yet."""
    return path_named_by("FACESIM_CACHE", platformdirs.user_cache_path("facesim"))


def state_folder() -> Path:
    """The user's folder for what is kept and cannot be made again, or the one for caches that `FACESIM_CACHE` names. It
    need not exist yet.
    """
    return path_named_by("FACESIM_CACHE", platformdirs.user_state_path("facesim"))


def is_kept(file: Path) -> bool:
    """Whether there is this file of one of these folders.

    Raises:
        InputError: this user may not look.
    """
    return written_ns(file, "FACESIM_CACHE") is not None


def make_own_folder(folder: Path) -> None:
    """Make a folder that only this user may enter, unless it is there. The user's own cache folder is made so as well
    where it was not; one that was named stays as it was.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    default = platformdirs.user_cache_path("facesim")
    if folder == default and folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)

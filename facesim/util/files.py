"""Files that are written whole or not at all, files that are appended to whatever room the disk has, files of users."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from facesim.util.disk import is_full
from facesim.util.errors import InputError, reason
from facesim.util.unused import printable


def read_toml(path: str | Path, option: str) -> dict[str, Any]:
    """What the TOML file that a user gave as `option` holds; one that is called .json is read as JSON.

    Raises:
        InputError: it cannot be read.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    is_json = Path(path).suffix == ".json"
    kind, parse = ("JSON", json.loads) if is_json else ("TOML", tomllib.loads)
    try:
        content = parse(read_text(path))
    except RecursionError:
        raise InputError(f"{option} {path} cannot be read as {kind}: its values are nested too deep") from None
    except OSError as error:
        raise InputError(f"{option} {path} cannot be read: {why_unread(error)}") from None
    except ValueError as error:
        raise InputError(f"{option} {path} cannot be read as {kind}: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{option} {path} holds no options: it has to be a JSON object")
    return content


class NotAFile(OSError):
    """What a path names is there, but is no regular file; the message says what it is."""


_KINDS = {
    stat.S_IFDIR: "a folder, not a file",
    stat.S_IFIFO: "a named pipe (FIFO), not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


def open_regular(path: str | Path) -> BinaryIO:
    """Open a user's file to read its bytes, if it is one: what is no regular file is never opened, so nothing waits.

    A pipe waits for somebody who writes to it, and a device may do anything. Links are followed.

    Raises:
        NotAFile: it is a folder, a pipe, a socket or a device.
        OSError, ValueError: as of `open`. `why_unread` has words for all of these.
    """
    _check_regular(os.stat(path).st_mode)
    # It may have been replaced meanwhile: opening a pipe without waiting does no harm, and it is looked at again.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check_regular(os.fstat(descriptor).st_mode)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A user's file, opened by `open_regular` to be read piece by piece.

    Raises:
        InputError: it cannot be opened or read; the message says why.
    """
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: {why_unread(error)}. Give a file that you may read.") from error


def read_bytes(path: str | Path) -> bytes:
    """The content of a file that a user, or a run, has, opened by `open_regular`; raises what that does."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: str | Path) -> str:
    """The same as text in UTF-8, without the mark that some editors begin it with; a UnicodeDecodeError is a
    ValueError.
    """
    return read_bytes(path).decode("utf-8-sig")


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFile(kind_of_file(mode))


def kind_of_file(mode: int) -> str:
    """What a file of `st_mode` is, in words; for what is no regular file."""
    return _KINDS.get(stat.S_IFMT(mode), "not a regular file")


_ERRNO_WORDS = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.EACCES: "no permission to read",
    errno.EPERM: "no permission to read",
    errno.ELOOP: "a loop of links",
    errno.ENAMETOOLONG: "its path is too long",
}


def why_unread(error: OSError | ValueError) -> str:
    """Why `open_regular`, or reading from what it opened, failed: a few words without the path."""
    if isinstance(error, NotAFile):
        return str(error)
    if isinstance(error, OSError):
        return _ERRNO_WORDS.get(error.errno or 0, f"cannot be read ({error.strerror or error})")
    return "a path that no file can have"  # a NUL, or a character that the file system cannot store


def written_ns(file: Path, variable: str) -> int | None:
    """When a file of facesim's own was written, in nanoseconds since 1970; None: there is none. `variable` of the
    environment names it, or its folder.

    Raises:
        InputError: this user may not look.
    """
    try:
        return os.stat(file).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{file}: {why_unread(error)}; name another place with {variable}") from None


def check_replaceable(path: Path) -> None:
    """Raise NotAFile if what has this name is no regular file; there need be none."""
    with suppress(FileNotFoundError):
        _check_regular(os.stat(path).st_mode)


def check_new(output: Path) -> None:
    """Raise InputError if there is something called `output`, or no folder for it that can be written to."""
    if os.path.lexists(output):
        raise InputError(f"{output} already exists; name another", field="output", value=str(output))
    if not (folder := output.absolute().parent).is_dir():
        raise InputError(f"{folder} is no folder; make it, or name another", field="output", value=str(output))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written to; name another", field="output", value=str(output))


def check_outside(output: Path, folder: Path) -> None:
    """Raise InputError if `output` would be part of what is read from `folder`."""
    if Path(os.path.realpath(output)).is_relative_to(os.path.realpath(folder)):
        raise InputError(
            f"{printable(str(output))} lies in {printable(str(folder))}, and would be part of it; name a place outside",
            field="output",
            value=str(output),
        )


def json_content(value: Any) -> Any:
    """`value` as JSON can have it: tuples are lists, keys are texts, and numbers that are not finite are null."""
    if isinstance(value, dict):
        return {str(key): json_content(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_content(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: to a temporary name beside it, then renamed.

    Raises:
        NotAFile: what has the name is no regular file, and is left as it is.
        OSError: it cannot be written.
    """
    check_replaceable(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def made_whole(output: Path) -> Iterator[Path]:
    """Where to write a file or folder that gets its name once it is whole; else nothing of it is left.

    Raises:
        FileExistsError: meanwhile something else got the name, and keeps it.
    """
    new = output.with_name(f".{os.getpid()}-{output.name}")
    try:
        yield new
        if os.path.lexists(output):
            raise FileExistsError(errno.EEXIST, "something else was written there meanwhile", str(output))
        os.replace(new, output)
    finally:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            with suppress(OSError):
                new.unlink(missing_ok=True)


def append(path: Path, content: bytes, *, fresh_line: bool = False) -> bytes:
    """Append to a file what fits on its disk; return the rest.

    With `fresh_line` it starts on a line of its own: that of a process that crashed while it wrote may be torn, and
    must not swallow what comes now.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        return _kept_if_full(error, content)
    try:
        return written(file, b"\n" + content if fresh_line and in_a_line(file) else content)
    finally:
        os.close(file)


def in_a_line(file: int) -> bool:
    """Whether an open file ends within a line."""
    size = os.fstat(file).st_size
    return bool(size) and os.pread(file, 1, size - 1) != b"\n"


def written(file: int, content: bytes) -> bytes:
    """Write to an open file what fits on its disk; return the rest."""
    try:
        return content[os.write(file, content) :]
    except OSError as error:
        return _kept_if_full(error, content)


def _kept_if_full(error: OSError, content: bytes) -> bytes:
    if not is_full(error):
        raise error
    return content


class LineTail:
    """The lines that others append to a file, as they come."""

    def __init__(self, file: Path):
        self._file = file
        self._read = 0

    def new(self, whole: bool = True) -> list[bytes]:
        """The lines that have come since the last time, none while there is no file; `whole`: one that is still being
        written comes next time.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            with open_regular(self._file) as file:
                file.seek(self._read)
                content = file.read()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f"cannot read {self._file}: {reason(error)}") from None
        if whole:
            content, end, _ = content.rpartition(b"\n")
            content += end
        self._read += len(content)
        return content.splitlines()


def check_fits_memory(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a zip file that would not fit into the memory, before anything of it is unpacked.

    Raises:
        InputError: it is too large.
    """
    import psutil

    size, free = sum(entry.file_size for entry in archive.infolist()), psutil.virtual_memory().available
    if size > free:
        raise InputError(
            f"{path} unpacks to {size / 2**30:,.1f} GiB and {free / 2**30:,.1f} GiB of memory are free. Name a file "
            f"that fits."
        )

"""Checkpoints: all that a training needs to continue as if nothing had happened, one file each, for any strategy.

A file is a NumPy archive of the variables' values in the model's and the optimiser's order, and of how far training has
come, as JSON. It says nothing of who held which variable, so any strategy with any number of workers can continue from
it. It is written under another name, then renamed, so that a copy of the folder taken at any moment holds whole ones
only.

The archive lists its variables, and after it comes the SHA-256 of all its bytes (which readers of archives pass over):
one that is damaged in any way is recognised. Reading executes nothing. What is damaged is renamed, so that it is not
tried again and takes no whole one's place. Archives of earlier versions have neither list nor checksum; of these the
archive's own checksums are all that is checked.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cluster import clock
from facesim.util.errors import FacesimError
from facesim.util.files import check_fits_memory, open_regular
from facesim.util.words import count_text

_PREFIX, _SUFFIX = "checkpoint-", ".npz"
_DAMAGED = "damaged-"
#: The name, in the archive, of how far training has come.
_STATE = "course"

#: What comes between the archive and its checksum.
_MARK = b"facesim SHA-256:"
_DIGEST_BYTES = hashlib.sha256().digest_size
_PIECE_BYTES = 2**20


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read. `state` says how far training had come, `saved_unix_s` when it was written."""

    file: Path
    variables: list[np.ndarray]
    state: dict[str, Any]
    saved_unix_s: float


class Checkpoints:
    """A folder of checkpoints, of which the newest `keep` are kept."""

    def __init__(self, directory: Path, keep: int):
        self._directory = directory
        self._keep = keep

    def save(self, step: int, variables: list[np.ndarray], state: dict[str, Any]) -> Path:
        """Write one, named after the parameters' version `step`; then let go of what is too old.

        Raises:
            OSError: it could not be written; those that were there still are.
        """
        file = self._directory / f"{_PREFIX}{step:09d}{_SUFFIX}"
        temporary = self._directory / f".{file.name}.{os.getpid()}"
        listed = [[value.dtype.str, list(value.shape)] for value in variables]
        described = json.dumps({"saved_unix_s": clock.time_unix_s(), "variables": listed, **state}).encode()
        arrays = {f"variable_{number:04d}": value for number, value in enumerate(variables)}
        try:
            with temporary.open("wb") as stream:
                hashed = _Hashed(stream)
                np.savez(hashed, **{_STATE: np.frombuffer(described, np.uint8)}, **arrays)
                stream.write(_MARK + hashed.digest())
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
        for old in [other for other in self.files() if other != file][self._keep - 1 :]:
            _remove(old)
        return file

    def files(self) -> list[Path]:
        """Those there are, but for damaged ones that have been found; the newest first."""
        return self._numbered(_PREFIX)

    def newest(
        self, damaged: Callable[[Path, str], None], check: Callable[[Checkpoint], None] = lambda _: None
    ) -> Checkpoint | None:
        """The newest that is whole, None if there is none. `damaged` is called with each that is passed over, and why.

        `check` looks at one that could be read; with a ValueError it says that it is damaged nevertheless.
        """
        for leftover in self._directory.glob(f".{_PREFIX}[0-9]*{_SUFFIX}.[0-9]*"):  # of a writer that was killed
            _remove(leftover)
        for file in self.files():
            try:
                with open_regular(file) as stream:
                    checkpoint = read(stream, file)
                check(checkpoint)
                return checkpoint
            except FileNotFoundError:  # the task that writes them was the first to find it damaged
                continue
            except FacesimError:
                raise
            except Exception as error:  # damaged archives make NumPy and zipfile raise whatever there is
                damaged(file, str(error) or type(error).__name__)
        return None

    def put_aside(self, file: Path) -> None:
        """Rename a damaged one. As many of these are kept as of whole ones."""
        with suppress(OSError):
            file.replace(file.with_name(_DAMAGED + file.name))
            for old in self._numbered(_DAMAGED + _PREFIX)[self._keep :]:
                _remove(old)

    def _numbered(self, prefix: str) -> list[Path]:
        """The files called `prefix`, a number, .npz; the highest number first."""
        name = re.compile(re.escape(prefix) + r"(\d+)" + re.escape(_SUFFIX))
        numbers = {file: int(match[1]) for file in self._directory.iterdir() if (match := name.fullmatch(file.name))}
        return sorted(numbers, key=numbers.__getitem__, reverse=True)


def _remove(file: Path) -> None:
    """Remove a file; what somebody else has called like one of ours, and is none, stays."""
    with suppress(OSError):
        file.unlink(missing_ok=True)


def read(stream: IO[bytes], file: Path) -> Checkpoint:
    """The checkpoint in the bytes of a `file`.

    Raises:
        Exception: anything, when it is damaged.
    """
    has_checksum = _check_bytes(stream)
    stream.seek(0)
    with zipfile.ZipFile(stream) as archive:
        check_fits_memory(archive, file)
    stream.seek(0)
    with np.load(stream) as archive:
        state = json.loads(archive[_STATE].tobytes())
        variables = [archive[name] for name in sorted(archive.files) if name != _STATE]
    listed = state.pop("variables", None)
    if listed is not None:
        held = [[value.dtype.str, list(value.shape)] for value in variables]
        if not has_checksum:
            raise ValueError("its checksum is missing")
        if held != listed:
            raise ValueError(f"it lists {count_text(len(listed), 'variable')} and holds {len(held)}, or others")
    return Checkpoint(file, variables, state, state.pop("saved_unix_s"))


def _check_bytes(stream: IO[bytes]) -> bool:
    """Whether a file ends with a checksum.

    Raises:
        ValueError: it does, and the checksum is another than that of what comes before.
    """
    size = stream.seek(0, os.SEEK_END) - len(_MARK) - _DIGEST_BYTES
    if size < 0:
        return False
    stream.seek(size)
    mark, expected = stream.read(len(_MARK)), stream.read()
    if mark != _MARK:
        return False
    stream.seek(0)
    digest = hashlib.sha256()
    while size and (piece := stream.read(min(size, _PIECE_BYTES))):
        digest.update(piece)
        size -= len(piece)
    if digest.digest() != expected:
        raise ValueError("its bytes do not have the checksum that they were written with")
    return True


class _Hashed(io.RawIOBase):
    """Writes to a stream, from its begin to its end, and keeps the checksum of what it wrote."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self._digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return self._stream.write(content)

    def digest(self) -> bytes:
        return self._digest.digest()

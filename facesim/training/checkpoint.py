"""Checkpoints: everything that a training needs to go on as if nothing had happened, one file each, for any strategy.

A file is a NumPy archive of the variables' values in the model's and the optimiser's order, and of how far training has
come, as JSON. It says nothing of who held which variable, so any strategy with any number of workers can go on from it.
It is written under another name, then renamed, so that a copy of the folder taken at any moment holds whole ones only;
the archive's CRCs tell a damaged one from a whole one, and reading it executes nothing.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster import clock

_PREFIX, _SUFFIX = "checkpoint-", ".npz"
_COURSE = "course"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read. `course` says how far training had come, `saved_unix_s` when."""

    file: Path
    variables: list[np.ndarray]
    course: dict[str, Any]
    saved_unix_s: float


class Checkpoints:
    """A folder of checkpoints, of which the newest `keep` are kept."""

    def __init__(self, directory: Path, keep: int):
        self._directory = directory
        self._keep = keep

    def save(self, step: int, variables: list[np.ndarray], course: dict[str, Any]) -> Path:
        """Write one, named after the parameters' version `step`; then let go of what is too old.

        Raises:
            OSError: it could not be written; those that were there still are.
        """
        file = self._directory / f"{_PREFIX}{step:09d}{_SUFFIX}"
        temporary = self._directory / f".{file.name}.{os.getpid()}"
        said = json.dumps({"saved_unix_s": clock.time_unix_s(), **course}).encode()
        arrays = {f"variable_{number:04d}": value for number, value in enumerate(variables)}
        try:
            with temporary.open("wb") as stream:
                np.savez(stream, **{_COURSE: np.frombuffer(said, np.uint8)}, **arrays)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
        for old in self.files()[self._keep :]:
            old.unlink()
        return file

    def files(self) -> list[Path]:
        """Those there are, the newest first."""
        return sorted(self._directory.glob(f"{_PREFIX}*{_SUFFIX}"), reverse=True)

    def newest(self, damaged: Callable[[Path, str], None]) -> Checkpoint | None:
        """The newest that is whole, None if there is none. `damaged` is told of each that is passed over, and why."""
        for leftover in self._directory.glob(f".{_PREFIX}*"):  # of a writer that was killed
            leftover.unlink(missing_ok=True)
        for file in self.files():
            try:
                return _read(file)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                damaged(file, str(error))
        return None


def _read(file: Path) -> Checkpoint:
    with np.load(file) as archive:
        course = json.loads(archive[_COURSE].tobytes())
        variables = [archive[name] for name in sorted(archive.files) if name != _COURSE]
    return Checkpoint(file, variables, course, course.pop("saved_unix_s"))

"""Data that hosts read and prepare themselves: what is known of it here, which is little."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from facesim.data.decode import BadFile
from facesim.spec.data import DataSpec
from facesim.util.errors import InputError
from facesim.util.unused import Unused


@dataclass(frozen=True, eq=False)
class UnseenData:
    """In place of `facesim.data.prepared.PreparedData`. `directory` is its address; files and bytes are None where they
    cannot be counted from here.
    """

    directory: str
    image_shape: tuple[int, int, int]
    notes: tuple[str, ...]
    files: int | None = None
    bytes: int | None = None

    #: Two people are needed at least; more is not known.
    names: ClassVar[tuple[str, ...]] = ("", "")
    unused: ClassVar[tuple[Unused, ...]] = ()
    bad_files: ClassVar[tuple[BadFile, ...]] = ()
    sha256: ClassVar[None] = None

    @property
    def name(self) -> str:
        return self.directory

    @property
    def prepared_bytes(self) -> int:
        """What its images take once hosts have decoded them, were every file an image."""
        return (self.files or 0) * math.prod(self.image_shape)

    def notes_for(self, spec: DataSpec) -> tuple[str, ...]:
        return self.notes

    def split(self, spec: DataSpec) -> NoReturn:
        raise InputError(f"{self.directory} is read by hosts alone: what is trained on and tested is not known here")

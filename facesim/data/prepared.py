"""A prepared data set, as `facesim.data.prepare` wrote it, and which of its images are trained on and tested."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facesim.data.cache import check
from facesim.data.decode import BadFile
from facesim.data.parts import TRAIN
from facesim.data.splits import split_note, split_of
from facesim.data.stored import FILES, TURNS, StoredImages
from facesim.spec.data import DataSpec
from facesim.util.errors import InputError
from facesim.util.files import read_text
from facesim.util.unused import Unused

FORMAT_VERSION = 11
"""Raised whenever the folder's format, or the way a source is read or images are decoded, changes."""

PARTS_FILE = "parts.i1"
#: What a prepared folder is, and that it is one.
FACTS_FILE = "dataset.json"

_MOST_LABEL_BYTES = 1 << 34  # of four thousand million images


@dataclass(frozen=True, eq=False)
class PreparedData:
    """A prepared folder, loaded.

    name: what the user called it. image_shape: (height, width, channels). labels: int32 (n,). names and groups: one an
    identity, in label order; a group is None where the source tells none. sha256: of the images' and labels' bytes.
    decoded: whether the images are kept as pixels. unused: what of the source is not used, by reason, the most frequent
    first; unreadable files are counted there too. parts: of each image, int8 (n,), where the data has a split of its
    own that is kept (`facesim.data.parts`). What a user should know, in sentences: split_notes of the images of that
    split, source_notes of how the source was read, repairs of what was damaged and has been prepared again just now.
    """

    directory: Path
    name: str
    image_shape: tuple[int, int, int]
    labels: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str | None, ...]
    bad_files: tuple[BadFile, ...]
    sha256: str
    decoded: bool = True
    unused: tuple[Unused, ...] = ()
    parts: np.ndarray | None = None
    split_notes: tuple[str, ...] = ()
    source_notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, whatever of it is trained on and tested."""
        return (*self.split_notes, *self.source_notes, *self.repairs)

    def notes_for(self, spec: DataSpec) -> tuple[str, ...]:
        """All that a user should know of it where `spec` says what is trained on and tested.

        Raises:
            InputError: as of `split`, of a split of its own.
        """
        return self.notes if self.parts is None else (split_note(self.labels, spec, self.parts), *self.notes)

    def split(self, spec: DataSpec) -> tuple[np.ndarray, np.ndarray]:
        """The images to train on and those to test on: indices, int64, ascending. Images of a part that is neither are
        in none. This is where it is decided for all: training, baselines, forecasts, evaluation.

        Raises:
            InputError: `spec` asks for a part that there is not, or a share that is no share.
        """
        return split_of(self.labels, spec, self.parts)

    @property
    def images(self) -> np.ndarray | StoredImages:
        """uint8 (n, height, width, channels), read-only, mapped from the file: nothing is loaded until it is used.
        Where there are no decoded images, what is asked for is decoded each time.
        """
        if not self.decoded:
            return StoredImages(self.directory, self.image_shape)
        return mapped(self.directory, len(self.labels), self.image_shape)

    @property
    def origins(self) -> list[str]:
        """Where each image was found in the source: a path below its folder, or a place in a file of many."""
        return json.loads(read_text(self.directory / "origins.json"))

    @classmethod
    def load(cls, directory: Path) -> PreparedData:
        """Open a folder that `prepare` wrote. Raises InputError if it is missing, damaged or of another version."""
        directory = Path(directory)
        try:
            if (directory / "labels.npy").stat().st_size > _MOST_LABEL_BYTES:
                raise ValueError("labels.npy is too large for labels")
            facts = json.loads(read_text(directory / FACTS_FILE))
            if facts["format_version"] != FORMAT_VERSION:
                raise ValueError(f"its format is {facts['format_version']}, this facesim reads {FORMAT_VERSION}")
            data = cls(
                directory=directory,
                name=facts["name"],
                image_shape=tuple(facts["image_shape"]),
                labels=np.load(directory / "labels.npy", allow_pickle=False),
                names=tuple(facts["names"]),
                groups=tuple(facts["groups"]),
                bad_files=tuple(BadFile(**bad_file) for bad_file in facts["bad_files"]),
                sha256=facts["sha256"],
                decoded=facts["decoded"],
                unused=tuple(Unused(**{**one, "examples": tuple(one["examples"])}) for one in facts["unused"]),
                parts=np.fromfile(directory / PARTS_FILE, np.int8) if facts["own_split"] else None,
                split_notes=tuple(facts["split_notes"]),
                source_notes=tuple(facts["source_notes"]),
            )
            if data.parts is not None and (data.parts.shape != data.labels.shape or TRAIN not in data.parts):
                raise ValueError(f"{PARTS_FILE} does not give {facts['count']} images their part")
            if data.decoded:
                file, due = "images.u8", facts["count"] * int(np.prod(data.image_shape))
            else:
                file, due = TURNS, facts["count"] * 4
                if (directory / FILES).read_bytes().count(b"\0") != facts["count"]:
                    raise ValueError(f"{FILES} does not name {facts['count']} files")
            seen = (directory / file).stat().st_size
            if seen != due:
                raise ValueError(f"{file} has {seen} bytes instead of {due}")
            if data.labels.shape != (facts["count"],) or data.labels.dtype != np.int32:
                seen = f"{data.labels.dtype} {data.labels.shape}"
                raise ValueError(f"labels.npy is {seen} instead of int32 ({facts['count']},)")
            if len(data.names) != len(data.groups) or set(np.unique(data.labels)) != set(range(len(data.names))):
                raise ValueError(f"labels, {len(data.names)} names and {len(data.groups)} groups do not match")
        except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError) as error:
            problem = f"{type(error).__name__}: {error}" if isinstance(error, (KeyError, TypeError)) else error
            raise InputError(
                f"{directory} is no usable prepared data set: {problem}. Delete the folder and prepare it again."
            ) from error
        return data

    def verify(self) -> None:
        """Raise InputError unless every byte is as it was written; reads the whole data set."""
        check(self.directory, whole=True)


def mapped(directory: Path, count: int, image_shape: tuple[int, int, int]) -> np.ndarray:
    return np.memmap(directory / "images.u8", np.uint8, "r", shape=(count, *image_shape))

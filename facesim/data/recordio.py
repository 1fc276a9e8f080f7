"""InsightFace's record files: `train.rec` with images, `train.idx` with where each begins, `property` with how many
people.

The format is MXNet's RecordIO (dmlc-core, `include/dmlc/recordio.h`): a record is a magic number, a word that has its
length and whether it is a part of a longer one, the content, and zeros up to the next multiple of 4. The content is a
header (mxnet, `python/mxnet/recordio.py`: flag, label, two ids; `flag` labels more follow) and an encoded image. Where
record 0 has labels of its own, the first is where the images end; what comes after is InsightFace's, about identities.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from facesim.data.rendering import Progress
from facesim.errors import InputError

_MAGIC = struct.pack("<I", 0xCED7230A)
_WORDS = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")
_LENGTH_BITS = 29
_WHOLE, _BEGIN, _MIDDLE, _END = range(4)

#: More labels than any record has: beyond it the header is not one.
_MOST_LABELS = 1 << 16

_REMEDY = "Copy or download the file again."


class Record(NamedTuple):
    """One record: its labels, and the encoded image."""

    labels: tuple[float, ...]
    image: bytes


class Index(NamedTuple):
    """Where each image begins, int64 (n,), and whom it shows, int64 (n,)."""

    offsets: np.ndarray
    labels: np.ndarray


def read_index(path: Path, progress: Progress) -> Index:
    """Find every image of the record file `path`, by the `.idx` beside it if there is one; images are not read.

    Raises:
        InputError: a file is damaged; the message says at which byte, or line.
    """
    listed = path.with_suffix(".idx")
    with path.open("rb") as file:
        places = _listed(listed, path.stat().st_size) if listed.is_file() else _walked(file, path)
        if len(places) == 0:
            raise InputError(f"{path} holds no records. {_REMEDY}")
        first = read_record(file, path, places[0])
        if len(first.labels) > 1 and not first.image:
            end = int(first.labels[0])
            if not 1 < end <= len(places):
                raise InputError(
                    f"{path}: record 0 says that the images end at record {end}, and there are {len(places)}. {_REMEDY}"
                )
            places = places[1:end]
        labels = np.empty(len(places), np.int64)
        for number, offset in enumerate(places):
            labels[number] = _label(_read_labels(file, path, offset), path, offset)
            if number % 1000 == 999 or number + 1 == len(places):
                progress("reading labels", number + 1, len(places))
    _check_property(path.with_name("property"), labels)
    return Index(np.asarray(places, np.int64), labels)


def read_record(file: BinaryIO, path: Path, offset: int) -> Record:
    """The record that begins at byte `offset` of `file`.

    Raises:
        InputError: no whole record begins there.
    """
    content = b"".join(_contents(file, path, offset))
    if len(content) < _HEADER.size:
        raise InputError(f"{path}: the record at byte {offset:,} has {len(content)} bytes, too few. {_REMEDY}")
    flag, label, *_ = _HEADER.unpack_from(content)
    image = _HEADER.size + 4 * flag
    if flag > _MOST_LABELS or len(content) < image:
        raise InputError(
            f"{path}: the record at byte {offset:,} announces {flag:,} labels in {len(content):,} bytes. {_REMEDY}"
        )
    labels = struct.unpack_from(f"<{flag}f", content, _HEADER.size) if flag else (label,)
    return Record(labels, content[image:])


def _read_labels(file: BinaryIO, path: Path, offset: int) -> tuple[float, ...]:
    """The record's labels; of an ordinary record without reading the image."""
    file.seek(offset)
    head = file.read(_WORDS.size + _HEADER.size)
    if len(head) == _WORDS.size + _HEADER.size and head[:4] == _MAGIC:
        kind, length = _kind_and_length(head)
        flag, label, *_ = _HEADER.unpack_from(head, _WORDS.size)
        if kind == _WHOLE and flag == 0 and length >= _HEADER.size:
            return (label,)
    return read_record(file, path, offset).labels


def _contents(file: BinaryIO, path: Path, offset: int) -> Iterator[bytes]:
    """The parts of the record at `offset`: where the content held the magic number itself, it was cut there."""
    file.seek(offset)
    due = (_WHOLE, _BEGIN)
    while True:
        kind, content = _part(file, path)
        if kind not in due:
            raise InputError(
                f"{path}: the record at byte {offset:,} does not go on at byte {file.tell():,} as it should. {_REMEDY}"
            )
        yield content
        if kind in (_WHOLE, _END):
            return
        yield _MAGIC
        due = (_MIDDLE, _END)


def _part(file: BinaryIO, path: Path) -> tuple[int, bytes]:
    offset = file.tell()
    head = file.read(_WORDS.size)
    if len(head) < _WORDS.size or head[:4] != _MAGIC:
        raise InputError(f"{path}: no record begins at byte {offset:,}: the file is damaged or cut off. {_REMEDY}")
    kind, length = _kind_and_length(head)
    content = file.read(length)
    file.seek(-length % 4, 1)
    if len(content) < length:
        raise InputError(
            f"{path}: the record at byte {offset:,} has {length:,} bytes and the file ends after {len(content):,} of "
            f"them: it is cut off. {_REMEDY}"
        )
    return kind, content


def _kind_and_length(head: bytes) -> tuple[int, int]:
    word = _WORDS.unpack_from(head)[1]
    return word >> _LENGTH_BITS, word & ((1 << _LENGTH_BITS) - 1)


def _walked(file: BinaryIO, path: Path) -> list[int]:
    """Where every record begins, found from one to the next."""
    size, places, offset = path.stat().st_size, [], 0
    while offset < size:
        file.seek(offset)
        head = file.read(_WORDS.size)
        if len(head) < _WORDS.size or head[:4] != _MAGIC:
            raise InputError(f"{path}: no record begins at byte {offset:,}: the file is damaged or cut off. {_REMEDY}")
        kind, length = _kind_and_length(head)
        if kind in (_WHOLE, _BEGIN):
            places.append(offset)
        begin, offset = offset, offset + _WORDS.size + length + -length % 4
        if offset > size:
            raise InputError(
                f"{path}: the record at byte {begin:,} has {length:,} bytes and the file of {size:,} ends before that: "
                f"it is cut off. {_REMEDY}"
            )
    return places


def _listed(path: Path, size: int) -> list[int]:
    """Where every record begins, by the lines `number<tab>offset` of an index file, in order of the numbers."""
    places: dict[int, int] = {}
    with path.open("rb") as lines:
        for line, content in enumerate(lines, 1):
            try:
                number, offset = (int(part) for part in content.split())
            except ValueError:
                raise InputError(
                    f"{path} line {line}: {content[:40]!r} is not a number and an offset. {_REMEDY} Without it, "
                    f"facesim finds the records by itself."
                ) from None
            if not 0 <= offset < size:
                raise InputError(
                    f"{path} line {line}: record {number} is said to begin at byte {offset:,} of a file of {size:,}. "
                    f"The two files do not belong together, or the other one is cut off."
                )
            places[number] = offset
    return [places[number] for number in sorted(places)]


def _label(labels: tuple[float, ...], path: Path, offset: int) -> int:
    label = labels[0] if labels else float("nan")
    if not (label >= 0 and label == int(label)):
        raise InputError(
            f"{path}: the record at byte {offset:,} has the label {label}; it is a whole number. {_REMEDY}"
        )
    return int(label)


def _check_property(path: Path, labels: np.ndarray) -> None:
    """`property` is one line: identities, height, width."""
    if not path.is_file():
        return
    line = path.read_text(errors="replace").strip()
    identities = line.split(",")[0]
    if not identities.isdigit():
        raise InputError(f"{path} says {line[:40]!r}; it must be identities,height,width. {_REMEDY}")
    if labels.max() >= int(identities):
        raise InputError(
            f"{path} says {int(identities):,} identities and the records have labels up to {labels.max():,}: the files "
            f"do not belong together."
        )

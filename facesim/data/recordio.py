"""InsightFace's record files: `train.rec` with images, `train.idx` with where each begins, `property` with how many
people.

The format is MXNet's RecordIO (dmlc-core, `include/dmlc/recordio.h`): a record is a magic number, a word that has its
length and whether it is a part of a longer one, the content, and zeros up to the next multiple of 4. The content is a
header (mxnet, `python/mxnet/recordio.py`: flag, label, two ids; `flag` labels more follow) and an encoded image. Where
record 0 has labels and no image, it is InsightFace's: the first of them is where the images end, and what comes after
is about identities.

The records are the truth: each is found from the one before it. The index is compared with them, and what it leaves
out, names twice or points to where no record begins becomes a note.
"""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from facesim.data.labels import one_hot_place, whole
from facesim.data.rendering import Progress
from facesim.util.errors import InputError
from facesim.util.files import reading
from facesim.util.words import count_text

_MAGIC = struct.pack("<I", 0xCED7230A)
_WORDS = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")
_LENGTH_BITS = 29
_WHOLE, _BEGIN, _MIDDLE, _END = range(4)

#: More labels than any record has: beyond it the header is not one.
_MOST_LABELS = 1 << 16

#: No line of an index, or of `property`, is longer.
_LONGEST_LINE = 1000

_REMEDY = "Copy or download the file again."


class Record(NamedTuple):
    """One record: its labels, and the encoded image."""

    labels: tuple[float, ...]
    image: bytes


class Index(NamedTuple):
    """Where each image begins, int64 (n,), whom it shows, int64 (n,), and what a user should know of the files."""

    offsets: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...]


class _Head(NamedTuple):
    """Where a record begins, its labels, and whether it has an image."""

    offset: int
    labels: tuple[float, ...]
    image: bool


def files_of(path: Path) -> list[Path]:
    """The record file `path` and what may lie beside it."""
    return [path, path.with_suffix(".idx"), path.with_name("property")]


def read_index(path: Path, progress: Progress) -> Index:
    """Find every image of the record file `path`; images are not read. An `.idx` beside it is compared with it.

    Raises:
        InputError: a file cannot be read, or is damaged; the message says at which byte, or line.
    """
    with reading(path) as file:
        heads = list(_heads(file, path, progress))
    if not heads:
        raise InputError(f"{path} holds no records. {_REMEDY}")
    notes = []
    listed = path.with_suffix(".idx")
    if listed.is_file():
        heads, notes = _compared(heads, *_listed(listed, path.stat().st_size), listed)
    heads, more = _images(heads, path)
    labels, read_as = _labels(heads, path)
    _check_property(path.with_name("property"), labels)
    offsets = np.array([head.offset for head in heads], np.int64)
    return Index(offsets, labels, (*notes, *more, *read_as))


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
            f"{path}: the record at byte {offset:,} announces {count_text(flag, 'label')} in {len(content):,} bytes. "
            f"{_REMEDY}"
        )
    labels = struct.unpack_from(f"<{flag}f", content, _HEADER.size) if flag else (label,)
    return Record(labels, content[image:])


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


def _heads(file: BinaryIO, path: Path, progress: Progress) -> Iterator[_Head]:
    """Every record, found from one to the next, without reading its image."""
    size, offset, begin = path.stat().st_size, 0, 0
    content = b""  # as much of a record's content as its labels take
    length = 0  # of the record's content so far
    due = (_WHOLE, _BEGIN)
    reported_mib = 0
    shared: dict[tuple[float, ...], tuple[float, ...]] = {}  # millions of records have the labels of few people
    while offset < size:
        head = os.pread(file.fileno(), _WORDS.size + _HEADER.size, offset)
        if len(head) < _WORDS.size or head[:4] != _MAGIC:
            raise InputError(f"{path}: no record begins at byte {offset:,}: the file is damaged or cut off. {_REMEDY}")
        kind, part_length = _kind_and_length(head)
        if kind not in due:
            raise InputError(
                f"{path}: the record at byte {begin:,} does not go on at byte {offset:,} as it should. {_REMEDY}"
            )
        if offset + _WORDS.size + part_length > size:
            raise InputError(
                f"{path}: the record at byte {offset:,} has {part_length:,} bytes and the file of {size:,} ends before "
                f"that: it is cut off. {_REMEDY}"
            )
        if kind in (_WHOLE, _BEGIN):
            begin, content, length = offset, head[_WORDS.size :][:part_length], part_length
        else:
            length += len(_MAGIC) + part_length
        offset += _WORDS.size + part_length + -part_length % 4
        due = (_WHOLE, _BEGIN) if kind in (_WHOLE, _END) else (_MIDDLE, _END)
        if kind in (_WHOLE, _END):
            record = _head(content, length, begin, file, path)
            yield record._replace(labels=shared.setdefault(record.labels, record.labels))
        if offset >> 20 > reported_mib or offset >= size:
            reported_mib = offset >> 20
            progress("reading labels, kB", min(offset, size) // 1000, size // 1000 or 1)
    if due != (_WHOLE, _BEGIN):
        raise InputError(f"{path}: the record at byte {begin:,} has no end: the file is cut off. {_REMEDY}")


def _head(content: bytes, length: int, offset: int, file: BinaryIO, path: Path) -> _Head:
    """The record at `offset`, of whose content of `length` bytes the first are given; read whole if they do not do."""
    if len(content) == _HEADER.size:
        flag, label, *_ = _HEADER.unpack(content)
        if flag == 0:
            return _Head(offset, (label,), length > _HEADER.size)
    record = read_record(file, path, offset)
    return _Head(offset, record.labels, bool(record.image))


def _listed(path: Path, size: int) -> tuple[np.ndarray, np.ndarray, bool]:
    """The lines `number<tab>offset` of an index file, in its order: numbers and offsets, int64 (n,); and whether it is
    cut off within the last one.
    """
    numbers, offsets = array("q"), array("q")
    with reading(path) as lines:
        line = 0
        while content := lines.readline(_LONGEST_LINE):
            line += 1
            try:
                number, offset = (int(part) for part in content.split())
                numbers.append(number)
            except (ValueError, OverflowError):
                if not content.endswith(b"\n") and len(content) < _LONGEST_LINE and offsets:
                    return np.array(numbers), np.array(offsets), True
                raise InputError(
                    f"{path} line {line}: {content[:40]!r} is not a number and an offset. {_REMEDY} Without it, "
                    f"facesim finds the records by itself."
                ) from None
            if not 0 <= offset < size:
                raise InputError(
                    f"{path} line {line}: record {number} is said to begin at byte {offset:,} of a file of {size:,}. "
                    f"The two files do not belong together, or the other one is cut off."
                )
            offsets.append(offset)
    return np.array(numbers), np.array(offsets), False


def _compared(
    heads: list[_Head], numbers: np.ndarray, offsets: np.ndarray, cut_off: bool, path: Path
) -> tuple[list[_Head], list[str]]:
    """The records in the order of the index if it names each once, else in their own; and what is wrong with it."""
    begins = np.fromiter((head.offset for head in heads), np.int64, len(heads))
    listed, times = np.unique(offsets, return_counts=True)
    known = np.isin(listed, begins)
    unlisted, nowhere = len(begins) - known.sum(), times[~known].sum()
    named_again, given_again = (times[known] > 1).sum(), (np.unique(numbers, return_counts=True)[1] > 1).sum()
    wrong = {
        f"leaves out {unlisted:,} of the {count_text(len(heads), 'record')}": unlisted,
        f"points {count_text(nowhere, 'time')} to where no record begins": nowhere,
        f"names {count_text(named_again, 'record')} more than once": named_again,
        f"gives {count_text(given_again, 'number')} more than once": given_again,
    }
    problems = [text for text, count in wrong.items() if count]
    if cut_off:
        problems.append("is cut off in its last line")
    if not problems:
        order = np.searchsorted(begins, offsets[np.argsort(numbers)])
        return [heads[at] for at in order], []
    return heads, [
        f"{path.name} {', '.join(problems)}. All {len(heads):,} records were read, in the order of the file, "
        f"without it."
    ]


def _images(heads: list[_Head], path: Path) -> tuple[list[_Head], list[str]]:
    """The records that are images, where record 0 is InsightFace's own all but those about identities; and a word if
    there are more of them than it says.
    """
    first = heads[0]
    if first.image or len(first.labels) < 2:
        return heads, []
    end = first.labels[0]
    if not 1 < end <= len(heads):
        raise InputError(
            f"{path}: record 0 says that the images end at record {end:g}, and there are {len(heads)}. {_REMEDY}"
        )
    images = [head for head in heads if head.image or len(head.labels) < 2]
    due = int(end) - 1
    if len(images) < due:
        raise InputError(
            f"{path}: record 0 says that there are {count_text(due, 'image')}, and "
            f"{count_text(len(images), 'record has', 'records have')} one. {_REMEDY}"
        )
    if len(images) == due:
        return images, []
    return images, [
        f"{path.name} has {count_text(len(images), 'image')} and its record 0 says {due:,}: it was joined from several "
        "files. All were read; the same label in two of these files is taken as the same person."
    ]


def _labels(heads: Sequence[_Head], path: Path) -> tuple[np.ndarray, list[str]]:
    """Whom each image shows, int64 (n,), and how several labels of a record were read."""
    lengths = {len(head.labels) for head in heads}
    places = [one_hot_place(head.labels) for head in heads] if len(lengths) == 1 and max(lengths) > 1 else [None]
    if None not in places:
        (length,) = lengths
        note = f"The labels are one-hot vectors of {length}; the place of the 1, from 0, is the label."
        return np.array(places, np.int64), [note]
    labels = [_label(head, path) for head in heads]
    several = sum(len(head.labels) > 1 for head in heads)
    notes = (
        [
            f"{count_text(several, 'record has', 'records have')} several labels; the first of each is taken as the "
            "person."
        ]
        if several
        else []
    )
    return np.array(labels, np.int64), notes


def _label(head: _Head, path: Path) -> int:
    return whole(head.labels[0] if head.labels else float("nan"), f"{path}: the record at byte {head.offset:,}")


def _check_property(path: Path, labels: np.ndarray) -> None:
    """`property` is one line: identities, height, width."""
    if not path.is_file():
        return
    with reading(path) as file:
        line = file.readline(_LONGEST_LINE).decode("utf-8", "replace").strip()
    identities = line.split(",")[0]
    if not (identities.isascii() and identities.isdigit()):
        raise InputError(f"{path} says {line[:40]!r}; it must be identities,height,width. {_REMEDY}")
    if labels.max() >= int(identities):
        raise InputError(
            f"{path} says {count_text(int(identities), 'identity')} and the records have labels up to "
            f"{labels.max():,}: the files do not belong together."
        )

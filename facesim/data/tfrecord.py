"""TFRecord files of `tf.train.Example`: an encoded image and a label in each. Read without TensorFlow, in a stream.

A record (tensorflow, `core/lib/io/record_writer.h`) is its length, a checksum of that, the content, and a checksum of
it; an Example is a protocol buffer (`core/example/example.proto`), of which only what is needed is parsed. Checksums
are CRC-32C (Castagnoli), masked as described there. A file may be compressed as a whole, with gzip or zlib
(`tf.io.TFRecordOptions`); offsets are then those of what was compressed.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import google_crc32c

from facesim.data.labels import Label, label_of_numbers
from facesim.data.shards import complete_set
from facesim.util.errors import InputError
from facesim.util.files import reading
from facesim.util.words import count_text

#: Where an image and a label are looked for unless they are named; the first that a record has.
IMAGE_FEATURES = ("image/encoded", "image", "image_raw", "img", "jpeg", "jpg")
LABEL_FEATURES = ("image/class/label", "label", "identity", "class", "image/class/text", "name", "person")

_LENGTH = struct.Struct("<Q")
_SUM = struct.Struct("<I")
_HEAD = _LENGTH.size + _SUM.size

#: No record with one encoded image is longer; a longer one is damage, or meant to fill the memory.
_MOST_BYTES = 1 << 30

_REMEDY = "Copy or download the file again."
_NAME = re.compile(r"\.tfrecords?(?=[-.]|$)|-\d{5}-of-\d{5}$", re.IGNORECASE)


class Place(NamedTuple):
    """Where a record begins in its file, and how long its content is."""

    record: int
    length: int


class Example(NamedTuple):
    """Whom an image shows, and the encoded image."""

    label: Label
    image: bytes


def find_records(path: Path) -> Iterator[tuple[Place, bytes]]:
    """Every record of a file, with its content, its checksums checked.

    Raises:
        InputError: the file cannot be read, a record is damaged, or the file is cut off; the message says at which
            byte.
    """
    with reading(path) as file:
        stream, offset = _uncompressed(file, path), 0
        while head := stream.read(_HEAD):
            if len(head) < _HEAD:
                raise InputError(f"{path}: the file ends within the record at byte {offset:,}. {_REMEDY}")
            if not _begins_record(head):
                raise InputError(f"{path}: no record begins at byte {offset:,}: the file is damaged. {_REMEDY}")
            (length,) = _LENGTH.unpack_from(head)
            if length > _MOST_BYTES:
                raise InputError(
                    f"{path}: the record at byte {offset:,} has {length:,} bytes, and one with an image has at most "
                    f"{_MOST_BYTES:,}. Write each image as a record of its own."
                )
            content = stream.read(length)
            due = stream.read(_SUM.size)
            if len(due) < _SUM.size:
                raise InputError(
                    f"{path}: the record at byte {offset:,} has {length:,} bytes and the file ends before that: "
                    f"it is cut off. {_REMEDY}"
                )
            if _SUM.unpack(due)[0] != checksum(content):
                raise InputError(
                    f"{path}: the record at byte {offset:,} does not have its checksum: it is damaged. {_REMEDY}"
                )
            yield Place(offset, length), content
            offset += _HEAD + length + _SUM.size


def read(path: Path, places: Iterable[Place]) -> Iterator[bytes]:
    """The contents of records that `find_records` found, in the order of the file."""
    with reading(path) as file:
        stream = _uncompressed(file, path)
        for place in places:
            stream.seek(place.record + _HEAD)
            yield stream.read(place.length)


def _begins_record(head: bytes) -> bool:
    return len(head) == _HEAD and _SUM.unpack_from(head, _LENGTH.size)[0] == checksum(head[: _LENGTH.size])


def _uncompressed(file: BinaryIO, path: Path) -> BinaryIO:
    """The records as a stream, from its beginning, whether the file is compressed or not."""
    head = file.read(_HEAD)
    file.seek(0)
    gzip = head[:2] == b"\x1f\x8b"
    zlib_s = len(head) > 1 and head[0] & 15 == 8 and int.from_bytes(head[:2], "big") % 31 == 0
    if (gzip or zlib_s) and not _begins_record(head):
        return io.BufferedReader(_Inflated(file, path), 1 << 20)
    return file


class _Inflated(io.RawIOBase):
    """What a file compressed with gzip or zlib holds; it can be sought forwards only."""

    def __init__(self, file: BinaryIO, path: Path):
        self._file, self._path = file, path
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by the header
        self._input, self._at = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_CUR:
            offset += self._at
        while self._at < offset and self.readinto(bytearray(min(offset - self._at, 1 << 20))):
            pass
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = b""
        while not content:
            if self._inflater.eof:
                self._input = self._inflater.unused_data or self._file.read(1 << 20)
                if not self._input:
                    return 0
                self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip files can be joined
            elif not self._input:
                self._input = self._file.read(1 << 20)
                if not self._input:
                    raise InputError(f"{self._path} is compressed and cut off after byte {self._at:,}. {_REMEDY}")
            try:
                content = self._inflater.decompress(self._input, len(buffer))
            except zlib.error as error:
                raise InputError(
                    f"{self._path} is compressed and damaged after byte {self._at:,}: {error}. {_REMEDY}"
                ) from None
            self._input = self._inflater.unconsumed_tail
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def parse(content: bytes, image_feature: str | None, label_feature: str | None, where: str) -> Example:
    """The image and the label of one Example; features that are None are looked for. `where` it lies is for messages.

    Raises:
        InputError: the content is no Example, or has no such features; the message names those that it has. Or the
            label is none, and the message says what it is.
    """
    try:
        features = dict(_features(memoryview(content)))
        image = _chosen(features, image_feature, IMAGE_FEATURES, "image", where)
        label = _chosen(features, label_feature, LABEL_FEATURES, "label", where)
    except (ValueError, IndexError, struct.error) as error:
        raise InputError(f"{where} is no tf.train.Example: {error}. {_REMEDY}") from None
    if len(image) > 1:
        raise InputError(f"{where} has {count_text(len(image), 'image')}. Write each image as a record of its own.")
    return Example(_label(label, where), image[0])


def other_labels(content: bytes) -> list[str]:
    """The features of an Example that are called as labels usually are, but for the one that `parse` takes."""
    features = dict(_features(memoryview(content)))
    return [name for name in LABEL_FEATURES if _values(features.get(name, memoryview(b"")))][1:]


def _label(values: list[bytes] | list[int] | list[float], where: str) -> Label:
    if not isinstance(values[0], bytes):
        return label_of_numbers(values, where)
    if len(values) > 1:
        shown = ", ".join(str(value[:20]) for value in values[:3])
        raise InputError(f"{where} has {len(values)} texts as its label ({shown}); it must be one, the person's.")
    try:
        return Label(values[0].decode())
    except UnicodeDecodeError:
        raise InputError(
            f"{where} has the label {values[0][:20]!r}, which is neither a number nor UTF-8 text. Write the label as "
            f"one of these."
        ) from None


def _chosen(features: dict[str, memoryview], named: str | None, usual: Sequence[str], what: str, where: str) -> list:
    """The values of the first of the features that can be the image, encoded, or the label."""
    seen = ""
    for name in (named,) if named else usual:
        values = _values(features.get(name, memoryview(b"")))
        if values and (what == "label" or isinstance(values[0], bytes)):
            return values
        if values and not seen:
            numbers = count_text(len(values), "number")
            seen = f"; {name} is {numbers}, and an image must be one encoded file (JPEG, PNG, ...)"
    names = ", ".join(sorted(features)) or "none"
    raise InputError(
        f"{where} has no {what} in {named or ' or '.join(usual)}; its features are {names}{seen}. Name the right one "
        f"with --{what}-feature."
    )


def _features(example: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Example.features.feature: each name with its Feature."""
    for number, features in _fields(example):
        for inner, entry in _fields(features) if number == 1 else ():
            if inner == 1:
                pair = dict(_fields(entry))
                feature = pair.get(2, memoryview(b""))
                if not isinstance(feature, memoryview):
                    raise ValueError("a feature was due and a number is there")
                yield bytes(pair.get(1, b"")).decode(), feature


def _values(feature: memoryview) -> list[bytes] | list[int] | list[float]:
    """All values of a Feature: texts, whole numbers or float32 numbers; packed or not."""
    all_values: list = []
    for kind, values in _fields(feature):
        all_values = []  # one of three lists, and the last one counts
        for number, value in _fields(values):
            if number != 1:
                continue
            if kind == 1 and isinstance(value, memoryview):
                all_values.append(bytes(value))
            elif kind == 2 and isinstance(value, memoryview):
                all_values += struct.unpack(f"<{len(value) // 4}f", value)
            elif kind == 3 and isinstance(value, memoryview):
                at = 0
                while at < len(value):
                    integer, at = _varint(value, at)
                    all_values.append(_signed(integer))
            elif kind == 3:
                all_values.append(_signed(value))
    return all_values


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """A protocol buffer's fields: number, and a whole number or the bytes of what is inside."""
    if not isinstance(message, memoryview):
        raise ValueError("a message was due and a number is there")
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(message, at)
        else:
            length, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}.get(wire, -1), at)
            if length < 0 or at + length > len(message):
                raise ValueError(f"field {tag >> 3} does not fit")
            value, at = message[at : at + length], at + length
        yield tag >> 3, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def checksum(content: bytes) -> int:
    """The masked CRC-32C."""
    value = google_crc32c.value(content)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def shards(path: Path) -> list[Path]:
    """The record files that `path` names: itself, or those in the folder.

    Raises:
        InputError: by their names there are more.
    """
    if path.is_file():
        return [path]
    return complete_set(path, filter(is_record_file, path.iterdir()))


def is_record_file(path: Path) -> bool:
    return path.is_file() and _NAME.search(path.name) is not None

"""TFRecord files of `tf.train.Example`: an encoded image and a label in each. Read without TensorFlow, in a stream.

A record (tensorflow, `core/lib/io/record_writer.h`) is its length, a checksum of that, the content, and a checksum of
it; an Example is a protocol buffer (`core/example/example.proto`), of which only what is needed is parsed. Checksums
are CRC-32C (Castagnoli), masked as described there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from facesim.errors import InputError

#: Where an image and a label are looked for unless they are named; the first that a record has.
IMAGE_FEATURES = ("image/encoded", "image", "image_raw", "img", "jpeg", "jpg")
LABEL_FEATURES = ("image/class/label", "label", "identity", "class", "image/class/text", "name", "person")

_LENGTH = struct.Struct("<Q")
_SUM = struct.Struct("<I")
_HEAD = _LENGTH.size + _SUM.size

#: Records whose checksums are computed together: so many, or so many bytes.
_HELD, _HELD_BYTES = 1024, 1 << 25

_POLYNOMIAL = 0x82F63B78
_REMEDY = "Copy or download the file again."
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
_NAME = re.compile(r"\.tfrecords?(?=[-.]|$)|-\d{5}-of-\d{5}$", re.IGNORECASE)


class Place(NamedTuple):
    """Where a record begins in its file, and how long its content is."""

    record: int
    length: int


class Example(NamedTuple):
    """Whom an image shows, and the encoded image."""

    label: int | str
    image: bytes


def find_records(path: Path) -> Iterator[tuple[Place, bytes]]:
    """Every record of a file, with its content, its checksums checked.

    Raises:
        InputError: a record is damaged, or the file is cut off or compressed; the message says at which byte.
    """
    held: list[tuple[Place, bytes, int]] = []
    for one in _records(path):
        held.append(one)
        if len(held) == _HELD or len(held) * max(place.length for place, *_ in held[-2:]) > _HELD_BYTES:
            yield from _checked(path, held)
            held = []
    yield from _checked(path, held)


def read(path: Path, place: Place) -> bytes:
    """The content of one record that `find_records` found."""
    with path.open("rb") as file:
        file.seek(place.record + _HEAD)
        return file.read(place.length)


def _records(path: Path) -> Iterator[tuple[Place, bytes, int]]:
    """Every record with its content and the checksum that this should have."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            raise InputError(f"{path} is compressed with gzip, which cannot be read from the middle. Decompress it.")
        offset = 0
        file.seek(0)
        while offset < size:
            head = file.read(_HEAD)
            if len(head) < _HEAD:
                raise InputError(f"{path}: the file ends within the record at byte {offset:,}. {_REMEDY}")
            if _SUM.unpack_from(head, _LENGTH.size)[0] != _checksum(head[: _LENGTH.size]):
                raise InputError(f"{path}: no record begins at byte {offset:,}: the file is damaged. {_REMEDY}")
            place = Place(offset, *_LENGTH.unpack_from(head))
            end = offset + _HEAD + place.length + _SUM.size
            if end > size:
                raise InputError(
                    f"{path}: the record at byte {offset:,} has {place.length:,} bytes and the file ends before that: "
                    f"it is cut off. {_REMEDY}"
                )
            yield place, file.read(place.length), _SUM.unpack(file.read(_SUM.size))[0]
            offset = end


def _checked(path: Path, held: list[tuple[Place, bytes, int]]) -> Iterator[tuple[Place, bytes]]:
    found = checksums([content for _, content, _ in held])
    for (place, content, due), checksum in zip(held, found):
        if checksum != due:
            raise InputError(
                f"{path}: the record at byte {place.record:,} does not have its checksum: it is damaged. {_REMEDY}"
            )
        yield place, content


def parse(content: bytes, image_feature: str | None, label_feature: str | None, where: str) -> Example:
    """The image and the label of one Example; features that are None are looked for. `where` it lies is for messages.

    Raises:
        InputError: the content is no Example, or has no such features; the message names those that it has.
    """
    try:
        features = dict(_features(memoryview(content)))
    except (ValueError, IndexError) as error:
        raise InputError(f"{where} is no tf.train.Example: {error}. {_REMEDY}") from None
    image = _chosen(features, image_feature, IMAGE_FEATURES, "image", bytes, where)
    label = _chosen(features, label_feature, LABEL_FEATURES, "label", (bytes, int), where)
    try:
        return Example(label.decode() if isinstance(label, bytes) else label, image)
    except UnicodeDecodeError:
        raise InputError(f"{where} has the label {label[:20]!r}, which is neither a number nor UTF-8 text.") from None


def _chosen(features: dict[str, Any], named: str | None, usual: Sequence[str], what: str, kind: Any, where: str) -> Any:
    found = next((name for name in ((named,) if named else usual) if isinstance(features.get(name), kind)), None)
    if found is None:
        has = ", ".join(sorted(features)) or "none"
        raise InputError(
            f"{where} has no {what} in {named or ' or '.join(usual)}; its features are {has}. Name the right one with "
            f"--{what}-feature."
        )
    return features[found]


def _features(example: memoryview) -> Iterator[tuple[str, Any]]:
    """Example.features.feature: each name with its first value, bytes or a number; None where it has none."""
    for number, features in _fields(example):
        for inner, entry in _fields(features) if number == 1 else ():
            if inner == 1:
                pair = dict(_fields(entry))
                yield bytes(pair.get(1, b"")).decode(), _first_value(pair.get(2, memoryview(b"")))


def _first_value(feature: memoryview) -> Any:
    for kind, values in _fields(feature):
        for number, value in _fields(values):
            if number == 1 and kind == 1:  # BytesList
                return bytes(value)
            if number == 1 and kind == 3:  # Int64List, packed or not
                return _signed(value if isinstance(value, int) else _varint(value, 0)[0])
    return None


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


def _table() -> np.ndarray:
    sums = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        sums = np.where(sums & 1, (sums >> 1) ^ np.uint32(_POLYNOMIAL), sums >> 1)
    return sums


_TABLE = _table()
_TABLE_ENTRIES = _TABLE.tolist()


def _checksum(content: bytes) -> int:
    """The masked CRC-32C of a few bytes."""
    value = 0xFFFFFFFF
    for byte in content:
        value = _TABLE_ENTRIES[(value ^ byte) & 0xFF] ^ (value >> 8)
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def checksums(contents: Sequence[bytes]) -> list[int]:
    """The masked CRC-32C of each: a byte of all of them at a time, which NumPy does as fast as files are read."""
    longest = max(map(len, contents), default=0)
    begin = np.array([longest - len(content) for content in contents])
    data = np.zeros((longest, len(contents)), np.uint8)
    for column, content in enumerate(contents):
        data[begin[column] :, column] = np.frombuffer(content, np.uint8)
    sums = np.full(len(contents), 0xFFFFFFFF, np.uint32)
    for row, some_bytes in enumerate(data):
        updated = _TABLE[(sums ^ some_bytes) & 0xFF] ^ (sums >> 8)
        sums = np.where(row >= begin, updated, sums)
    plain = ~sums
    return (((plain >> 15) | (plain << 17)) + np.uint32(0xA282EAD8)).tolist()


def shards(path: Path) -> list[Path]:
    """The record files that `path` names: itself, or those in the folder.

    Raises:
        InputError: by their names there are more.
    """
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if is_record_file(file))
    sets: dict[tuple[str, int], set[int]] = {}
    for file in files if path.is_dir() else []:
        if numbered := _SHARD.search(file.name):
            sets.setdefault((file.name[: numbered.start()], int(numbered[2])), set()).add(int(numbered[1]))
    for (name, count), found in sets.items():
        if missing := sorted(set(range(count)) - found):
            raise InputError(
                f"{path}: {name} has {count} files and {len(missing)} are missing, among them number {missing[0]}. "
                f"Copy or download them."
            )
    return files


def is_record_file(path: Path) -> bool:
    return path.is_file() and _NAME.search(path.name) is not None

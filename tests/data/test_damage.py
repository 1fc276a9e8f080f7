"""Files of many images that are damaged in any way: they are read, or the error is one for the user."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facesim.data import tfrecord
from facesim.data.arrays import read_npz
from facesim.data.recordio import read_index, read_record
from facesim.data.tables import read_table
from facesim.util.errors import InputError

few_hundred = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def field(number: int, content: bytes | int) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def feature(name: bytes, kind: int, values: bytes) -> bytes:
    return field(1, field(1, name) + field(2, field(kind, values)))


EXAMPLE = field(
    1,
    feature(b"image", 1, field(1, b"pixels" * 9))
    + feature(b"label", 3, field(1, varint(7)))
    + feature(b"weights", 2, field(1, struct.pack("<3f", 0, 1, 0))),
)


def tfrecord_of(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    sums = [struct.pack("<I", tfrecord.checksum(part)) for part in (length, content)]
    return length + sums[0] + content + sums[1]


def rec_of(labels: list[float]) -> bytes:
    contents = [struct.pack("<IfQQ", 0, label, at, 0) + b"image" for at, label in enumerate(labels)]
    return b"".join(
        struct.pack("<II", 0xCED7230A, len(content)) + content + bytes(-len(content) % 4) for content in contents
    )


def npz_of(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def read_tfrecord(path: Path) -> None:
    for place, content in tfrecord.find_records(path):
        tfrecord.parse(content, None, None, f"byte {place.record}")


def read_rec(path: Path) -> None:
    index = read_index(path, lambda *_: None)
    with path.open("rb") as file:
        for offset in index.offsets:
            read_record(file, path, int(offset))


IMAGES = np.arange(4 * 6 * 5 * 3, dtype=np.uint8).reshape(4, 6, 5, 3)
KINDS: dict[str, tuple[bytes, Callable[[Path], object]]] = {
    "a.tfrecord": (tfrecord_of(EXAMPLE) * 3, read_tfrecord),
    "z.tfrecord": (zlib.compress(tfrecord_of(EXAMPLE) * 3), read_tfrecord),
    "a.rec": (rec_of([1, 1, 2, 2]), read_rec),
    "a.npz": (npz_of(images=IMAGES, labels=np.array([0, 1, 0, 1]), names=np.array(["A", "B"])), read_npz),
    "x.npz": (npz_of(x_train=IMAGES / 255, y_train=np.eye(4), x_test=IMAGES / 255, y_test=np.eye(4)), read_npz),
    "a.csv": (b'path,label,split\na.png,"Ana",train\nb\\c.png,Bo,test\n', read_table),
    "u.csv": ("Path;Label\r\na.png;Ana\r\nb/c.png;Bo\r\n".encode("utf-16"), read_table),
}


@st.composite
def changes(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Some bytes replaced, cut out or put in anywhere."""
    places = draw(
        st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=9)), min_size=1, max_size=4)
    )

    def change(content: bytes) -> bytes:
        for share, cut, put in places:
            at = int(share * len(content))
            content = content[:at] + put + content[at + (len(put) if cut == 4 else cut) :]
        return content

    return change


@pytest.mark.parametrize("name", KINDS)
@given(change=changes())
@few_hundred
def test_a_damaged_file_is_read_or_told(tmp_path, name, change):
    content, read = KINDS[name]
    path = tmp_path / name
    path.write_bytes(change(content))

    try:
        read(path)
    except InputError as error:
        assert name in str(error)


@pytest.mark.parametrize("name", KINDS)
@given(content=st.binary(max_size=200))
@few_hundred
def test_any_bytes_are_read_or_told(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)

    with suppress(InputError):
        KINDS[name][1](path)


@given(change=changes())
@few_hundred
def test_a_record_with_its_checksum_that_is_no_example_is_told(change):
    with suppress(InputError):
        tfrecord.parse(change(EXAMPLE), None, None, "byte 0")


@given(labels=st.lists(st.floats(width=32), min_size=1, max_size=4))
@few_hundred
def test_any_label_of_a_record_is_a_whole_number_or_told(tmp_path, labels):
    path = tmp_path / "a.rec"
    path.write_bytes(rec_of(labels))

    try:
        result = read_index(path, lambda *_: None).labels
    except InputError as error:
        assert "has the label" in str(error)
    else:
        assert result.tolist() == labels


@given(lines=st.lists(st.text("0123456789\t -\n.x", max_size=12), max_size=8))
@few_hundred
def test_whatever_the_index_says_every_record_is_read_or_it_is_told(tmp_path, lines):
    path = tmp_path / "a.rec"
    path.write_bytes(rec_of([1, 1, 2, 2]))
    path.with_suffix(".idx").write_text("\n".join(lines))

    try:
        index = read_index(path, lambda *_: None)
    except InputError as error:
        assert "a.idx line" in str(error)
    else:
        assert sorted(index.labels.tolist()) == [1, 1, 2, 2]


@given(
    images=st.sampled_from([IMAGES, IMAGES / 255, IMAGES[..., 0], IMAGES.transpose(0, 3, 1, 2), IMAGES.astype("U"),
                            IMAGES[:0], IMAGES - 1.0, IMAGES * np.nan, IMAGES.astype(complex), np.float64(1)]),
    labels=st.sampled_from([np.arange(4), np.array(["a", "", "c", "d"]), np.eye(4), np.ones((4, 4)), np.arange(3),
                            np.array([1e300] * 4), np.array([np.nan] * 4), np.array([b"\xff"] * 4), np.int8(3),
                            np.array([2**64 - 1] * 4, np.uint64), np.arange(4) > 1, np.zeros((4, 0)),
                            np.array([None] * 4), np.arange(4) + 1j]),
    keys=st.sampled_from([("images", "labels"), ("x", "y"), ("arr_0", "arr_1"), ("x_train", "y_train"), ("a", "b")]),
    names=st.sampled_from([None, np.array(["A"] * 4), np.array(list("ABCD")), np.arange(4), np.array("A")]),
)  # fmt: skip
@few_hundred
def test_any_arrays_are_read_or_told(tmp_path, images, labels, keys, names):
    path = tmp_path / "a.npz"
    np.savez(path, **dict(zip(keys, (images, labels))), **({} if names is None else {"names": names}))

    try:
        npz = read_npz(path)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert npz.image(len(npz.labels) - 1).dtype == np.uint8
        assert npz.labels.max() < len(npz.names)

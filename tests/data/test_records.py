"""Sets of many images in one file, TFRecord and RecordIO, written here by their published formats."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data import prepare, tfrecord
from facesim.data.recordio import read_record
from facesim.errors import InputError

MAGIC = struct.pack("<I", 0xCED7230A)
LABELS = [5, 5, 5, 2, 2, 11, 11, 11]


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def ready(cache):
    """Prepare a source at the images' own size."""
    return lambda source, **options: prepare(str(source), image_size=16, cache_dir=cache, **options)


def assert_holds_what_was_written(data) -> None:
    assert [data.names[label] for label in data.labels] == [str(label) for label in LABELS]
    np.testing.assert_array_equal(data.images, [picture(number) for number in range(len(LABELS))])


# RecordIO


def part(content: bytes, kind: int = 0) -> bytes:
    """One part of a record: dmlc-core's `WriteRecord`."""
    return MAGIC + struct.pack("<I", kind << 29 | len(content)) + content + bytes(-len(content) % 4)


def record(content: bytes) -> bytes:
    """One record, cut wherever the content has the magic number at a multiple of 4."""
    cuts = [at for at in range(0, len(content) - 3, 4) if content[at : at + 4] == MAGIC]
    if not cuts:
        return part(content)
    begins, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]
    kinds = [1, *[2] * (len(cuts) - 1), 3]
    return b"".join(part(content[one:other], kind) for one, other, kind in zip(begins, ends, kinds))


def packed(labels: float | list[float], number: int, image: bytes = b"") -> bytes:
    """mxnet's `recordio.pack`."""
    if isinstance(labels, list):
        return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, number, 0, *labels) + image
    return struct.pack("<IfQQ", 0, labels, number, 0) + image


def write_rec(folder: Path, records: list[bytes], *, index: bool = True, people: int | None = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    offsets = np.cumsum([0, *(len(one) for one in records)])
    (folder / "train.rec").write_bytes(b"".join(records))
    if index:
        (folder / "train.idx").write_text("".join(f"{number}\t{at}\n" for number, at in enumerate(offsets[:-1])))
    if people is not None:
        (folder / "property").write_text(f"{people},16,16\n")
    return folder / "train.rec"


def insightface() -> list[bytes]:
    """Record 0 says where images end and identities end; each identity's record says which images are its own."""
    images = [record(packed(float(label), at + 1, png(at))) for at, label in enumerate(LABELS)]
    identities = [record(packed([1.0, 4.0], 9)), record(packed([4.0, 6.0], 10)), record(packed([6.0, 9.0], 11))]
    return [record(packed([9.0, 12.0], 0)), *images, *identities]


@pytest.mark.parametrize("index", [True, False])
def test_insightface_s_records_are_read_with_their_index_or_without(tmp_path, ready, index):
    write_rec(tmp_path / "faces", insightface(), index=index)

    data = ready(tmp_path / "faces")

    assert_holds_what_was_written(data)
    assert data.name == "faces"
    assert data.origins[0] == "train.rec byte 40"


def test_plain_records_of_mxnet_are_read_also_with_several_labels(tmp_path, ready):
    records = [record(packed(float(label), at, png(at))) for at, label in enumerate(LABELS)]
    records[3] = record(packed([2.0, 0.5], 3, png(3)))

    assert_holds_what_was_written(ready(write_rec(tmp_path, records, people=None)))


def test_a_record_that_was_cut_at_its_magic_numbers_is_joined(tmp_path):
    image = b"1234" + MAGIC + MAGIC + b"5678" + MAGIC + b"9"
    records = [record(packed(1.0, 0, b"another")), record(packed(2.0, 1, image))]
    path = write_rec(tmp_path, records)

    with path.open("rb") as file:
        found = read_record(file, path, len(records[0]))

    assert found == ((2.0,), image)


def damaged(content: bytes, at: int, by: bytes) -> bytes:
    return content[:at] + by + content[at + len(by) :]


@pytest.mark.parametrize("index", [True, False])
def test_a_record_file_that_was_cut_off_is_told_with_where(tmp_path, ready, index):
    path = write_rec(tmp_path, insightface(), index=index)
    path.write_bytes(path.read_bytes()[:3000])

    with pytest.raises(InputError, match=r"train\.(rec|idx).*(byte|line) [\d,]+.*(cut off)"):
        ready(path)


def test_a_damaged_record_is_told_with_its_byte(tmp_path, ready):
    records = insightface()
    offset = sum(map(len, records[:4]))
    path = write_rec(tmp_path, records)
    path.write_bytes(damaged(path.read_bytes(), offset, b"\0\0\0\0"))

    with pytest.raises(InputError, match=f"train.rec: no record begins at byte {offset:,}: the file is damaged"):
        ready(path)


@pytest.mark.parametrize(
    ("label", "told"),
    [(-1.0, "has the label -1.0"), (2.5, "has the label 2.5"), (float("nan"), "has the label nan")],
)
def test_a_label_that_is_no_whole_number_is_told(tmp_path, ready, label, told):
    records = [record(packed(float(one), at, png(at))) for at, one in enumerate([*LABELS[:-1], label])]

    with pytest.raises(InputError, match=told):
        ready(write_rec(tmp_path, records))


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("train.idx", "0\t0\nnonsense\n", "train.idx line 2: b'nonsense.*Without it, facesim finds the records"),
        ("train.idx", "0\t999999\n", "train.idx line 1: record 0 is said to begin at byte 999,999"),
        ("property", "many", "property says 'many'; it must be identities,height,width"),
        ("property", "5,16,16", "property says 5 identities and the records have labels up to 11"),
    ],
)
def test_files_that_do_not_belong_together_are_told(tmp_path, ready, file, content, told):
    path = write_rec(tmp_path, insightface())
    (tmp_path / file).write_text(content)

    with pytest.raises(InputError, match=told):
        ready(path)


def test_an_image_that_cannot_be_decoded_is_a_bad_file_with_its_byte(tmp_path, ready):
    records = insightface()
    records[2] = record(packed(5.0, 2, b"no image"))
    offset = sum(map(len, records[:2]))

    data = ready(write_rec(tmp_path, records), max_bad_files=0.2)

    assert [(bad.path, bad.reason) for bad in data.bad_files] == [
        (f"train.rec byte {offset}", "not an image that Pillow can read")
    ]
    assert len(data.labels) == len(LABELS) - 1


@pytest.mark.parametrize("seed", range(30))
def test_whatever_a_damaged_record_file_holds_the_error_is_one_for_the_user(tmp_path, ready, seed):
    random = np.random.default_rng(seed)
    path = write_rec(tmp_path, insightface(), index=bool(seed % 2), people=None)
    content = bytearray(path.read_bytes())
    for at in random.integers(0, len(content), 20):
        content[at] = random.integers(256)
    path.write_bytes(content)

    try:
        ready(path, max_bad_files=1.0)
    except InputError as error:
        assert str(error)


# TFRecord


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def write_tfrecord(tf):
    """Write a file as TensorFlow does; `features` makes an example's features from its number and label."""

    def feature(value):
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    def write(path: Path, features, numbers=None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in numbers or range(len(LABELS)):
                entries = {name: feature(value) for name, value in features(number, LABELS[number]).items()}
                writer.write(tf.train.Example(features=tf.train.Features(feature=entries)).SerializeToString())
        return path

    return write


def usual(number: int, label: int) -> dict:
    return {"image/encoded": png(number), "image/height": 16, "image/class/label": label, "image/format": b"png"}


def in_order(data) -> None:
    assert data.names == ("2", "5", "11")
    assert_holds_what_was_written(data)


def test_a_tfrecord_file_with_the_usual_names_is_read(tmp_path, ready, write_tfrecord):
    in_order(ready(write_tfrecord(tmp_path / "faces.tfrecord", usual)))


def test_features_of_other_names_are_named_by_options_and_labels_may_be_texts(tmp_path, ready, write_tfrecord):
    path = write_tfrecord(tmp_path / "f.tfrecords", lambda n, label: {"pixels": png(n), "who": str(label).encode()})

    in_order(ready(path, image_feature="pixels", label_feature="who"))
    with pytest.raises(
        InputError, match=r"byte 0 has no image in image/encoded or .*features are pixels, who.*--image-f"
    ):
        ready(path)


def test_a_folder_of_shards_is_one_set_and_a_missing_one_is_told(tmp_path, ready, write_tfrecord):
    for shard in range(2):
        name = f"faces-train.tfrecord-{shard:05}-of-00002"
        write_tfrecord(tmp_path / name, usual, range(4 * shard, 4 * shard + 4))

    in_order(ready(tmp_path))

    (tmp_path / "faces-train.tfrecord-00001-of-00002").unlink()
    with pytest.raises(InputError, match="faces-train.tfrecord has 2 files and 1 are missing, among them number 1"):
        ready(tmp_path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content[:-100], "cut off"),
        (lambda content: damaged(content, 300, b"\xff\x00\xff"), r"record at byte 0 does not have its checksum"),
        (lambda content: damaged(content, 2, b"\x07"), "no record begins at byte 0: the file is damaged"),
        (lambda content: content + b"abc", r"the file ends within the record at byte [\d,]+"),
        (lambda content: b"\x1f\x8b" + content, "compressed with gzip"),
    ],
)
def test_a_damaged_tfrecord_file_is_told_with_the_byte(tmp_path, ready, write_tfrecord, damage, told):
    path = write_tfrecord(tmp_path / "faces.tfrecord", usual)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(InputError, match=told):
        ready(path)


def test_checksums_are_crc_32c():
    # RFC 3720, B.4: 32 bytes of zeros, of ones, 0 to 31; TFRecord's mask turned back.
    known = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}

    masked = tfrecord.checksums(list(known))

    turned = [(value - 0xA282EAD8) & 0xFFFFFFFF for value in masked]
    assert [(value >> 17 | value << 15) & 0xFFFFFFFF for value in turned] == list(known.values())


@pytest.mark.parametrize(
    "content", [b"\xff" * 40, b"\x0a\x05\x0a\x03abc", b"\x0a\x50short", b"\x08\x01", b"", b"\x0a\x02\x08\x01"]
)
def test_a_record_that_is_no_example_is_told(content):
    with pytest.raises(InputError, match=r"byte 7 (is no tf.train.Example|has no image)"):
        tfrecord.parse(content, None, None, "byte 7")

"""TFRecord files, written by TensorFlow, and read without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from facesim.data import prepare, tfrecord
from facesim.util.errors import InputError
from tests.data.test_records import LABELS, assert_holds_what_was_written, damaged, png


@pytest.fixture
def ready(cache):
    """Prepare a source at the images' own size."""
    return lambda source, **options: prepare(str(source), image_size=16, cache_dir=cache, **options)


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def write_tfrecord(tf):
    """Write a file as TensorFlow does; `features` makes an example's features from its number and label."""

    def feature(value):
        values = value if isinstance(value, list) else [value]
        if values and isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if values and isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    def write(path: Path, features, numbers=None, compression="") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type=compression)) as writer:
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
    with pytest.raises(InputError, match="faces-train.tfrecord has 2 files and 1 is missing, among them number 1"):
        ready(tmp_path)


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
@pytest.mark.parametrize("joined", [False, True])
def test_compressed_files_are_read_also_in_several_parts(tmp_path, ready, write_tfrecord, compression, joined):
    path = write_tfrecord(tmp_path / "a.tfrecord", usual, range(4) if joined else None, compression)
    if joined:
        other = write_tfrecord(tmp_path / "b.tfrecord", usual, range(4, 8), compression)
        path.write_bytes(path.read_bytes() + other.read_bytes())

    in_order(ready(path))


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
@pytest.mark.parametrize(("damage", "message"), [(lambda c: c[:-100], "compressed and cut off"),
                                              (lambda c: damaged(c, 500, b"abcdefgh"), "damaged")])  # fmt: skip
def test_a_damaged_compressed_file_is_told(tmp_path, ready, write_tfrecord, compression, damage, message):  # noqa: PLR0917
    path = write_tfrecord(tmp_path / "a.tfrecord", usual, None, compression)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(InputError, match=message):
        ready(path)


@pytest.mark.parametrize(
    ("of", "note"),
    [
        (float, None),
        (lambda label: [label], None),
        (lambda label: [int(place == label) for place in range(12)], "one-hot vectors of 12"),
        (lambda label: [float(place == label) for place in range(12)], "one-hot vectors of 12"),
    ],
)
def test_labels_that_are_unambiguous_are_read(tmp_path, ready, write_tfrecord, of, note):
    data = ready(write_tfrecord(tmp_path / "f.tfrecord", lambda n, label: {"image": png(n), "label": of(label)}))

    in_order(data)
    assert bool(note) == bool(data.notes)
    assert not note or note in data.notes[0]


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (lambda label: label + 0.5, "has the label 5.5; it must be a whole number"),
        (lambda label: float("nan"), "has the label nan"),
        (lambda label: 3e38, r"has the label 3e\+38, too large"),
        (lambda label: -1, "has the label -1"),
        (lambda label: [0.2, 0.5, 0.3], r"has 3 numbers as its label \(0.2, 0.5, 0.3\), which are not one-hot"),
        (lambda label: [1, 1, 0], r"3 numbers as its label \(1, 1, 0\), which are not one-hot"),
        (lambda label: [0, 0, 0], "not one-hot"),
        (lambda label: [b"Ana", b"Li"], "has 2 texts as its label"),
        (lambda label: b"\xff\xfe", "neither a number nor UTF-8"),
        (lambda label: [], "has no label in"),
        (lambda label: label if label != 2 else b"2", "labels of different kinds: a number and a text"),
        (lambda label: [0, 1] if label == 2 else [0, 0, 1], "different kinds: a one-hot vector of 2 and a one-hot vec"),
    ],
)
def test_any_other_label_is_refused_by_what_it_is(tmp_path, ready, write_tfrecord, of, message):
    path = write_tfrecord(tmp_path / "f.tfrecord", lambda n, label: {"image": png(n), "label": of(label)})

    with pytest.raises(InputError, match=message):
        ready(path)


def test_an_image_of_numbers_is_told_as_such(tmp_path, ready, write_tfrecord):
    path = write_tfrecord(tmp_path / "f.tfrecord", lambda n, label: {"image": [0.5] * 48, "label": label})

    with pytest.raises(InputError, match="image is 48 numbers, and an image must be one encoded file"):
        ready(path)


def test_names_in_composed_and_decomposed_unicode_are_one_person(tmp_path, ready, write_tfrecord):
    names = ["Jos\u00e9", "Jose\u0301", "Bo", "Bo"]
    path = write_tfrecord(
        tmp_path / "f.tfrecord", lambda n, label: {"image": png(n), "label": names[n].encode()}, range(4)
    )

    data = ready(path)

    assert data.names == ("Bo", "Jos\u00e9")
    assert data.notes == ("Jos\u00e9: written in composed and in decomposed Unicode, and taken as one person each.",)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-100], "cut off"),
        (lambda content: damaged(content, 300, b"\xff\x00\xff"), r"record at byte 0 does not have its checksum"),
        (lambda content: damaged(content, 2, b"\x07"), "no record begins at byte 0: the file is damaged"),
        (lambda content: content + b"abc", r"the file ends within the record at byte [\d,]+"),
        (lambda content: b"\x1f\x8b" + content, "is compressed and damaged after byte 0"),
    ],
)
def test_a_damaged_tfrecord_file_is_told_with_the_byte(tmp_path, ready, write_tfrecord, damage, message):
    path = write_tfrecord(tmp_path / "faces.tfrecord", usual)
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(InputError, match=message):
        ready(path)


def test_checksums_are_crc_32c():
    # RFC 3720, B.4: 32 bytes of zeros, of ones, 0 to 31; TFRecord's mask turned back.
    known = {bytes(32): 0x8A9136AA, b"\xff" * 32: 0x62A8AB43, bytes(range(32)): 0x46DD794E}

    masked = [tfrecord.checksum(content) for content in known]

    turned = [(value - 0xA282EAD8) & 0xFFFFFFFF for value in masked]
    assert [(value >> 17 | value << 15) & 0xFFFFFFFF for value in turned] == list(known.values())


@pytest.mark.parametrize(
    "content", [b"\xff" * 40, b"\x0a\x05\x0a\x03abc", b"\x0a\x50short", b"\x08\x01", b"", b"\x0a\x02\x08\x01"]
)
def test_a_record_that_is_no_example_is_told(content):
    with pytest.raises(InputError, match=r"byte 7 (is no tf.train.Example|has no image)"):
        tfrecord.parse(content, None, None, "byte 7")

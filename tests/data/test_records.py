"""Sets of many images in one file, TFRecord and RecordIO, written here by their published formats."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data import prepare, tfrecord
from facesim.data.recordio import read_record
from facesim.util.errors import InputError

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
        content = read_record(file, path, len(records[0]))

    assert content == ((2.0,), image)


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
    ("label", "message"),
    [
        (-1.0, "has the label -1.0"),
        (2.5, "has the label 2.5"),
        (float("nan"), "has the label nan"),
        (float("inf"), "has the label inf"),
        (3e38, r"has the label 3e\+38, too large to number people; above 16,777,216"),
    ],
)
def test_a_label_that_is_no_whole_number_is_told(tmp_path, ready, label, message):
    records = [record(packed(float(one), at, png(at))) for at, one in enumerate([*LABELS[:-1], label])]

    with pytest.raises(InputError, match=message):
        ready(write_rec(tmp_path, records))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train.idx", "0\t0\nnonsense\n", "train.idx line 2: b'nonsense.*Without it, facesim finds the records"),
        ("train.idx", "0\t999999\n", "train.idx line 1: record 0 is said to begin at byte 999,999"),
        ("property", "many", "property says 'many'; it must be identities,height,width"),
        ("property", "5,16,16", "property says 5 identities and the records have labels up to 11"),
    ],
)
def test_files_that_do_not_belong_together_are_told(tmp_path, ready, file, content, message):
    path = write_rec(tmp_path, insightface())
    (tmp_path / file).write_text(content)

    with pytest.raises(InputError, match=message):
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


def plain(labels: list = LABELS) -> list[bytes]:
    """Records of mxnet's im2rec: images alone."""
    return [record(packed(label if isinstance(label, list) else float(label), at, png(at)))
            for at, label in enumerate(labels)]  # fmt: skip


def lines_of(records: list[bytes], numbers: list[int] | None = None) -> list[str]:
    offsets = np.cumsum([0, *(len(one) for one in records)])[:-1]
    return [f"{number}\t{at}\n" for number, at in zip(numbers or range(len(records)), offsets)]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (lambda lines: "".join(lines[:4]), r"train.idx leaves out 4 of the 8 records\. All 8 records were read"),
        (lambda lines: "".join(lines)[:-2], r"train.idx (leaves out 1 of the 8 records|points|is cut off)"),
        (lambda lines: "".join(lines[:5]) + "5", "leaves out 3 of the 8 records, is cut off in its last line"),
        (lambda lines: "", "leaves out 8 of the 8 records"),
        (lambda lines: "".join([*lines, lines[2]]), "names 1 records more than once, gives 1 numbers more than once"),
        (lambda lines: "".join([*lines, "8\t1\n"]), "points 1 times to where no record begins"),
    ],
)
def test_what_an_index_leaves_out_or_names_twice_is_told_and_all_records_are_read(tmp_path, ready, index, message):
    records = plain()
    path = write_rec(tmp_path, records, people=None)
    path.with_suffix(".idx").write_text(index(lines_of(records)))

    data = ready(path)

    assert_holds_what_was_written(data)
    assert len(data.notes) == 1
    assert re.search(message, data.notes[0])


def test_two_numberings_joined_hide_no_image(tmp_path, ready):
    records = plain()
    path = write_rec(tmp_path, records, people=None)
    path.with_suffix(".idx").write_text("".join(lines_of(records, [*range(4), *range(4)])))

    data = ready(path)

    assert_holds_what_was_written(data)
    assert data.notes == (
        "train.idx gives 4 numbers more than once. All 8 records were read, in the order of the file, without it.",
    )


def test_an_index_that_names_each_record_once_gives_the_order(tmp_path, ready):
    records = plain()
    path = write_rec(tmp_path, records, people=None)
    path.with_suffix(".idx").write_text("".join(lines_of(records, [7, 6, 5, 4, 3, 2, 1, 0])))

    data = ready(path)

    assert data.notes == ()
    np.testing.assert_array_equal(data.images[0], picture(7))


@pytest.mark.parametrize("index", [True, False])
def test_two_of_insightface_s_files_joined_are_read_whole_with_a_word(tmp_path, ready, index):
    data = ready(write_rec(tmp_path, insightface() * 2, index=index))

    assert [data.names[label] for label in data.labels] == [str(label) for label in LABELS] * 2
    assert data.notes == (
        "train.rec has 16 images and its record 0 says 8: it was joined from several files. All were read; the same "
        "label in two of these files is taken as the same person.",
    )


def test_insightface_s_file_without_its_last_images_is_told(tmp_path, ready):
    records = insightface()

    with pytest.raises(InputError, match="record 0 says that there are 8 images, and 7 records have one"):
        ready(write_rec(tmp_path, records[:8] + records[9:]))


def test_one_hot_labels_of_records_are_read(tmp_path, ready):
    labels = [[float(place == label) for place in range(12)] for label in LABELS]

    data = ready(write_rec(tmp_path, plain(labels), people=None))

    assert_holds_what_was_written(data)
    assert data.notes == ("The labels are one-hot vectors of 12; the place of the 1, from 0, is the label.",)


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
    with pytest.raises(InputError, match="faces-train.tfrecord has 2 files and 1 are missing, among them number 1"):
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

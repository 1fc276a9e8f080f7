"""RecordIO: sets of many images in one file, written here by their published formats."""

from __future__ import annotations

import io
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data import prepare, tfrecord
from facesim.data.recordio import read_index, read_record
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
        (lambda lines: "".join([*lines, lines[2]]), "names 1 record more than once, gives 1 number more than once"),
        (lambda lines: "".join([*lines, "8\t1\n"]), "points 1 time to where no record begins"),
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


@pytest.mark.parametrize(
    "read", [lambda path: read_index(path, lambda *_: None), lambda path: list(tfrecord.find_records(path))]
)
def test_what_is_no_file_to_read_is_told_as_that(tmp_path, read):
    with pytest.raises(InputError, match=f"{tmp_path}: a folder, not a file. Give a file that you may read"):
        read(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["train.rec", "train.idx", "property"])
def test_a_file_that_may_not_be_read_is_told_and_the_cache_is_not_blamed(tmp_path, ready, name):
    path = write_rec(tmp_path / "faces", insightface())
    (path.parent / name).chmod(0)

    with pytest.raises(InputError, match=f"{name}: no permission to read. Give a file that you may read"):
        ready(path)

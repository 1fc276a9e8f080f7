"""Tar archives: WebDataset's samples in shards, and folders of people, read without unpacking anything."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data import prepare
from facesim.util.errors import InputError

LABELS = ["3", "0", "007", "0", "3", "007", "3"]


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)


def png(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "PNG")
    return file.getvalue()


def samples(field: str = "cls", begin: int = 0, end: int = len(LABELS)) -> dict[str, bytes]:
    members = {}
    for number in range(begin, end):
        label = LABELS[number]
        members[f"set/{number:04}.png"] = png(number)
        members[f"set/{number:04}.{field}"] = (json.dumps({"label": label}) if field == "json" else label).encode()
    return members


@pytest.fixture
def packed(tmp_path):
    def write(members: dict[str, bytes], name: str = "faces.tar", others: tuple[tarfile.TarInfo, ...] = ()) -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        kind = name.rpartition(".")[2]
        with tarfile.open(tmp_path / name, "w" if kind == "tar" else f"w:{kind}") as archive:
            for member in others:
                archive.addfile(member)
            for path, content in members.items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return tmp_path / name

    return write


@pytest.fixture
def ready(cache):
    return lambda source, **options: prepare(str(source), image_size=16, cache_dir=cache, **options)


def assert_is_all(data) -> None:
    assert [data.names[label] for label in data.labels] == LABELS
    np.testing.assert_array_equal(data.images, [picture(number) for number in range(len(LABELS))])


@pytest.mark.parametrize("name", ["faces.tar", "faces.tar.gz", "faces.tar.bz2", "faces.tar.xz"])
def test_an_archive_of_samples(ready, packed, name):
    data = ready(packed(samples(), name))

    assert_is_all(data)
    assert (data.name, data.origins[2], data.unused, data.notes) == ("faces", f"{name}: set/0002.png", (), ())


@pytest.mark.parametrize("field", ["txt", "json", "id"])
def test_labels_of_other_fields(ready, packed, field):
    assert_is_all(ready(packed(samples(field))))


def test_shards_in_a_folder_are_parts_by_their_names(ready, packed, tmp_path):
    packed(samples(end=3), "faces/train-000000.tar")
    packed(samples(begin=3, end=5), "faces/train-000001.tar")
    packed(samples(begin=5), "faces/test-000000.tar")

    data = ready(tmp_path / "faces")

    assert data.parts.tolist() == [2, 2, 0, 0, 0, 0, 0]
    assert [data.names[label] for label in data.labels] == LABELS[5:] + LABELS[:5]


@pytest.mark.parametrize("around", ["", "training_data/"])
def test_samples_in_the_folders_of_a_split_are_its_parts(ready, packed, around):
    folder_of = {f"set/{number:04}": "train" if number < 4 else "test" for number in range(len(LABELS))}
    members = {name.replace("set", folder_of[name[:8]]): content for name, content in samples().items()}

    data = ready(packed({f"{around}{name}": content for name, content in members.items()}))

    assert data.parts.tolist() == [0, 0, 0, 0, 2, 2, 2]
    assert_is_all(data)


def test_a_word_that_all_shards_begin_with_is_no_part(ready, packed, tmp_path):
    packed(samples(end=4), "faces/eval-train-000000.tar")
    packed(samples(begin=4), "faces/eval-test-000000.tar")

    assert ready(tmp_path / "faces").parts.tolist() == [2, 2, 2, 0, 0, 0, 0]


def test_what_is_not_used_is_counted(ready, packed):
    link, device, folder = (tarfile.TarInfo(name) for name in ("set/0000.jpg", "set/pipe.png", "set.png"))
    link.type, device.type, folder.type = tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE
    link.linkname = "/etc/hostname"
    members = {**samples(), "set/._0000.png": b"", "set/0000.npy": b"", "set/8.png": png(8), "set/9.cls": b"3"}

    data = ready(packed(members, others=(link, device, folder)))

    assert_is_all(data)
    assert {one.reason: one.examples for one in data.unused} == {
        "a link in an archive": ("faces.tar: set/0000.jpg",),
        "a device or a pipe in an archive": ("faces.tar: set/pipe.png",),
        "of macOS": ("faces.tar: set/._0000.png",),
        "no image and no label (.npy)": ("set/0000.npy",),
        "an image without its label (.cls)": ("faces.tar: set/8.png",),
        "a label without its image": ("faces.tar: set/9.cls",),
    }


def test_several_images_and_labels_of_a_sample(ready, packed):
    members = {**samples(), **samples("json")} | {f"set/{number:04}.mask.png": png(99) for number in range(len(LABELS))}

    with pytest.raises(InputError, match=r"7 samples have several images, such as set/0000: png, mask.png"):
        ready(packed(members))
    data = ready(packed(members), image_feature="png", label_feature="label")

    assert_is_all(data)
    assert {one.reason: one.count for one in data.unused} == {
        "an image that --image-feature does not name": 7,
        "a label that is not read (.cls)": 7,
    }
    assert ".cls is taken as the label" in ready(packed(members), image_feature="png").notes[0]


def test_folders_of_people_in_an_archive(ready, packed):
    members = {f"lfw/{name}/{name}.{k}.png": png(10 * k) for name in ("Ana", "Jose\u0301") for k in range(3)}

    data = ready(packed({**members, "lfw/README.txt": b"about it", "lfw/index.json": b"[1"}, "lfw.tar.gz"))

    assert (data.names, len(data.labels)) == (("Ana", "Jos\u00e9"), 6)
    assert data.origins[0] == "lfw.tar.gz: lfw/Ana/Ana.0.png"
    assert {one.reason for one in data.unused} == {"no image (.txt)", "no image (.json)"}


def test_nothing_is_lost_of_an_archive_that_is_damaged(ready, packed):
    """Python's tarfile takes a damaged header, and the end of the file, for the end of the archive."""
    whole = packed(samples()).read_bytes()
    third = whole.index(b"set/0001.png")
    for name, content, message in (
        ("header.tar", whole[:third] + b"X" + whole[third + 1 :], f"no member begins at byte {third:,}"),
        ("cut.tar", whole[: third + 700], "unexpected end of data"),
        ("joined.tar", whole + whole, "several archives were joined"),
        ("none.tar", b"not an archive", "cannot be read as a tar archive"),
        ("empty.tar", b"", "cannot be read as a tar archive"),
    ):
        (whole_file := packed({}, name)).write_bytes(content)
        with pytest.raises(InputError, match=message):
            ready(whole_file)


def test_an_archive_cut_off_between_two_members(ready, packed):
    archive = packed(samples())
    os.truncate(archive, archive.read_bytes().index(b"set/0006.png"))

    data = ready(archive)

    assert len(data.labels) == 6
    assert data.notes == ("faces.tar has no mark at its end, so whether it is whole is not known.",)


def test_what_claims_to_be_huge_is_not_unpacked(ready, tmp_path):
    huge = tarfile.TarInfo("set/0009.png")
    long_name = tarfile.TarInfo("././@LongLink")
    huge.size = long_name.size = 1 << 40
    long_name.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "huge.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT))
    (tmp_path / "name.tar").write_bytes(long_name.tobuf(tarfile.GNU_FORMAT))

    with pytest.raises(InputError, match="unexpected end of data|too large"):
        ready(tmp_path / "huge.tar")
    with pytest.raises(InputError, match="a header of 1,099,511,627,776 bytes"):
        ready(tmp_path / "name.tar")


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        ({"a.txt": b"3"}, {}, "faces.tar holds no images"),
        ({"a.png": png(0)}, {}, "faces.tar: 1 of 1 image lies in no identity's folder"),
        ({"a.png": png(0), "a.json": b"[1]"}, {}, "a.json is JSON of type list"),
        ({"a.png": png(0), "a.json": b"{"}, {}, "a.json cannot be read as JSON"),
        ({"a.png": png(0), "a.txt": b"\xff"}, {}, "a.txt cannot be read as UTF-8"),
        ({"a.png": png(0), "a.json": b'{"label": {}}'}, {}, "a.json: label has a label of type dict"),
        ({"a.png": png(0), "a.who": b"Ana"}, {}, r"name what says .* --label-feature.* There are also \.who"),
        ({"a.png": png(0), "a.json": b'{"who": "Ana"}'}, {}, r"There are also \.json"),
        (samples(), {"label_feature": "who"}, "no sample says whom it shows by who"),
        (samples(), {"image_feature": "jpg"}, "no sample has jpg; there are png"),
    ],
)
def test_what_is_not_clear_is_refused(ready, packed, members, options, message):
    with pytest.raises(InputError, match=message):
        ready(packed(members), **options)


def test_a_table_among_folders_of_people_is_not_read_and_that_is_told(ready, packed):
    members = {f"{person}/{number}.png": png(number) for person in ("Ana", "Bo") for number in range(2)}

    data = ready(packed(members | {"labels.csv": b"path,label\n0.png,Ana\n"}))

    assert [one.reason for one in data.unused] == [
        "a table (.csv), which is not read in an archive: unpack it, and give the table itself"
    ]


def test_names_that_differ_in_capitals_alone_are_two_images(ready, packed):
    members = {f"{person}/{name}": png(len(name)) for person in ("Ana", "Bo") for name in ("1.JPG", "1.jpg", "22.png")}

    data = ready(packed(members))

    assert len(data.labels) == 6
    assert data.origins[:2] == ["faces.tar: Ana/1.JPG", "faces.tar: Ana/1.jpg"]


def test_one_name_in_two_ways_is_told_as_it_is(ready, packed):
    members = {"Ana/1.png": png(0), "Bo/1.png": png(1), "./Ana/1.png": png(2), "Bo/2.png": png(3)}

    with pytest.raises(InputError, match="Ana/1.png is there several times"):
        ready(packed(members))


def test_of_a_folder_of_archives_those_of_macos_are_none(ready, packed, tmp_path):
    packed(samples(end=4), "faces/train-00000-of-00002.tar")
    packed(samples(begin=4), "faces/train-00001-of-00002.tar")
    (tmp_path / "faces/._train-00000-of-00002.tar").write_bytes(b"\0\5\26\7")

    data = ready(tmp_path / "faces")

    assert_is_all(data)
    assert [str(one) for one in data.unused] == ["1 file: of macOS (._train-00000-of-00002.tar)"]


def test_an_image_cannot_be_named_in_folders_of_people(ready, packed):
    members = {f"{name}/{k}.png": png(k) for name in ("Ana", "Bo") for k in range(2)}

    with pytest.raises(InputError, match="read as folders of people, which have no jpg"):
        ready(packed(members), image_feature="jpg")


def test_folders_of_parts_may_be_inside_those_of_people(ready, packed):
    members = {f"{name}/{part}/{k}.png": png(k) for name in ("Ana", "Bo") for k, part in enumerate(("train", "test"))}

    data = ready(packed(members))

    assert (data.names, np.bincount(data.parts).tolist()) == (("Ana", "Bo"), [2, 0, 2])

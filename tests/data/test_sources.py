"""What a data source is not: archives, parts of a split, files beside the data, people who are nobody."""

from __future__ import annotations

import io
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facesim.data import prepare
from facesim.data.parts import words_of
from facesim.data.tables import read_table
from facesim.data.tfrecord import checksum
from facesim.spec.data import DataSpec
from facesim.util.errors import InputError


def jpeg(number: int) -> bytes:
    encoded = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(encoded, "JPEG")
    return encoded.getvalue()


def varint(number: int) -> bytes:
    encoded = b""
    while number > 127:
        encoded, number = encoded + bytes([number & 127 | 128]), number >> 7
    return encoded + bytes([number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(value: bytes | int) -> bytes:
    return field(1, field(1, value)) if isinstance(value, bytes) else field(3, field(1, varint(value)))


def record(**features: bytes | int) -> bytes:
    """A record of a TFRecord file."""
    content = field(
        1, b"".join(field(1, field(1, name.encode()) + field(2, feature(value))) for name, value in features.items())
    )
    head = struct.pack("<Q", len(content))
    return head + struct.pack("<I", checksum(head)) + content + struct.pack("<I", checksum(content))


def records(count: int = 9) -> bytes:
    return b"".join(record(image=jpeg(k), label=k % 3) for k in range(count))


def rec(label: float, number: int) -> bytes:
    """A record of InsightFace's."""
    content = struct.pack("<IfQQ", 0, label, 0, 0) + jpeg(number)
    return struct.pack("<II", 0xCED7230A, len(content)) + content + bytes(-len(content) % 4)


@pytest.fixture
def prepared(cache):
    return lambda source: prepare(str(source), image_size=32, cache_dir=cache)


class TestWhatIsNoSource:
    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("celeba.zip", "cannot be read as .zip"),
            ("faces.tar.gz", "cannot be read as a tar archive"),
            ("faces.tar.zst", "an archive: unpack it"),
            ("FACES.7Z", "an archive: unpack it"),
            ("labels.xlsx", "a spreadsheet: save it as CSV"),
            ("faces.h5", "numpy.savez"),
            ("faces.parquet", "cannot be read as a table"),
            ("ana.jpg", "one image: give the folder"),
            ("faces.xyz", "Give one of these"),
        ],
    )
    def test_a_file_of_another_kind_is_told_with_what_to_do(self, prepared, tmp_path, name, remedy):
        (tmp_path / name).write_bytes(b"x")

        with pytest.raises(InputError, match=remedy):
            prepared(tmp_path / name)

    @pytest.mark.parametrize("parts", [("train", "test"), ("Training", "val"), ("train_images", "test_images", "dev")])
    def test_people_who_are_called_like_the_parts_of_a_split_are_told(self, prepared, tmp_path, parts):
        for part in parts:
            (tmp_path / "faces" / part).mkdir(parents=True)
            for k in range(3):
                (tmp_path / "faces" / part / f"{k}.jpg").write_bytes(jpeg(k))

        (note,) = prepared(tmp_path / "faces").notes

        assert "are taken as people" in note and "If they are parts of a split" in note

    def test_one_person_may_be_called_like_a_part(self, prepared, tmp_path):
        for person in ("Dev", "Ana"):
            (tmp_path / "faces" / person).mkdir(parents=True)
            for k in range(3):
                (tmp_path / "faces" / person / f"{k}.jpg").write_bytes(jpeg(k))

        data = prepared(tmp_path / "faces")

        assert (data.names, data.notes) == (("Ana", "Dev"), ())


class TestBesideTheData:
    def test_of_a_folder_with_a_record_file_all_else_is_counted(self, prepared, tmp_path):
        (tmp_path / "train.rec").write_bytes(b"".join(rec(k % 3, k) for k in range(9)))
        (tmp_path / "property").write_text("3,40,40")
        for name in ("lfw.bin", "agedb_30.bin", ".DS_Store"):
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "more").mkdir()

        unused = prepared(tmp_path).unused

        assert [str(one) for one in unused] == [
            "2 files: beside the data set, and no part of it (agedb_30.bin, lfw.bin)",
            "1 file: of macOS (.DS_Store)",
            "1 folder: beside the data set, and no part of it (more)",
        ]
        assert prepared(tmp_path / "train.rec").unused == ()  # it was named itself

    def test_of_a_folder_with_an_archive_too(self, prepared, tmp_path):
        np.savez(tmp_path / "faces.npz", images=np.zeros((6, 32, 32), np.uint8), labels=np.arange(6) % 2)
        (tmp_path / "README.md").write_text("x")

        assert [one.examples for one in prepared(tmp_path).unused] == [("README.md",)]

    def test_a_record_file_without_a_record_is_counted(self, prepared, tmp_path):
        (tmp_path / "train-00000-of-00002").write_bytes(records())
        (tmp_path / "train-00001-of-00002").write_bytes(b"")

        (one,) = prepared(tmp_path).unused

        assert str(one) == "1 file: a file without a record (train-00001-of-00002)"

    def test_record_files_of_a_split_are_its_parts(self, prepared, tmp_path):
        (tmp_path / "faces-train.tfrecord").write_bytes(records(9))
        (tmp_path / "faces-test.tfrecord").write_bytes(records(6))

        data = prepared(tmp_path)

        train, held_out = data.split(DataSpec())
        assert (len(train), len(held_out)) == (9, 6)
        assert {data.origins[index].split()[0] for index in held_out} == {"faces-test.tfrecord"}

    def test_another_feature_that_could_be_the_label_is_told(self, prepared, tmp_path):
        content = b"".join(record(image=jpeg(k), label=k % 3, identity=k % 2) for k in range(12))
        (tmp_path / "faces.tfrecord").write_bytes(content)

        data = prepared(tmp_path / "faces.tfrecord")

        assert data.names == ("0", "1", "2")
        assert data.notes == (
            "records have identity beside the label that is read; --label-feature names the one to read.",
        )


def table(tmp_path, text: str, name: str = "faces.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


class TestTables:
    @pytest.mark.parametrize("listed", ["C:/Users/me/a.jpg", "d:a.jpg", r"C:\Users\me\a.jpg", "//server/share/a.jpg"])
    def test_a_path_of_windows_is_told_as_such(self, tmp_path, listed):
        with pytest.raises(InputError, match="line 2: .* is a path of a Windows system"):
            read_table(table(tmp_path, f"path,label\n{listed},Ana\n"))

    def test_a_file_here_may_be_called_so(self, tmp_path):
        (tmp_path / "d:a.jpg").write_bytes(jpeg(0))

        assert read_table(table(tmp_path, "path,label\nd:a.jpg,Ana\n")).examples[0].path.name == "d:a.jpg"

    def test_a_shell_s_home_folder_is_told(self, tmp_path):
        with pytest.raises(InputError, match="begins with ~"):
            read_table(table(tmp_path, "path,label\n~/a.jpg,Ana\n"))

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_one_file_under_two_names_is_refused(self, tmp_path, link):
        (tmp_path / "a.jpg").write_bytes(jpeg(0))
        link(tmp_path / "a.jpg", tmp_path / "b.jpg")

        with pytest.raises(InputError, match="line 3: b.jpg is already on line 2"):
            read_table(table(tmp_path, "path,label\na.jpg,Ana\nb.jpg,Bo\n"))


class TestNegativeLabels:
    """-1 marks what is nobody's in data sets that have it; it must not become a person in one kind of file alone."""

    def test_they_are_refused_in_a_table(self, tmp_path):
        with pytest.raises(InputError, match="has the label -1 among numbers"):
            read_table(table(tmp_path, "path,label\na.jpg,-1\nb.jpg,0\nc.jpg,1\n"))

    @pytest.mark.parametrize("labels", [[-1, 0, 1], ["-1", "0", "1"], ["-1.0", "0.0", "1.0"]])
    def test_they_are_refused_in_an_archive(self, prepared, tmp_path, labels):
        np.savez(tmp_path / "faces.npz", images=np.zeros((6, 32, 32), np.uint8), labels=np.array(labels * 2))

        with pytest.raises(InputError, match="the label -1"):
            prepared(tmp_path / "faces.npz")

    def test_among_names_it_is_a_name(self, tmp_path):
        examples = read_table(table(tmp_path, "path,label\na.jpg,-1\nb.jpg,Bo\n")).examples

        assert [example.identity for example in examples] == ["-1", "Bo"]


def test_names_that_would_move_a_terminal_s_cursor_are_shown_plainly(prepared, tmp_path):
    names = np.array(["\x1b[31mAna", "Bo\nBo"] * 3)
    np.savez(tmp_path / "faces.npz", images=np.zeros((6, 32, 32), np.uint8), labels=names)

    assert prepared(tmp_path / "faces.npz").names == (r"\x1b[31mAna", r"Bo\nBo")


class TestNamesOfImagesAndLabels:
    """What has no names to choose from takes no option that names one."""

    @pytest.fixture
    def folder(self, tmp_path):
        for person in ("Ana", "Bo"):
            (tmp_path / "faces" / person).mkdir(parents=True)
            for k in range(3):
                (tmp_path / "faces" / person / f"{k}.jpg").write_bytes(jpeg(ord(person[0]) + k))
        return tmp_path / "faces"

    @pytest.mark.parametrize("kind", ["folder", "npz", "zip", "rec", "rendered"])
    @pytest.mark.parametrize("option", ["image_feature", "label_feature"])
    def test_it_is_refused(self, tmp_path, folder, cache, kind, option):
        np.savez(tmp_path / "a.npz", images=np.zeros((4, 32, 32), np.uint8), labels=[0, 1, 0, 1], who=[1, 1, 0, 0])
        shutil.make_archive(str(tmp_path / "b"), "zip", folder)
        (tmp_path / "train.rec").write_bytes(b"".join(rec(k % 3, k) for k in range(9)))
        files = {"npz": "a.npz", "zip": "b.zip", "rec": "train.rec", "folder": "faces"}
        source = str(tmp_path / files[kind]) if kind in files else kind

        with pytest.raises(InputError, match="who means nothing to .* Leave it out") as error:
            prepare(source, image_size=32, cache_dir=cache, **{option: "who"})
        assert error.value.field == option

    def test_a_folder_may_be_tested_on_beside_a_table_where_they_are_named(self, tmp_path, folder, cache):
        (tmp_path / "table").mkdir()
        rows = ["path,label,who"]
        for k in range(4):
            (tmp_path / f"table/{k}.jpg").write_bytes(jpeg(k))
            rows.append(f"{k}.jpg,{k},{('Ana', 'Bo')[k % 2]}")
        listed = table(tmp_path / "table", "\n".join(rows))

        data = prepare(str(listed), test=str(folder), label_feature="who", image_size=32, cache_dir=cache)

        assert data.names == ("Ana", "Bo") and np.bincount(data.parts).tolist() == [4, 0, 6]


class TestFilesOfMacos:
    """`._NAME` beside each file, on disks and in archives that macOS wrote, is not the user's."""

    @pytest.mark.parametrize("kind", ["tfrecord", "rec", "npz", "csv"])
    def test_they_are_counted(self, prepared, tmp_path, kind):
        names = {"tfrecord": "faces-train.tfrecord", "rec": "train.rec", "npz": "faces.npz", "csv": "faces.csv"}
        if kind == "npz":
            np.savez(tmp_path / names[kind], images=np.zeros((4, 32, 32), np.uint8), labels=[0, 1, 0, 1])
        elif kind == "csv":
            rows = [f"{tmp_path.parent / f'{tmp_path.name}-{k}.jpg'},{k % 2}" for k in range(4)]
            for k, row in enumerate(rows):
                Path(row.partition(",")[0]).write_bytes(jpeg(k))
            table(tmp_path, "\n".join(["path,label", *rows]))
        else:
            content = records() if kind == "tfrecord" else b"".join(rec(k % 3, k) for k in range(9))
            (tmp_path / names[kind]).write_bytes(content)
        (tmp_path / f"._{names[kind]}").write_bytes(b"\0\5\26\7")

        assert [str(one) for one in prepared(tmp_path).unused] == [f"1 file: of macOS (._{names[kind]})"]


def test_record_files_called_held_out_are_tested_on(prepared, tmp_path):
    for name in ("train", "held-out"):
        for shard in range(2):
            (tmp_path / f"faces-{name}-0000{shard}-of-00002.tfrecord").write_bytes(records(3 + 3 * shard))

    data = prepared(tmp_path)

    assert {data.origins[index].split()[0].partition("-0")[0] for index in data.split(DataSpec())[1]} == {
        "faces-held-out"
    }


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("held-out-00000-of-00001", ["held-out", "out", "of", ""]),
        ("dev_train.tar", ["dev", "train", "tar"]),
        ("test-set.tar", ["test", "set", "tar"]),
    ],
)
def test_words_of_a_file_s_name_are_joined_only_where_alone_they_mean_nothing(name, words):
    assert words_of(name) == words


def test_the_home_folder_of_nobody_is_data_that_there_is_not(prepared):
    with pytest.raises(InputError, match="no data source '~nobody-is-called-so/faces'"):
        prepared("~nobody-is-called-so/faces")

"""Folders as people really have them: what is not used of them is told, and nothing in them makes facesim wait."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from facesim.data import prepare
from facesim.data.decode import read_image
from facesim.data.layouts import find_examples, look_through
from facesim.data.parts import NO_PART, TEST, TRAIN, VAL
from facesim.data.walk import list_images, system_name, walk
from facesim.util.errors import InputError
from facesim.util.files import open_regular, why_unread

ROOT = os.geteuid() == 0


def reasons(root: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    """reason -> how many, and examples."""
    return {one.reason: (one.count, one.examples) for one in look_through(root).unused}


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(os.path.realpath(root)).as_posix() for path in list_images(root))


@pytest.fixture
def faces(tmp_path, two_people) -> Path:
    return tmp_path / "faces"


TWO_PEOPLE = [f"{name}/{k}.png" for name in ("Ana", "Bo") for k in range(3)]


@pytest.mark.parametrize(
    "clutter",
    [
        "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "@eaDir/SYNOFILE_THUMB_M.png",
        "#recycle/old.jpg",
        "@Recycle/old.jpg",
        "@Recently-Snapshot/old.jpg",
        ".@__thumb/default1.jpg",
        "__MACOSX/._1.jpg",
        "._1.jpg",
        ".Trashes/old.jpg",
        "$RECYCLE.BIN/S-1-5/old.jpg",
        "System Volume Information/old.jpg",
        ".Trash-1000/files/old.jpg",
        "lost+found/old.jpg",
        ".thumbnails/1.jpg",
        ".trashed-1699999999-1.jpg",
        ".picasaoriginals/1.jpg",
        "Catalog Previews.lrdata/1.jpg",
        ".dtrash/1.jpg",
        "CaptureOne/Cache/1.jpg",
        "Photos Library.photoslibrary/originals/1.jpg",
        "Recycle.Bin/1.jpg",
        ".stversions/1.jpg",
        ".hidden/1.jpg",
    ],
)
def test_pictures_of_systems_and_programs_are_nobody_s(faces, photo, clutter):
    photo(f"faces/Ana/{clutter}", file_format="PNG")

    assert names(faces) == TWO_PEOPLE
    ((count, examples),) = reasons(faces).values()
    assert count == 1 and examples == (f"Ana/{clutter.split('/')[0]}",)


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", "DESKTOP.INI", "Picasa.ini", ".nomedia", "a.jpg:Zone.Identifier"]
)
def test_files_of_systems_are_told(faces, name):
    (faces / "Ana" / name).write_bytes(b"\0")

    assert system_name(name)
    assert list(reasons(faces).values()) == [(1, (f"Ana/{name}",))]


@pytest.mark.parametrize("name", ["@ana", "Originals", "#1", "Recycle", "Picasa", "$money", "Thumbelina", "dot.ted"])
def test_people_may_have_names_like_these(photo, tmp_path, name):
    for person in (name, "Bo"):
        photo(f"faces/{person}/1.png")

    assert system_name(name) is None
    assert {example.identity for example in find_examples(tmp_path / "faces")} == {name, "Bo"}


@pytest.mark.parametrize("suffix", ["jp2", "tga", "jxl", "CR2"])
def test_a_person_whose_files_are_of_a_kind_that_is_not_read_is_told(faces, suffix):
    (faces / "Cy").mkdir()
    for k in range(4):
        (faces / f"Cy/{k}.{suffix}").write_bytes(b"\x00\x00\x00\x0cjP  \r\n\x87\n")

    causes = reasons(faces)

    assert causes[f".{suffix.lower()} is not read, convert it to JPEG or PNG"][0] == 4
    assert causes["a folder without an image that can be read"] == (1, ("Cy",))


def test_every_other_file_is_counted_by_what_it_is(faces):
    for name in ("notes.txt", "Ana/1.xmp", "Ana/2.xmp", "README"):
        (faces / name).write_text("text")
    (faces / "Zoe").mkdir()

    assert reasons(faces) == {
        "no image (.xmp)": (2, ("Ana/1.xmp", "Ana/2.xmp")),
        "no image (.txt)": (1, ("notes.txt",)),
        "no image, by name and content": (1, ("README",)),
        "an empty folder": (1, ("Zoe",)),
    }


def test_where_there_is_no_image_at_all_the_reasons_are_told(tmp_path):
    (tmp_path / "Ana").mkdir()
    for k in range(3):
        (tmp_path / f"Ana/{k}.jp2").write_bytes(b"jP")

    with pytest.raises(InputError, match=r"found 3 \.jp2.*3 files: \.jp2 is not read"):
        find_examples(tmp_path)


class TestNames:
    @pytest.fixture
    def not_utf8(self, faces, photo) -> Path:
        folder = os.fsencode(faces) + b"/J\xf6rg"
        try:
            os.mkdir(folder)
        except OSError:
            pytest.skip("this file system has only names in UTF-8")
        for k in range(2):
            os.rename(photo(f"new{k}.png"), os.fsdecode(folder + b"/\xff%d.png" % k))
        with open(folder + b"/n\xf6tes.txt", "w") as file:
            file.write("text")
        return faces

    def test_names_that_are_not_utf8(self, not_utf8, tmp_path, capsys, monkeypatch):
        from facesim.cli import main

        monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
        data = prepare(str(not_utf8), image_size=8, cache_dir=tmp_path / "cache")

        assert data.names == ("Ana", "Bo", r"J\xf6rg")
        assert r"J\xf6rg/\xff0.png" in data.origins
        json.dumps([list(data.names), data.origins, data.unused[0].examples], ensure_ascii=False).encode("utf-8")
        assert main(["data", "describe", str(not_utf8)]) == 0
        assert r"J\xf6rg/n\xf6tes.txt" in capsys.readouterr().out

    def test_they_are_read_where_they_lie(self, not_utf8, tmp_path):
        data = prepare(str(not_utf8), image_size=8, decoded=False, cache_dir=tmp_path / "cache")

        assert data.images[:].shape == (8, 8, 8, 3)

    def test_a_source_whose_own_name_is_not_utf8(self, not_utf8, tmp_path, monkeypatch):
        from facesim.cli import main

        moved = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
        os.rename(not_utf8, moved)
        monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))

        assert prepare(moved, image_size=8, cache_dir=tmp_path / "cache").name == r"\xff"
        assert main(["data", "describe", moved]) in (0, 2)

    @pytest.mark.parametrize("name", ["a\0b.png", "a\ud800b.png", "x" * 300 + ".png"])
    def test_names_that_no_file_can_have(self, faces, tmp_path, name):
        with pytest.raises(InputError, match="cannot be read as an image: (a path that no file can|its path is too)"):
            read_image(faces / name, 8, 3)
        with pytest.raises(InputError, match="no data source"):
            prepare(str(faces / name), cache_dir=tmp_path / "cache")

    def test_a_table_that_lists_such_a_name(self, faces, tmp_path):
        listed = [f"faces/{name},{name[:2]}" for name in (*TWO_PEOPLE, f"Ana/{'x' * 300}.png")]
        (tmp_path / "faces.csv").write_text("\n".join(["path,label", *listed]))

        for decoded in (True, False):
            data = prepare(
                str(tmp_path / "faces.csv"), image_size=8, max_bad_files=0.5, decoded=decoded, cache_dir=tmp_path / "c"
            )
            assert [bad.reason for bad in data.bad_files] == ["its path is too long"]

    def test_one_name_in_two_unicode_forms_is_one_person(self, photo, tmp_path):
        composed, decomposed = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
        for folder in (composed, decomposed, "Bo"):
            photo(f"faces/{folder}/{len(folder)}.png")
        if len(os.listdir(tmp_path / "faces")) < 3:
            pytest.skip("this file system takes both for one name")

        result = look_through(tmp_path / "faces")

        assert Counter(example.identity for example in result.examples) == {"Bo": 1, composed: 2}
        assert result.notes == (
            "folders whose names differ only in how accents are stored (Unicode NFC or NFD) are one identity each: "
            "José.",
        )


class TestSplits:
    @pytest.mark.parametrize(
        "folders", [("train", "test"), ("Train", "VAL"), ("training", "validation"), ("train_set", "test_set")]
    )
    def test_folders_are_parts(self, photo, tmp_path, folders):
        for folder in folders:
            for name in ("Ana", "Bo"):
                photo(f"faces/{folder}/{name}/{folder}.png")

        result = look_through(tmp_path / "faces")

        assert Counter(example.identity for example in result.examples) == {"Ana": 2, "Bo": 2}
        other = TEST if "test" in folders[1] else VAL
        assert {example.path.parent.parent.name: example.part for example in result.examples} == {
            folders[0]: TRAIN,
            folders[1]: other,
        }

    def test_inside_a_person_s_folder_too(self, photo, tmp_path):
        for path in ("Ana/1.png", "Ana/train/2.png", "Ana/test/3.png", "Bo/1.png"):
            photo(f"faces/{path}")

        assert [example.part for example in look_through(tmp_path / "faces").examples] == [
            NO_PART,
            TEST,
            TRAIN,
            NO_PART,
        ]

    def test_people_who_are_called_so_are_people(self, photo, tmp_path):
        for path in ("train/1.png", "test/1.png"):
            photo(f"people/{path}")

        assert {example.part for example in look_through(tmp_path / "people").examples} == {NO_PART}


@pytest.mark.skipif(ROOT, reason="root may read everything")
def test_what_may_not_be_read_is_told(faces):
    (faces / "Ana/secret").write_text("text")
    (faces / "Ana/secret").chmod(0)

    assert reasons(faces) == {"no image by its name, and no permission to read": (1, ("Ana/secret",))}


@pytest.mark.skipif(sys.platform == "darwin", reason="paths are shorter there")
def test_very_deep_folders(faces):
    # Deeper than Python's recursion goes; pytest could not remove them.
    deep = [faces.joinpath(*["d"] * level) for level in range(1, 1201)]
    try:
        for folder in deep:
            folder.mkdir()

        assert names(faces) == TWO_PEOPLE
        assert reasons(faces) == {"an empty folder": (1, ("d",))}
    finally:
        for folder in reversed(deep):
            folder.rmdir()


def test_every_error_has_words(tmp_path):
    for path, words in (
        (tmp_path / "nowhere", "no such file"),
        (tmp_path, "a folder, not a file"),
        ("a\0b", "no file can"),
    ):
        with pytest.raises((OSError, ValueError)) as caught:
            open_regular(path)
        assert words in why_unread(caught.value)


_NAMES = st.sampled_from(
    [b"a.png", b"b.PNG", b"c", b"d.txt", b"e.jp2", b"@eaDir", b"._a.png", b"Thumbs.db", b"train", b"test", b"\xff.png"]
    + ["José".encode(), unicodedata.normalize("NFD", "José").encode(), b"x\ny.png", b"Ana", b"Bo", b"1_sets_A"]
)
_TREES = st.lists(
    st.tuples(
        st.lists(_NAMES, min_size=1, max_size=4), st.sampled_from(["image", "other", "folder", "pipe", "link"]), _NAMES
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=_TREES)
def test_any_tree_is_understood_or_refused_and_everything_is_accounted_for(tmp_path_factory, tree):
    root = os.fsencode(tmp_path_factory.mktemp("tree"))
    for parts, kind, target in tree:
        path = os.path.join(root, *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if kind == "folder":
                os.mkdir(path)
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind == "link":
                os.symlink(target, path)
            else:
                with open(path, "xb") as file:
                    file.write(b"\x89PNG\r\n" if kind == "image" else b"text")
        except (FileExistsError, NotADirectoryError, OSError):
            continue
    root = Path(os.fsdecode(root))

    walked = walk(root)

    in_sight = [
        path
        for path in map(Path, _all_below(root))
        if not any(system_name(part) for part in path.relative_to(root).parts[:-1])
    ]
    due = sum(not path.is_dir() or path.is_symlink() or system_name(path.name) is not None for path in in_sight)
    folders = sum(one.count for one in walked.unused if one.reason in _ABOUT_FOLDERS)
    assert len(walked.images) + sum(one.count for one in walked.unused) - folders == due
    try:
        result = look_through(root)
    except InputError as error:
        str(error).encode("utf-8")
    else:
        assert sorted(example.path for example in result.examples) == sorted(walked.images)
        json.dumps([example.identity for example in result.examples], ensure_ascii=False).encode("utf-8")


_ABOUT_FOLDERS = ("a folder without an image that can be read", "an empty folder")


def _all_below(root: Path) -> list[str]:
    return [os.path.join(folder, name) for folder, folders, files in os.walk(root) for name in (*folders, *files)]


def test_pixels_are_the_same_whatever_lies_beside(faces, tmp_path):
    alone = prepare(str(faces), image_size=8, cache_dir=tmp_path / "cache")
    os.mkfifo(faces / "Ana/fifo.png")
    (faces / "@eaDir").mkdir()
    Image.new("RGB", (8, 8)).save(faces / "@eaDir/thumbnail.jpg")

    beside = prepare(str(faces), image_size=8, cache_dir=tmp_path / "cache")

    assert beside.sha256 == alone.sha256 and np.array_equal(beside.images, alone.images)
    assert (len(alone.unused), len(beside.unused)) == (0, 2)

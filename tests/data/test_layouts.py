"""Which layouts of folders are recognised, and what is said about the others."""

import os
import random
import unicodedata
from pathlib import Path

import pytest

from facesim.data.layouts import find_examples, understood
from facesim.data.parts import TEST, TRAIN
from facesim.data.tables import read_csv
from facesim.util.errors import InputError


def who(root: Path) -> dict[str, list[str]]:
    """identity -> its paths relative to root, in the order in which they were found."""
    people: dict[str, list[str]] = {}
    for example in find_examples(root):
        people.setdefault(example.identity, []).append(example.path.relative_to(root.resolve()).as_posix())
    return people


def test_one_folder_an_identity(photo, tmp_path):
    for path in ("Bo/b.png", "Ana/2.jpg", "Ana/10.jpg", "Bo/a.webp", "Ana/1.JPG"):
        photo(path)

    assert who(tmp_path) == {"Ana": ["Ana/1.JPG", "Ana/2.jpg", "Ana/10.jpg"], "Bo": ["Bo/a.webp", "Bo/b.png"]}


@pytest.mark.parametrize("above", ["", "lfw/", "lfw/lfw/", "a/b/c/"])
def test_lfw_however_deeply_nested(photo, tmp_path, above):
    for name in ("Ana_Li", "Bo_Ek"):
        for k in (1, 2):
            photo(f"{above}{name}/{name}_{k:04d}.jpg")

    assert list(who(tmp_path)) == ["Ana_Li", "Bo_Ek"]


def test_orl_counts_as_people_do(photo, tmp_path):
    for person in (10, 2, 1):
        for k in (1, 10, 2):
            photo(f"s{person}/{k}.pgm")

    people = who(tmp_path)

    assert list(people) == ["s1", "s2", "s10"]
    assert people["s2"] == ["s2/1.pgm", "s2/2.pgm", "s2/10.pgm"]


def test_yale_gifs_without_an_image_suffix(photo, tmp_path):
    for name in ("subject02.glasses", "subject01.happy", "subject01.glasses", "subject02.gif", "subject01.sad.gif"):
        photo(f"yalefaces/{name}", file_format="GIF")
    (tmp_path / "yalefaces/Readme.txt").write_text("about the data")

    people = who(tmp_path)

    assert {name: len(paths) for name, paths in people.items()} == {"subject01": 3, "subject02": 2}
    assert who(tmp_path / "yalefaces").keys() == people.keys()


def test_vggface2_splits_are_parts(photo, tmp_path):
    for path in ("train/n000002/0001_01.jpg", "test/n000002/0002_01.jpg", "test/n000009/0001_01.jpg"):
        photo(path)

    assert [example.part for example in find_examples(tmp_path)] == [TEST, TRAIN, TEST]
    assert {name: len(paths) for name, paths in who(tmp_path).items()} == {"n000002": 2, "n000009": 1}


def test_people_called_train_and_test_are_people(photo, tmp_path):
    for path in ("train/1.png", "train/2.png", "test/1.png", "test/2.png"):
        photo(path)

    assert list(who(tmp_path)) == ["test", "train"]


def test_deeper_folders_belong_to_the_identity_above(photo, tmp_path):
    for path in ("Ana/1.png", "Ana/glasses/2.png", "Bo/1.png"):
        photo(path)

    assert who(tmp_path) == {"Ana": ["Ana/1.png", "Ana/glasses/2.png"], "Bo": ["Bo/1.png"]}


class TestSelfiesAndIdImages:
    TREE = "Selfies ID Images dataset/"
    HISPANICS, CAUCASIANS = TREE + "11_sets_Hispanics/", TREE + "18_sets_ Caucasians/"

    def test_groups_and_names(self, photo, tmp_path):
        for folder in (self.HISPANICS + "000a--61_age_20_name_Ana", self.CAUCASIANS + "000b--62_age_31_name_ Kasia "):
            for name in ("ID_1.jpg", "Selfie_1.jpg"):
                photo(f"{folder}/{name}")

        groups = {(example.identity, example.group) for example in find_examples(tmp_path)}

        assert groups == {("Ana", "Hispanics"), ("Kasia", "Caucasians")}

    def test_people_of_one_first_name_stay_distinct(self, photo, tmp_path):
        for person in ("Hispanics/1_x_name_Ana", "Hispanics/2_x_name_Ana", " Caucasians/1_name_Ana"):
            photo(f"11_sets_{person}/ID_1.jpg")

        assert list(who(tmp_path)) == ["Ana (Caucasians 1)", "Ana (Hispanics 1)", "Ana (Hispanics 2)"]

    def test_decomposed_names_are_composed(self, photo, tmp_path):
        decomposed = unicodedata.normalize("NFD", "José")
        photo(self.HISPANICS + f"1_age_2_name_{decomposed}/ID_1.jpg")
        photo(self.HISPANICS + "2_age_2_name_Ana/ID_1.jpg")

        assert list(who(tmp_path)) == ["Ana", "José"]

    def test_one_set_folder_alone(self, photo, tmp_path):
        for person in ("1_name_Ana", "2_name_Bo"):
            photo(f"11_sets_Hispanics/{person}/ID_1.jpg")

        examples = find_examples(tmp_path / "11_sets_Hispanics")

        assert [(one.identity, one.group) for one in examples] == [("Ana", "Hispanics"), ("Bo", "Hispanics")]

    @pytest.mark.parametrize("around", ["11_sets_Hispanics", "11_sets_Hispanics.zip"])
    def test_one_set_folder_in_a_folder_or_an_archive_of_its_own_name(self, tmp_path, around):
        images = [tmp_path / around / "11_sets_Hispanics" / f"{name}/ID_1.jpg" for name in ("1_name_Ana", "2_name_Bo")]

        examples = understood(tmp_path / around, images, ()).examples

        assert [(one.identity, one.group) for one in examples] == [("Ana", "Hispanics"), ("Bo", "Hispanics")]

    def test_an_image_of_nobody_is_refused(self, photo, tmp_path):
        photo(self.HISPANICS + "1_name_Ana/ID_1.jpg")
        photo(self.HISPANICS + "contact sheet.jpg")

        with pytest.raises(InputError, match=r"contact sheet\.jpg lies in no person's folder"):
            find_examples(tmp_path)


def test_clutter_is_ignored(photo, tmp_path):
    for path in ("Ana/1.png", "Ana/._1.png", "__MACOSX/Ana/1.png", ".cache/Ana/1.png", "Bo/1.png"):
        photo(path)
    for path in (".DS_Store", "Ana/.DS_Store", "Ana/Thumbs.db", "notes.txt", "Bo/landmarks.mat"):
        (tmp_path / path).write_bytes(b"\0\1")

    assert who(tmp_path) == {"Ana": ["Ana/1.png"], "Bo": ["Bo/1.png"]}


def test_the_order_does_not_depend_on_the_file_system(photo, tmp_path, monkeypatch):
    for name in ("Ana", "Bo", "s2", "s10"):
        for k in range(5):
            photo(f"{name}/{k}.png")
    expected = find_examples(tmp_path)
    walk = os.walk

    def shuffled(*args, **options):
        for folder, subfolders, files in walk(*args, **options):
            random.shuffle(subfolders)
            random.shuffle(files)
            yield folder, subfolders, files

    monkeypatch.setattr(os, "walk", shuffled)

    assert all(find_examples(tmp_path) == expected for _ in range(5))


def test_links_out_of_the_folder_are_not_followed(photo, tmp_path, two_people):
    (tmp_path / "faces/Ana/linked.png").symlink_to(photo("elsewhere/Zoe/1.png"))
    (tmp_path / "faces/Zoe").symlink_to(tmp_path / "elsewhere/Zoe")

    assert {name: len(paths) for name, paths in who(tmp_path / "faces").items()} == {"Ana": 3, "Bo": 3}


class TestFoldersThatCannotBeUsed:
    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="no such folder.*nowhere"):
            find_examples(tmp_path / "nowhere")

    def test_a_file(self, photo):
        with pytest.raises(InputError, match="is a file"):
            find_examples(photo("1.png"))

    def test_empty(self, tmp_path):
        with pytest.raises(InputError, match=r"no images in .* \(found nothing\)"):
            find_examples(tmp_path)

    def test_only_other_files(self, tmp_path):
        (tmp_path / "train.rec").write_bytes(b"")

        with pytest.raises(InputError, match=r"found 1 \.rec"):
            find_examples(tmp_path)

    def test_only_links_elsewhere(self, photo, tmp_path):
        photo("elsewhere/1.png")
        (tmp_path / "faces").mkdir()
        (tmp_path / "faces/Ana").symlink_to(tmp_path / "elsewhere")

        with pytest.raises(InputError, match="1 link, not followed"):
            find_examples(tmp_path / "faces")

    def test_images_in_nobody_s_folder(self, photo, tmp_path):
        for path in ("a.png", "Ana/1.png", "Bo/1.png"):
            photo(path)

        with pytest.raises(InputError, match=r"1 of 3 images lies in no identity's folder \(a.png\)"):
            find_examples(tmp_path)

    def test_unclear_whether_people_or_their_groups(self, photo, tmp_path):
        for path in ("staff/Ana/1.png", "staff/Bo/1.png", "guests/Cy/1.png"):
            photo(path)

        with pytest.raises(InputError, match="guests, staff hold no images themselves"):
            find_examples(tmp_path)


class TestCsv:
    def write(self, tmp_path: Path, text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "faces.csv"
        path.write_bytes(text.encode(encoding))
        return path

    def test_paths_start_at_the_folder_of_the_csv(self, tmp_path):
        path = self.write(tmp_path, "path,label,group\nb/2.png,Bo,x\nb/10.png,Bo,x\n/abs/a.png,Ana,\n")

        examples = read_csv(path)

        assert [(e.path, e.identity, e.group) for e in examples] == [
            (Path("/abs/a.png"), "Ana", None),
            (tmp_path / "b/2.png", "Bo", "x"),
            (tmp_path / "b/10.png", "Bo", "x"),
        ]

    def test_spaces_a_byte_order_mark_and_more_columns_do_no_harm(self, tmp_path):
        path = self.write(tmp_path, "\ufeffid, label ,path\n1, Ana, a.png\n")

        assert [(e.path.name, e.identity) for e in read_csv(path)] == [("a.png", "Ana")]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a.png,Ana\n", r"columns a.png, Ana; path and label are needed"),
            ("", r"columns \(none\)"),
            ("path,label\na.png,\n", "line 2: the path or the label is empty"),
            ("path,label\na.png\n", "line 2: the path or the label is empty"),
            ("path,label\na.png,A\n../b.png,B\n", r"line 3: \.\./b.png leads out"),
            ("path,label\na.png,A\nx/../a.png,B\n", "line 3: x/../a.png is already on line 2"),
            ("path,label,group\na.png,A,x\nb.png,A,y\n", "line 3: A is in group y here and in x before"),
        ],
    )
    def test_what_cannot_be_used_is_named_with_its_line(self, tmp_path, text, message):
        with pytest.raises(InputError, match=message):
            read_csv(self.write(tmp_path, text))

    def test_other_encodings_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="not a CSV in UTF-8"):
            read_csv(self.write(tmp_path, "path,label\na.png,José\n", "latin-1"))

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="no such file"):
            read_csv(tmp_path / "nowhere.csv")

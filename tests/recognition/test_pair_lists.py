"""Lists of pairs as LFW and CFP publish them, and as people write them, with the images that they name."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from facesim.recognition.pair_lists import find_pairs
from facesim.recognition.protocols import verification
from facesim.util.errors import InputError

CFP_FOLDS = {"01": ("1,1\n2,2\n", "1,3\n2,4\n"), "02": ("3,3\n4,4\n", "3,1\n4,2\n"), "10": ("3,4\n1,2\n", "1,4\n2,3\n")}


@pytest.fixture
def cfp(tmp_path, photo):
    """Two people of CFP's, two frontal images and two profiles each, and folds of both protocols."""
    root = tmp_path / "cfp"
    for kind, folder in (("F", "frontal"), ("P", "profile")):
        lines = []
        for number in range(1, 5):
            place = f"Data/Images/{(number + 1) // 2:03}/{folder}/{2 - number % 2:02}.png"
            photo(f"cfp/{place}")
            lines.append(f"{number} ../{place}")
        (root / "Protocol").mkdir(exist_ok=True)
        (root / f"Protocol/Pair_list_{kind}.txt").write_text("\n".join(lines))
    for protocol in ("FF", "FP"):
        for fold, (same, different) in CFP_FOLDS.items():
            (root / "Protocol/Split" / protocol / fold).mkdir(parents=True)
            (root / "Protocol/Split" / protocol / fold / "same.txt").write_text(same)
            (root / "Protocol/Split" / protocol / fold / "diff.txt").write_text(different)
    return root


def named(listed, root) -> list[tuple[str, str, bool, int]]:
    files, pairs = [file.relative_to(root).as_posix() for file in listed.files], listed.pairs
    columns = (pairs.first, pairs.second, pairs.same.tolist(), pairs.fold.tolist())
    return [(files[one], files[two], same, fold) for one, two, same, fold in zip(*columns)]


def test_cfp_s_folds_of_frontal_images_and_profiles(cfp):
    profile = find_pairs(cfp / "Protocol/Split/FP", cfp)
    frontal = find_pairs(cfp / "Protocol/Split/FF", cfp)

    assert named(profile, cfp / "Data/Images")[:3] == [
        ("001/frontal/01.png", "001/profile/01.png", True, 0),
        ("001/frontal/02.png", "001/profile/02.png", True, 0),
        ("001/frontal/01.png", "002/profile/01.png", False, 0),
    ]
    assert named(frontal, cfp / "Data/Images")[3] == ("001/frontal/02.png", "002/frontal/02.png", False, 0)
    assert profile.pairs.fold.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (profile.people, profile.cut) == (2, False)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Split/FP/02/diff.txt", "3,9", r"02/diff.txt line 1: '3,9' does not name two images"),
        ("Split/FP/02/diff.txt", "3;1", "does not name two images"),
        ("Pair_list_P.txt", "one ../Data", "Pair_list_P.txt line 1: 'one ../Data' is not a number and a path"),
        ("Pair_list_P.txt", "\n".join(f"{k} ../Data/{k}.png" for k in range(1, 5)), "names 8 images and 4 of them are"),
    ],
)
def test_damaged_files_of_cfp(cfp, file, content, message):
    (cfp / "Protocol" / file).write_text(content)

    with pytest.raises(InputError, match=message):
        find_pairs(cfp / "Protocol/Split/FP", cfp)


def test_a_folder_that_is_not_cfp_s(tmp_path):
    with pytest.raises(InputError, match="is no folder of CFP's folds.*Give Protocol/Split/FP"):
        find_pairs(tmp_path, tmp_path)


@pytest.fixture
def pair_table(tmp_path, photo):
    def write(rows: list[str], header: str = "first,second,same") -> object:
        for number in range(4):
            photo(f"faces/{number}.png")
        (tmp_path / "pairs.csv").write_text("\n".join([header, *rows]))
        return find_pairs(tmp_path / "pairs.csv", tmp_path / "faces")

    return write


def test_a_table_of_pairs_with_folds_or_without(pair_table, tmp_path):
    folded = pair_table(["0.png,1.png,yes,a", "2.png,0.png,0,a", "2.png,3.png,TRUE,b"], "first,second,same,fold")
    plain = pair_table(["0.png;1.png;1", "2.png;0.png;0", "2.png;3.png;same", "3.png;1.png;no"], "First;Second;Same")

    assert named(folded, tmp_path / "faces") == [
        ("0.png", "1.png", True, 0), ("2.png", "0.png", False, 0), ("2.png", "3.png", True, 1),
    ]  # fmt: skip
    assert (folded.cut, plain.cut, plain.people) == (False, True, None)
    assert plain.pairs.fold.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["0.png,1.png,1"], "a,b,same", "has the columns a, b, same; first, second, same are needed"),
        (["0.png,1.png,maybe"], "first,second,same", "line 2: .* same is 'maybe'"),
        (["0.png,,1"], "first,second,same", "line 2: first and second must be paths"),
        (["0.png,9.png,1"], "first,second,same", "names 2 images and 1 of them is missing, such as .*9.png"),
        ([], "first,second,same", "names no pairs"),
        (["0.png,1.png,1,a", "2.png,3.png,0,"], "first,second,same,fold", "line 3: fold is empty, and other lines"),
        (["0.png,1.png,1", "1.png,0.png,no"], "first,second,same", "of .*/faces/1.png and .*/faces/0.png both that"),
    ],
)
def test_a_table_that_is_none(pair_table, rows, header, message):
    with pytest.raises(InputError, match=message):
        pair_table(rows, header)


@pytest.fixture
def calfw(tmp_path, photo):
    def write(*lines: str) -> object:
        for name in ("Ana_0001", "Ana_0002", "Bo_0001"):
            photo(f"images/aligned/{name}.jpg")
        (tmp_path / "pairs_CALFW.txt").write_text("\n".join(lines) + "\n")
        return find_pairs(tmp_path / "pairs_CALFW.txt", tmp_path / "images")

    return write


def test_calfw_s_and_cplfw_s_lists_of_two_lines_a_pair(calfw, tmp_path):
    listed = calfw("Ana_0001.jpg 3", "Ana_0002.jpg 3", "Ana_0001.jpg 0", "Bo_0001.jpg 0")

    assert named(listed, tmp_path / "images/aligned") == [
        ("Ana_0001.jpg", "Ana_0002.jpg", True, 0), ("Ana_0001.jpg", "Bo_0001.jpg", False, 0),
    ]  # fmt: skip
    assert (listed.cut, listed.people) == (True, 2)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Ana_0001.jpg 1"], "has 1 line, and a pair has two"),
        (["Ana_0001.jpg 1", "Ana_0002.jpg 0"], "line 2: 'Ana_0002.jpg 0' is not an image and a number"),
        (["Ana_0001.jpg 1", "Ana_0002.jpg"], "line 2"),
        (["Ana_0001.jpg 1", "Cy_0001.jpg 1"], "1 of them is missing, such as .*Cy_0001.jpg"),
    ],
)
def test_damaged_lists_of_two_lines_a_pair(calfw, lines, message):
    with pytest.raises(InputError, match=message):
        calfw(*lines)


def test_lfw_s_list_without_folds_is_cut_into_ten(tmp_path, photo):
    """`pairsDevTest.txt` has one number in its first line; verification needs folds to choose a threshold on others."""
    people = [f"Person_{letter}" for letter in "ABCDEFGHIJKL"]
    for name in people:
        for number in (1, 2):
            photo(f"lfw/{name}/{name}_{number:04}.png")
    same = [f"{name}\t1\t2" for name in people]
    other = [f"{name}\t1\t{people[at - 1]}\t2" for at, name in enumerate(people)]
    (tmp_path / "pairsDevTest.txt").write_text("\n".join(["12", *same, *other]))

    listed = find_pairs(tmp_path / "pairsDevTest.txt", tmp_path / "lfw")

    pairs = listed.pairs
    assert listed.cut and listed.people == 12
    assert all(set(pairs.same[pairs.fold == fold]) == {True, False} for fold in range(10))
    assert verification(np.where(pairs.same, 0.9, 0.1), pairs.same, pairs.fold).accuracy == 1


def test_two_copies_of_the_images_are_refused(calfw, tmp_path, photo):
    """Which of them is meant would depend on their folders' names."""
    photo("images/original/Bo_0001.jpg")
    photo("images/original/Cy_0001.jpg")  # which nobody asks for

    with pytest.raises(InputError, match=r"is there twice, .*aligned/Bo_0001.jpg and .*original/Bo_0001.jpg"):
        calfw("Ana_0001.jpg 0", "Bo_0001.jpg 0")
    (tmp_path / "pairs.txt").write_text("1\nAna\t1\t2\nAna\t1\tBo\t1\n")
    with pytest.raises(InputError, match="is there twice"):
        find_pairs(tmp_path / "pairs.txt", tmp_path / "images")


def test_an_image_beside_itself_is_no_trial(pair_table, tmp_path):
    """Any model gets it right."""
    listed = pair_table(["0.png,1.png,1", "2.png,./2.png,1", "2.png,1.png,0", "3.png,3.png,0"])
    people = [f"Ada\t{number}\t{number}" for number in (1, 2)]
    (tmp_path / "faces/Ada_0001.png").write_bytes((tmp_path / "faces/0.png").read_bytes())
    (tmp_path / "faces/Ada_0002.png").write_bytes((tmp_path / "faces/1.png").read_bytes())
    (tmp_path / "faces/Bo_0001.png").write_bytes((tmp_path / "faces/2.png").read_bytes())
    (tmp_path / "pairs.txt").write_text("\n".join(["2", *people, "Ada\t1\tBo\t1", "Ada\t2\tBo\t1"]))

    assert (len(listed.pairs.same), listed.trials.same.tolist()) == (4, [True, False])
    assert find_pairs(tmp_path / "pairs.txt", tmp_path / "faces").trials.same.tolist() == [False, False]


def test_a_pair_that_is_listed_twice_is_one_trial(pair_table):
    """In either order; the first is kept, with its fold."""
    listed = pair_table(["0.png,1.png,1", "2.png,3.png,0", "1.png,0.png,1", "3.png,./2.png,0", "1.png,1.png,1"])

    assert listed.trials.first.tolist() == listed.pairs.first[:2].tolist()
    assert listed.trials.fold.tolist() == listed.pairs.fold[:2].tolist()
    assert listed.left_out == ["without 1 of an image with itself", "without 2 that repeat others"]
    assert pair_table(["0.png,1.png,1", "2.png,3.png,0"]).left_out == []


def test_a_list_is_cut_into_folds_of_its_trials(pair_table):
    trials = ["0.png,1.png,1", "0.png,2.png,0", "2.png,3.png,1", "1.png,3.png,0"]

    listed = pair_table([*["0.png,0.png,1", "1.png,0.png,1"] * 4, *trials[1:]])

    assert listed.trials.same.tolist() == [True, False, True, False]
    assert listed.trials.fold.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\t\r\n"])
@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_lists_are_read_as_editors_and_other_systems_write_them(tmp_path, photo, mark, end, listed, stored):
    name = "Jos\u00e9 A"
    for number in (1, 2):
        photo(unicodedata.normalize(stored, f"lfw/{name}_{number:04}.png"))
    photo("lfw/Bo_0001.png")
    written = unicodedata.normalize(listed, name)
    (tmp_path / "pairs.txt").write_bytes(
        (mark + end.join(["1", f"{written}\t1\t2", f"{written}\t1\tBo\t1"]) + end).encode()
    )
    (tmp_path / "pairs.csv").write_text(f"first,second,same\n{written}_0001.png,{written}_0002.png,1")
    lines = [f"{written}_0001.png 1", f"{written}_0002.png 1"]
    (tmp_path / "pairs_CALFW.txt").write_bytes((mark + end.replace("\t", " ").join(lines)).encode())

    for file, pairs in (("pairs.txt", 2), ("pairs.csv", 1), ("pairs_CALFW.txt", 1)):
        found = find_pairs(tmp_path / file, tmp_path / "lfw")
        assert len(found.pairs.same) == pairs and all(one.is_file() for one in found.files)

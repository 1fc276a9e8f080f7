"""Lists of files as spreadsheets and other systems write them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from facesim.data import prepare
from facesim.data.describe import original_sizes
from facesim.data.parts import NO_PART, TEST, TRAIN, VAL
from facesim.data.tables import read_table
from facesim.util.errors import InputError
from tests.conftest import facesim_here, parse

HEADER = ("path", "label")
ROWS = [("a/1.png", "Ana"), ("a/2.png", "Ana"), ("b/1.png", "Bo"), ("b/2.png", "Bo")]


def text_of(rows=ROWS, header=HEADER, delimiter=",", end="\r\n") -> str:
    return "".join(delimiter.join(row) + end for row in [header, *rows])


@pytest.fixture
def table(tmp_path):
    def read(text: str, encoding: str = "utf-8"):
        path = tmp_path / "faces.csv"
        path.write_bytes(text.encode(encoding))
        return read_table(path)

    return read


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "header", [("path", "label"), ("Path", "LABEL"), (" Path ", "\ufeffLabel "), ('"path"', '"label"')]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_spreadsheet_s_file_is_read_however_it_was_saved(tmp_path, table, encoding, delimiter, header, end):  # noqa: PLR0917
    examples = table(text_of(header=header, delimiter=delimiter, end=end), encoding)

    assert [(example.path, example.identity) for example in examples.examples] == [
        (tmp_path / place, label) for place, label in ROWS
    ]
    assert examples.notes == ()


def test_excel_s_line_about_the_separator_and_its_empty_cells_do_no_harm(table):
    examples = table("sep=;\r\npath;label;;\r\na/1.png;Ana;;\r\n;;;\r\nb/1.png;Bo;;\r\n\r\n")

    assert [example.identity for example in examples.examples] == ["Ana", "Bo"]
    assert examples.notes == ()


def test_quotes_keep_separators_and_the_line_is_right_after_them(table):
    assert table('path,label\n"a,1.png","Li, ""Ana"""\n').examples[0].identity == 'Li, "Ana"'
    with pytest.raises(InputError, match="line 4: the path or the label is empty"):
        table('path,label\n"a.png","Li\nAna"\nb.png,\n')


@pytest.mark.parametrize("label", ["nan", "0", "True", "NA", "None", "1.0", "007", "-1", "null", "inf"])
def test_labels_stay_texts(table, label):
    assert table(text_of([("1.png", label)])).examples[0].identity == label


def test_windows_backslashes_are_read_as_slashes_and_told(tmp_path, table):
    examples = table(text_of([(r"a\b\1.png", "Ana"), (r".\a\2.png", "Ana")]))

    assert [example.path for example in examples.examples] == [tmp_path / "a/2.png", tmp_path / "a/b/1.png"]
    assert examples.notes == ("2 paths are written with backslashes, which are read as slashes.",)


def test_a_file_whose_name_has_a_backslash_is_found(tmp_path, table):
    (tmp_path / "a\\1.png").write_bytes(b"")

    assert table(text_of([("a\\1.png", "Ana")])).examples[0].path == tmp_path / "a\\1.png"


def test_one_name_in_two_forms_of_unicode_is_one_person_and_told(table):
    examples = table(text_of([("1.png", "Jos\u00e9"), ("2.png", "Jose\u0301")]))

    assert {example.identity for example in examples.examples} == {"Jos\u00e9"}
    assert examples.notes == (
        "Jos\u00e9: written in composed and in decomposed Unicode, and taken as one person each.",
    )


@pytest.mark.parametrize("column", ["split", "Subset", "SET", "partition", "Usage"])
def test_a_column_gives_images_their_part_of_a_split(table, column):
    rows = [(*row, word) for row, word in zip(ROWS, ("Training", "test", " VAL ", "train"))]

    read = table(text_of(rows, (*HEADER, column)))

    assert [example.part for example in read.examples] == [TRAIN, TEST, VAL, TRAIN]
    assert read.notes == ()


def test_a_column_that_names_no_part_is_not_used_and_told(table):
    rows = [(*row, str(at % 2)) for at, row in enumerate(ROWS)]

    read = table(text_of(rows, (*HEADER, "Fold")))

    assert {example.part for example in read.examples} == {NO_PART}
    assert read.notes == (
        "the column fold (0 2, 1 2) is not used, as it does not say train, val, test: all are pooled, and facesim "
        "makes its own split (--held-out).",
    )


def test_other_columns_that_are_not_used_are_told(table):
    assert table(text_of([(*row, "30") for row in ROWS], (*HEADER, "Age"))).notes == (
        "columns that are not used: age.",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,Li, Ana\n", "line 2 has 3 cells and the header 2 columns. Put quotes around"),
        ('path,label\na.png,"Ana\nb.png,Bo\n', "not a CSV in UTF-8: unexpected end of data"),
        ('path,label\n"a.png"x,Ana\n', "not a CSV in UTF-8"),
        ("path,label,Label\na.png,Ana,Bo\n", "has the column label 2 times"),
        ("place,label\na.png,Ana\n", "has the columns place, label; path and label are needed"),
        ("path label\na.png Ana\n", "has the columns path label; path and label are needed"),
        (
            "path,label\nC:\\faces\\Ana\\1.png,Ana\n",
            r"line 2: C:\\faces.* is a path of a Windows .* Ana/1.png",
        ),
        ("path,label\n\\\\server\\faces\\Ana\\1.png,Ana\n", "is a path of a Windows system"),
        ("path,label\n..\\1.png,Ana\n", "leads out of the CSV's folder"),
        ("path,label\nhttps://a.b/1.png,Ana\n", "https://a.b/1.png is an address"),
        ("path,label\na\0.png,Ana\n", "has a 0 byte in its text"),
        ("path,label\n" + "a" * 200_000 + ",Ana\n", "not a CSV in UTF-8: field larger than field limit"),
    ],
)
def test_what_cannot_be_read_is_told_as_what_it_is(table, text, message):
    with pytest.raises(InputError, match=message):
        table(text)


def test_a_file_cut_off_within_a_letter_is_told(tmp_path):
    (tmp_path / "faces.csv").write_bytes("path,label\n1.png,Jos\u00e9".encode("utf-16")[:-1])

    with pytest.raises(InputError, match="not a CSV in UTF-8"):
        read_table(tmp_path / "faces.csv")


def test_the_notes_reach_whoever_prepares_the_data(tmp_path, photo):
    for place, _ in ROWS:
        photo(place)
    path = Path(tmp_path, "faces.csv")
    path.write_text(text_of([(*row, "1") for row in ROWS], (*HEADER, "fold"), delimiter=";"))

    data = prepare(str(path), image_size=8, cache_dir=tmp_path / "cache")

    assert data.names == ("Ana", "Bo")
    assert data.notes[0].startswith("the column fold (1 4) is not used")


def test_files_that_are_missing_are_named_also_when_any_may_be_bad(tmp_path):
    path = Path(tmp_path, "faces.csv")
    path.write_text(text_of())

    with pytest.raises(
        InputError, match=r"4 files: no such file \(a/1.png.*2 of 2 identities have fewer than 2 usable images"
    ):
        prepare(str(path), image_size=8, max_bad_files=1.0, cache_dir=tmp_path / "cache")


def test_other_names_of_the_columns(table, tmp_path):
    examples = table("File_Name,identity,name\n" + "".join(f"{path},{label},x\n" for path, label in ROWS))

    assert [(example.path, example.identity) for example in examples.examples] == [
        (tmp_path / path, label) for path, label in ROWS
    ]
    assert examples.notes == ("columns that are not used: name.",)


def test_a_folder_of_hugging_face_s_with_metadata(photo, tmp_path, cache):
    """`imagefolder`: images anywhere below the folder, and whom they show in `metadata.csv`."""
    rows = ["file_name,label,split"]
    for number in range(8):
        photo(f"faces/images/{number}.png")
        if number < 7:
            rows.append(f"images/{number}.png,{'Ana' if number % 2 else 'Bo'},{'train' if number < 4 else 'test'}")
    (tmp_path / "faces/metadata.csv").write_text("\n".join(rows))

    data = prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache)

    assert (data.names, len(data.labels)) == (("Ana", "Bo"), 7)
    assert np.bincount(data.parts).tolist() == [4, 0, 3]
    assert [str(one) for one in data.unused] == ["1 file: an image that metadata.csv does not list (images/7.png)"]
    assert original_sizes(str(tmp_path / "faces"), 64).files == 7


def test_each_part_of_a_split_may_have_its_own_metadata(photo, tmp_path, cache):
    """As `imagefolder` has it, too; `val` has none, so whom its images show is not known."""
    for part in ("train", "test"):
        rows = ["file_name,label"]
        for number in range(4):
            photo(f"faces/{part}/{number}.png")
            rows.append(f"{number}.png,{'Ana' if number % 2 else 'Bo'}")
        (tmp_path / "faces" / part / "metadata.csv").write_text("\n".join(rows))
    photo("faces/val/1.png")

    data = prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache)

    assert (data.names, np.bincount(data.parts).tolist()) == (("Ana", "Bo"), [4, 0, 4])
    assert [str(one) for one in data.unused] == ["1 file: an image that metadata.csv does not list (val/1.png)"]
    assert original_sizes(str(tmp_path / "faces"), 64).files == 8


@pytest.mark.parametrize("linked", [False, True])
def test_a_listed_image_that_lies_elsewhere_may_change(photo, tmp_path, cache, linked):
    """The folder itself looks the same then."""
    rows = ["file_name,label"]
    for number in range(3):
        rows.append(f"{photo(f'faces/{number}.png').name},{'Ana' if number else 'Bo'}")
    elsewhere = photo("elsewhere/3.png")
    if linked:
        (tmp_path / "faces/more").symlink_to(elsewhere.parent)
    rows.append(f"{'more/3.png' if linked else elsewhere},Bo")
    (tmp_path / "faces/metadata.csv").write_text("\n".join(rows))

    before = prepare(str(tmp_path / "faces"), image_size=12, cache_dir=cache)
    elsewhere.write_bytes(photo("other.png").read_bytes())

    assert prepare(str(tmp_path / "faces"), image_size=12, cache_dir=cache).sha256 != before.sha256


def test_metadata_may_be_json_lines(photo, tmp_path, cache):
    people = ["Ana", "Bo\u2028x", 0, 1]
    first = (
        '{"note": null, "objects": {"bbox": [1, 2]}, "group": null, "file_name": "0.png", "label": 0, "split": "train"}'
    )
    lines = ["", first]
    for number in range(1, 8):
        photo(f"faces/{number}.png")
        split = "train" if number < 4 else "test"
        lines.append(json.dumps({"file_name": f"{number}.png", "label": people[number % 4], "split": split}))
    photo("faces/0.png")
    (tmp_path / "faces/metadata.jsonl").write_text("\r\n".join(lines).replace("Ana", "0"))
    (tmp_path / "faces/notes.jsonl").touch()

    data = prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache)

    assert (data.names, np.bincount(data.parts).tolist()) == (("0", "1", "Bo\\u2028x"), [4, 0, 4])
    assert not any(data.groups)
    assert [str(one) for one in data.unused] == ["1 file: no image (.jsonl) (notes.jsonl)"]
    assert "columns that are not used: note, objects." in data.notes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"file_name": "a.png", "label": [0, 1]}', r"line 2: label is \[0, 1\]. Write a text"),
        ('{"file_name": "a.png", "label": true}', "line 2: label is true"),
        ('{"file_name": "a.png", "label": null}', "line 2: label is null"),
        ('{"file_name": "a.png"}', "line 2: the path or the label is empty"),
        ('["a.png", "Ana"]', "line 2 is no JSON object, but list"),
        ('{"file_name": "a.png", "label": "An', "line 2 is no JSON: Unterminated string"),
        ("[" * 100_000, "line 2 is no JSON"),
        ('{"file_name": "../a.png", "label": "Ana"}', "line 2: ../a.png leads out of"),
    ],
)
def test_json_lines_that_are_not_clear_are_refused(tmp_path, line, message):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "0.png", "label": "Ana"}\n' + line)

    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "metadata.jsonl")


def test_what_two_lists_say_must_agree(photo, tmp_path, cache):
    for part, said in (("train", "train"), ("test", "train")):
        rows = ["file_name,label,split", *(f"{photo(f'faces/{part}/{k}.png').name},Ana,{said}" for k in range(2))]
        (tmp_path / "faces" / part / "metadata.csv").write_text("\n".join(rows))

    with pytest.raises(InputError, match=r"metadata.csv lists images of the part test.*says train of 0.png"):
        prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache)

    (tmp_path / "faces/test/metadata.jsonl").write_text('{"file_name": "0.png", "label": "Bo"}')
    with pytest.raises(InputError, match=r"has metadata.csv and metadata.jsonl, which both say whom"):
        prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache)


def test_other_tables_beside_a_list_are_counted(photo, tmp_path, cache):
    rows = ["file_name,label", *(f"{photo(f'faces/{k}.png').name},{'AB'[k % 2]}" for k in range(4))]
    (tmp_path / "faces/metadata.csv").write_text("\n".join(rows))
    (tmp_path / "faces/groups.csv").write_text("label,group\nA,x")

    data = prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache)

    assert [str(one) for one in data.unused] == ["1 file: no image (.csv) (groups.csv)"]


def test_of_several_columns_that_may_say_the_part_the_one_that_does_is_taken(table):
    rows = "".join(f"{k}.png,Ana,frontal,{'train' if k else 'Test Set '}\n" for k in range(2))

    listed = table(f"path,label,subset,fold\n{rows}")

    assert [example.part for example in listed.examples] == [TEST, TRAIN]
    assert listed.notes == ("columns that are not used: subset.",)


def test_what_a_column_of_parts_says_beside_them_is_told(photo, tmp_path, cache):
    said = [" Train", "TRAIN", "train", "train", "tset", "", "test", "test"]
    rows = [f"{photo(f'faces/{k}.png').name},{'AB'[k % 2]},{split}" for k, split in enumerate(said)]
    (tmp_path / "faces/list.csv").write_text("\n".join(["path,label,split", *rows]))

    told = r"the column split also says tset 1, \(empty\) 1, which is no part of a split."
    with pytest.raises(InputError, match=rf"\(train 4, test 2\), and 2 images that belong to none.*{told}"):
        prepare(str(tmp_path / "faces/list.csv"), image_size=8, cache_dir=cache)
    pooled = prepare(str(tmp_path / "faces/list.csv"), image_size=8, cache_dir=cache, split="random")

    assert any(re.fullmatch(told, note) for note in pooled.notes)


class TestNamedColumns:
    """`--image-feature` and `--label-feature` name the columns that are read in place of the usual ones."""

    TEXT = "path,label,Celebrity;of,set,group\n1.png,1,Ana,train,x\n2.png,2,Ana,test,x\n3.png,3,Bo,train,x\n"

    @pytest.fixture
    def listed(self, tmp_path):
        path = tmp_path / "faces.csv"
        path.write_text(self.TEXT)
        return path

    def test_the_named_column_is_the_label_and_the_usual_one_is_not_used(self, listed):
        named = read_table(listed, label_feature="celebrity;OF")

        assert [example.identity for example in named.examples] == ["Ana", "Ana", "Bo"]
        assert [example.part for example in named.examples] == [TRAIN, TEST, TRAIN]
        assert named.notes == ("columns that are not used: label.",)

    def test_what_is_named_is_nothing_else_beside(self, listed):
        assert {one.part for one in read_table(listed, label_feature="set").examples} == {NO_PART}
        assert {one.group for one in read_table(listed, label_feature="group").examples} == {None}

    def test_the_named_column_is_the_path(self, tmp_path):
        (tmp_path / "faces.csv").write_text("path,crop,label\na/1.png,b/1.png,Ana\n")

        (example,) = read_table(tmp_path / "faces.csv", image_feature="crop").examples

        assert example.path == tmp_path / "b/1.png"

    def test_a_column_that_is_not_there_is_refused(self, listed):
        with pytest.raises(InputError, match=r"has no column who; it has path, label, .*--label-feature"):
            read_table(listed, label_feature="who")

    def test_the_data_are_of_the_named_column_as_is_what_is_described(self, photo, tmp_path, monkeypatch):
        rows = ["path,label,person", *(f"{photo(f'{k}.png').name},{k % 3},{'AB'[k % 2]}" for k in range(6))]
        (tmp_path / "faces.csv").write_text("\n".join(rows))
        monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))

        facts, named = (
            parse(facesim_here("data", "describe", tmp_path / "faces.csv", "--json", *options))
            for options in ((), ("--label-feature", "person"))
        )

        assert (facts["identities"], named["identities"]) == (3, 2)
        assert named["original_sizes"]["files"] == 6

    def test_a_folder_s_list_may_say_whom_by_a_named_column_alone(self, photo, tmp_path, cache):
        rows = [
            "file_name,celebrity",
            *(f"{photo(f'faces/x/me/{k}.png').relative_to(tmp_path / 'faces/x')},{'AB'[k % 2]}" for k in range(4)),
        ]
        (tmp_path / "faces/x/metadata.csv").write_text("\n".join(rows))

        data = prepare(str(tmp_path / "faces/x"), image_size=8, label_feature="celebrity", cache_dir=cache)

        assert data.names == ("A", "B")
        assert original_sizes(str(tmp_path / "faces/x"), 64, None, "celebrity").files == 4
        with pytest.raises(InputError, match="--label-feature who means nothing to x: it names a column of a CSV"):
            prepare(str(tmp_path / "faces/x"), image_size=8, label_feature="who", cache_dir=cache)


class TestListedLinks:
    """What a list names is used, wherever it leads."""

    def test_links_that_are_listed_are_used_and_so_are_their_folders(self, photo, tmp_path, cache):
        """As the hub's snapshots have them, and git-annex."""
        rows = ["file_name,label"]
        (tmp_path / "faces/images").mkdir(parents=True)
        (tmp_path / "faces/.hidden").mkdir()
        for k in range(6):
            stored = photo(f"{'faces' if k % 2 else 'elsewhere'}/blobs/{k}.png")
            link = tmp_path / f"faces/{'images' if k < 4 else '.hidden'}/{k}.png"
            link.symlink_to(stored)
            rows.append(f"{link.relative_to(tmp_path / 'faces')},{'AB'[k % 3 % 2]}")
        (tmp_path / "faces/metadata.csv").write_text("\n".join(rows))

        data = prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache)

        assert (len(data.labels), data.unused) == (6, ())

    def test_images_in_a_folder_that_is_a_link_are_used(self, photo, tmp_path, cache):
        rows = ["file_name,label", *(f"more/{photo(f'faces/in/{k}.png').name},{'AB'[k % 2]}" for k in range(4))]
        (tmp_path / "faces/more").symlink_to("in")
        (tmp_path / "faces/metadata.csv").write_text("\n".join(rows))

        assert prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache).unused == ()

    def test_other_names_of_listed_images_are_counted(self, photo, tmp_path, cache):
        rows = ["file_name,label", *(f"{photo(f'faces/{k}.png').name},{'AB'[k % 2]}" for k in range(4))]
        (tmp_path / "faces/again.png").symlink_to("1.png")
        (tmp_path / "faces/metadata.csv").write_text("\n".join(rows))

        data = prepare(str(tmp_path / "faces"), image_size=8, cache_dir=cache)

        assert [str(one) for one in data.unused] == [
            "1 link: another name (a link) of a file that is there already (again.png)"
        ]

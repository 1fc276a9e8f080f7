"""What is not used of a data set is counted by reason, and every place that tells of the data tells it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from facesim.cli import main
from facesim.data import PreparedData, prepare
from facesim.data.subsets import take_subset
from facesim.preflight.inputs import Inputs, data_notices, prepare_data
from facesim.spec.job import make_job
from facesim.spec.subset import Subset
from facesim.util.errors import InputError
from facesim.util.unused import EXAMPLES, Tally, Unused, in_words, printable


def test_reasons_are_counted_most_frequent_first_with_examples():
    tally = Tally()
    tally.add("empty file", "a.png")
    for k in range(9):
        tally.add("no such file", f"{k}.png")
    tally.add("of an identity with fewer than 3 images", "Ana", "image", 2)

    assert tally.counted == (
        Unused("no such file", 9, tuple(f"{k}.png" for k in range(EXAMPLES))),
        Unused("of an identity with fewer than 3 images", 2, ("Ana",), "image"),
        Unused("empty file", 1, ("a.png",)),
    )
    assert str(tally.counted[0]) == "9 files: no such file (0.png, 1.png, 2.png, ...)"
    assert str(tally.counted[2]) == "1 file: empty file (a.png)"


def test_what_two_readers_counted_adds_up():
    one, other = Tally(), Tally()
    for tally, names in ((one, "ab"), (other, "cdefgh")):
        for name in names:
            tally.add("empty file", name)

    both = Tally([*one.counted, *other.counted])

    assert both.counted == (Unused("empty file", 8, tuple("abcde")),)


def test_many_reasons_in_a_line():
    tally = Tally()
    for k in range(7):
        tally.add(f"reason {k}", count=10 - k)

    assert in_words(tally.counted, most=2) == "10 files: reason 0; 9 files: reason 1; and 5 more reasons"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("José/昭和.png", "José/昭和.png"),
        ("a\udcff.png", r"a\xff.png"),
        ("a\ud800b", r"a\ud800b"),
        ("a\nb\x1b[31m", r"a\nb\x1b[31m"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("a\ufffe\U0001ffff", r"a\ufffe\U0001ffff"),
    ],
)
def test_names_are_safe_to_print(name, shown):
    assert printable(name) == shown
    printable(name).encode("utf-8")


@pytest.fixture
def partly_used(photo, tmp_path, two_people) -> PreparedData:
    """Two people of whom one file is empty, and a third one with a single image."""
    photo("faces/Cy/1.png")
    (tmp_path / "faces/Ana/empty.png").write_bytes(b"")
    folder = str(tmp_path / "faces")
    return prepare(folder, image_size=8, min_images=2, max_bad_files=0.5, cache_dir=tmp_path / "cache")


def test_prepared_data_keeps_the_counts(partly_used):
    expected = (
        Unused("of an identity with fewer than 2 images", 1, ("Cy",), "image"),
        Unused("empty file", 1, ("Ana/empty.png",)),
    )

    assert partly_used.unused == expected
    assert PreparedData.load(partly_used.directory).unused == expected
    assert take_subset(partly_used, Subset(None, 2), 0).unused == expected


def test_a_user_is_told_before_training(partly_used):
    inputs = [Inputs(partly_used), Inputs(partly_used)]

    assert data_notices([make_job(), make_job(seed=1)], inputs) == [
        "faces: not used: 1 image: of an identity with fewer than 2 images (Cy); 1 file: empty file (Ana/empty.png)"
    ]


def test_describe_tells_it(partly_used, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    command = ["data", "describe", str(tmp_path / "faces"), "--min-images", "2"]

    assert main(command) == 0
    text = capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)

    assert "not used: 1 file: empty file (Ana/empty.png)" in text
    assert facts["unused"][1] == {
        "reason": "empty file",
        "count": 1,
        "examples": ["Ana/empty.png"],
        "unit": "file",
    }


def test_describe_tells_that_a_training_refuses_it_and_prepares_what_that_reads(
    tmp_path, two_people, monkeypatch, capsys
):
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "faces/Ana/empty.png").write_bytes(b"")
    command, told = ["data", "describe", str(tmp_path / "faces")], "1 of 7 files cannot be read as images: "

    assert main(command) == 0
    text = capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    refused = json.loads(capsys.readouterr().out)["refused"]

    assert f"a training refuses this: {told}" in text and refused in text
    assert "at most 5% may be" in refused and refused.endswith("--max-bad-files 0.15")
    job = make_job(data=str(tmp_path / "faces"))
    with pytest.raises(InputError, match=told):
        prepare_data(job, lambda *_: None)
    prepare_data(make_job(data=str(tmp_path / "faces"), max_bad_files=0.15), lambda *_: None)
    assert len(list((tmp_path / "cache").glob("*/dataset.json"))) == 1
    (tmp_path / "faces/Ana/empty.png").unlink()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["refused"] is None


def test_the_report_shows_it():
    from facesim.report.html import _by_row
    from facesim.report.html import _data as facts_of
    from facesim.runs.records import Data

    read = Data.model_validate(
        {
            "name": "faces",
            "not_used": [{"reason": "empty file", "count": 1, "examples": ["Ana/1.png"], "unit": "file"}],
            "notes": ["train and test are pooled."],
        }
    )
    row = SimpleNamespace(label="single", counted=[read], records=[])

    shown = _by_row(SimpleNamespace(rows=[row]), facts_of)

    assert ("not used", "1 file: empty file (Ana/1.png)") in shown
    assert ("notes", "train and test are pooled.") in shown


class TestCausesComeFirst:
    def test_of_too_many_bad_files_the_most_frequent_reasons(self, tmp_path, two_people):
        for k in range(5):
            (tmp_path / f"faces/Ana/a{k}.png").write_bytes(bytes(64 * 64 * 3))
        (tmp_path / "faces/Ana/0a.png").write_bytes(b"")

        with pytest.raises(InputError) as caught:
            prepare(str(tmp_path / "faces"), image_size=8, cache_dir=tmp_path / "cache")

        assert str(caught.value).startswith(
            "faces: 6 of 12 files cannot be read as images: 5 like Ana/a0.png: not an image that Pillow can read, "
            "perhaps raw pixels by its size; encode it as JPEG or PNG; 1 like Ana/0a.png: empty file; at most 5%"
        )

    def test_of_people_without_images(self, tmp_path, two_people):
        for k in range(3):
            (tmp_path / f"faces/Bo/{k}.png").write_bytes(b"")

        with pytest.raises(InputError) as caught:
            prepare(str(tmp_path / "faces"), image_size=8, max_bad_files=1, cache_dir=tmp_path / "cache")

        assert str(caught.value).startswith(
            "faces: not used: 3 files: empty file (Bo/0.png, Bo/1.png, Bo/2.png). "
            "faces: 1 of 2 identities has fewer than 2 usable images (Bo)"
        )

    def test_of_a_person_who_is_not_there_at_all(self, photo, tmp_path):
        for k in range(3):
            photo(f"faces/Ana/{k}.png")
            (tmp_path / "faces/Bo").mkdir(exist_ok=True)
            (tmp_path / f"faces/Bo/{k}.jp2").write_bytes(b"jP")

        with pytest.raises(InputError) as caught:
            prepare(str(tmp_path / "faces"), image_size=8, cache_dir=tmp_path / "cache")

        assert str(caught.value).startswith(
            "faces: not used: 3 files: .jp2 is not read, convert it to JPEG or PNG (Bo/0.jp2, Bo/1.jp2, Bo/2.jp2); "
            "1 folder: a folder without an image that can be read (Bo). faces holds 1 identity"
        )

    def test_in_describe_too(self, tmp_path, two_people, monkeypatch, capsys):
        monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
        for k in range(2):
            (tmp_path / f"faces/Bo/{k}.png").write_bytes(b"no image")

        assert main(["data", "describe", str(tmp_path / "faces")]) == 2
        assert "not used: 2 files: not an image that Pillow can read (Bo/0.png, Bo/1.png)" in capsys.readouterr().err

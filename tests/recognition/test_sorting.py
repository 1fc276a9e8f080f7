"""Photographs sorted by person: what is decided, what is made, and that no name does harm."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from facesim.recognition.photographs import Gallery
from facesim.recognition.reliance import Basis
from facesim.recognition.sorting import MOST_STRANGERS, met_again, sort_photos
from facesim.util.errors import DiskFull, FacesimError, InputError
from facesim.util.files import check_outside, made_whole


def at(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def sorted_at(photos, degrees, names=("Ana", "Bo"), threshold=0.9, unread=None):
    """The people of the gallery look to 0 and 90 degrees."""
    gallery, embeddings = at(*np.linspace(0, 90, len(names))), at(*degrees)
    basis = Basis(threshold, True, None, None, ())
    return sort_photos(names, photos, embeddings, embeddings @ gallery.T, basis, unread or {})


def places(sorting):
    return [str(one.place) for one in sorting.decisions]


def test_known_people_have_a_folder_and_strangers_one_where_they_are_met_twice():
    photos = [Path(f"in/{number}.jpg") for number in range(7)]

    sorting = sorted_at(photos, [5, 100, 200, 205, 300, 202, 45])

    assert places(sorting) == [
        "people/Ana/0.jpg", "people/Bo/1.jpg", "unknown/1/2.jpg", "unknown/1/3.jpg", "unknown/4.jpg",
        "unknown/1/5.jpg", "unknown/6.jpg",
    ]  # fmt: skip
    assert [one.person for one in sorting.decisions] == ["Ana", "Bo", None, None, None, None, None]
    assert sorting.counts == {"people/Ana": 1, "people/Bo": 1, "unknown/1": 3, "unknown": 2}


def test_the_stranger_with_the_most_photographs_is_first_and_too_many_are_not_grouped():
    embeddings = at(0, 2, 100, 101, 102, 200)

    assert met_again(embeddings, 0.9).tolist() == [2, 2, 1, 1, 1, 0]
    assert met_again(embeddings, 0.9, most=5).tolist() == [0] * 6
    assert met_again(embeddings[:1], 0.9).tolist() == [0]
    assert met_again(np.array([[0, 0], [1, 0], [0, 0], [1, 0]]), 0.9).tolist() == [0, 1, 0, 1]  # no length, no cosine


def test_who_is_met_twice_is_said_not_to_be_looked_for_among_too_many():
    photos = [Path(f"{number}.jpg") for number in range(MOST_STRANGERS + 1)]

    few, many = sorted_at(photos[:2], [200, 201]), sorted_at(photos, [200] * len(photos))

    assert not few.basis.notes and "who is met twice was not looked for" in many.basis.notes[0]


def test_a_file_called_like_a_strangers_folder_has_another_name():
    photos = [Path("a/1"), Path("b/x"), Path("c/y")]

    assert places(sorted_at(photos, [300, 200, 201])) == ["unknown/1-2", "unknown/1/x", "unknown/1/y"]


def test_nothing_overwrites_anything(tmp_path):
    photos = []
    for folder, name in (("a", "1.png"), ("b", "1.png"), ("c", "1.PNG")):
        photos.append(tmp_path / folder / name)
        photos[-1].parent.mkdir()
        photos[-1].write_text(folder)

    sorting = sorted_at(photos, [0, 1, 2])
    sorting.write(tmp_path / "out", links=False)

    made = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.*")}
    assert set(made) == {"decisions.csv", "people/Ana/1.png", "people/Ana/1-2.png", "people/Ana/1-3.PNG"}
    assert [path.read_text() for name, path in sorted(made.items()) if "Ana" in name] == ["b", "c", "a"]
    with pytest.raises(InputError, match="out already exists; name another"):
        sorting.write(tmp_path / "out", links=False)
    sorting.write(tmp_path / "linked", links=True)
    assert (tmp_path / "linked/people/Ana/1-2.png").resolve() == photos[1].resolve()


def test_a_folder_that_cannot_be_made_whole_is_not_there(tmp_path):
    with pytest.raises(FacesimError, match=r"gone.png: No such file or directory any more"):
        sorted_at([tmp_path / "gone.png"], [0]).write(tmp_path / "out", links=False)

    assert not list(tmp_path.iterdir())


def test_a_sorted_folder_that_there_is_no_room_for_is_not_there(tmp_path, largest_file):
    (tmp_path / "1.png").write_bytes(bytes(200_000))
    largest_file(100_000)

    with pytest.raises(DiskFull, match="there is no room left"):
        sorted_at([tmp_path / "1.png"], [0]).write(tmp_path / "out", links=False)

    assert [file.name for file in tmp_path.iterdir()] == ["1.png"]


def test_what_gets_the_name_meanwhile_is_not_written_over(tmp_path):
    with pytest.raises(FileExistsError, match="meanwhile"), made_whole(tmp_path / "out") as new:
        new.write_text("mine")
        (tmp_path / "out").write_text("another's")

    assert [file.read_text() for file in tmp_path.iterdir()] == ["another's"]


def test_a_folder_that_would_be_sorted_the_next_time_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")

    check_outside(tmp_path / "photos-sorted", tmp_path / "photos")
    with pytest.raises(InputError, match="photos, and would be part of it"):
        check_outside(tmp_path / "link" / "sorted", tmp_path / "photos")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("../../etc", "_.._etc"),
        ("a/b", "a_b"),
        ("Dr. Maximilian Mustermann-Schmidt", "Dr. Maximilian Mustermann-Schmidt"),
        (".hidden ", "hidden"),
        ("..", "_"),
        ("x" * 300, "x" * 200),
        ("n\nl", "n_nl"),
    ],
)
def test_a_name_becomes_a_folder_below_people(name, folder):
    (place,) = places(sorted_at([Path("1.jpg")], [0], names=(name, "Bo")))

    assert place == f"people/{folder}/1.jpg"


def test_files_whose_names_differ_in_case_or_form_alone_have_two_names():
    photos = [Path("a/Jos\u00e9.jpg"), Path("b/Jose\u0301.jpg"), Path("c/jos\u00e9.jpg")]

    names = [place.removeprefix("people/Ana/") for place in places(sorted_at(photos, [0, 0, 0]))]

    assert names == ["Jos\u00e9.jpg", "Jose\u0301-2.jpg", "jos\u00e9-3.jpg"]


def test_names_that_differ_in_case_alone_have_two_folders():
    assert places(sorted_at([Path("1.jpg"), Path("2.jpg")], [0, 90], names=("ana", "Ana"))) == [
        "people/ana/1.jpg",
        "people/Ana-2/2.jpg",
    ]


def test_the_table_has_every_decision_and_no_formula():
    unread = {Path("bad.jpg"): "not an image"}

    sorting = sorted_at([Path("=1+1.jpg"), Path("a\nb.jpg")], [0, 200], names=("@SUM(A1)", "Bo"), unread=unread)

    known, stranger, left_out = csv.DictReader(io.StringIO(sorting.csv()))
    assert (known["photo"], known["decision"], known["place"]) == ("'=1+1.jpg", "'@SUM(A1)", "people/@SUM(A1)/=1+1.jpg")
    assert (known["similarity"], known["threshold"]) == ("1.0000", "0.9000")
    assert (stranger["photo"], stranger["decision"]) == ("a\\nb.jpg", "nobody of the gallery")
    assert (left_out["decision"], left_out["place"]) == ("left out: not an image", "")
    assert [one.photo for one in sorting.left_out] == [Path("bad.jpg")]


def test_each_decision_as_json_says_what_it_stands_on():
    sorting = sorted_at([Path("1.jpg"), Path("2.jpg")], [5, 200])
    noted = sorting._replace(basis=sorting.basis._replace(notes=("how often the given threshold errs is not known",)))

    for one, decision in zip(noted.to_json(), sorting.decisions, strict=True):
        basis = {"threshold": 0.9, "notes": ["how often the given threshold errs is not known"]}
        assert one == {**decision.to_json(), **basis}


def test_a_gallery_s_own_list_says_whom_its_images_show(photo, tmp_path):
    """As where the same folder is trained on: its folders may be anything."""
    for name in ("first/1.png", "first/2.png", "second/1.png"):
        photo(f"gallery/{name}")
    (tmp_path / "gallery/metadata.csv").write_text("file_name,label\nfirst/1.png,Ana\nfirst/2.png,Bo\n")
    notices: list[str] = []

    gallery = Gallery.read(tmp_path / "gallery", notices.append)

    assert gallery.names == ("Ana", "Bo")
    assert "an image that metadata.csv does not list (second/1.png)" in notices[0]


@pytest.mark.parametrize(
    ("folders", "people", "told"),
    [
        (["Ana/2023", "Ana/2024"], ("2023", "2024"), "the folders in Ana are taken as people: 2023, 2024."),
        (["all/faces/Ana", "all/faces/Bo"], ("Ana", "Bo"), "the folders in all/faces are taken as people: Ana, Bo."),
        (["train", "test"], ("test", "train"), "the folders test, train are taken as people"),
        (["Ana", "ana"], ("Ana", "ana"), "'Ana' and 'ana': names that differ in capitals"),
        (["Ana/2023", "Ana", "Bo"], ("Ana", "Bo"), None),
        (["train/Ana", "test/Bo"], ("Ana", "Bo"), None),
    ],
)
def test_who_is_taken_for_whom_in_a_gallery_is_told_where_it_is_not_plain(photo, tmp_path, folders, people, told):
    for folder in folders:
        photo(f"gallery/{folder}/1.png")
    notices: list[str] = []

    assert Gallery.read(tmp_path / "gallery", notices.append).names == people
    assert [notice.startswith(f"{tmp_path}/gallery: {told}") for notice in notices] == ([True] if told else [])


@pytest.mark.parametrize("least", [1, 2])
def test_a_gallery_whose_list_names_nobody_is_told(photo, tmp_path, least):
    photo("gallery/Ana/1.png")
    (tmp_path / "gallery/metadata.csv").write_text("file_name,label\n")

    message = r"gallery names nobody; not used: 1 file: .* does not list \(Ana/1.png\); write a line"
    with pytest.raises(InputError, match=message):
        Gallery.read(tmp_path / "gallery", pytest.fail, least)

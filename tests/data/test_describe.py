"""What `facesim data describe` finds: copies that look the same, across the split and across people."""

from __future__ import annotations

import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from facesim.data import RenderSpec, describe, prepare, render, render_folder
from facesim.data.describe import Sizes, original_sizes
from facesim.data.duplicates import NEAR, alike_pairs, cropped_pairs, near_pairs, notes_across
from facesim.data.splits import stratified_split
from tests.conftest import ORL, facesim_here, parse


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file)


ALTERED = {
    "compressed": as_jpeg,
    "half the size": lambda image: image.resize((32, 32), Image.Resampling.LANCZOS).resize((64, 64)),
    "lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
}


@pytest.fixture(scope="module")
def people():
    """40 rendered people with 5 images each, uint8 (200, 64, 64, 3)."""
    return render(RenderSpec(identities=40, images=5, difficulty=0.65))[0]


@pytest.mark.parametrize("how", ALTERED)
def test_an_altered_copy_looks_the_same(people, how):
    copies = np.stack([np.asarray(ALTERED[how](Image.fromarray(image)).convert("RGB")) for image in people])

    pairs = {(pair.first, pair.second) for pair in near_pairs(np.concatenate([people, copies]))}

    assert np.mean([(index, index + len(people)) in pairs for index in range(len(people))]) > 0.97


def test_different_photographs_do_not_look_the_same(people):
    assert not list(near_pairs(people))


@pytest.mark.skipif(not ORL.is_dir(), reason="needs the ORL faces, which are not part of this repository")
def test_of_real_photographs_of_forty_people_no_two_people_s_look_the_same(cache):
    data = prepare(str(ORL), cache_dir=cache)

    pairs = list(near_pairs(np.asarray(data.images)))

    assert all(data.labels[pair.first] == data.labels[pair.second] for pair in pairs)
    assert len(pairs) < 20  # shots of one person, one after another


def test_a_copy_is_told_with_where_it_lies_and_what_it_does(tmp_path, cache):
    folder = tmp_path / "people"
    render_folder(RenderSpec(identities=6, images=5, size=64), folder)
    whole = prepare(str(folder), cache_dir=cache)
    held = stratified_split(whole.labels, 0.2, 0)[1][0]
    tested = folder / whole.origins[held]
    trained = next(file for file in sorted(tested.parent.iterdir()) if file != tested)
    other = sorted(folder.iterdir())[5]
    shutil.copy(tested, trained)
    as_jpeg(Image.open(tested)).save(other / "0001.png")

    facts = describe(prepare(str(folder), cache_dir=cache))

    assert facts.duplicate_images == 1
    assert facts.near_duplicate_pairs == 3
    assert facts.near_duplicate_pairs_across_identities == 2
    first = facts.suspects[0]
    assert {first.first, first.second} == {file.relative_to(folder).as_posix() for file in (tested, trained)}
    assert (first.identical, first.across_split, first.across_identities) == (True, True, False)
    assert all(0 < pair.distance <= NEAR and pair.across_identities for pair in facts.suspects[1:])


@pytest.mark.slow
def test_ten_thousand_images_take_seconds():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (10_000, 64, 64, 3), np.uint8)
    images[9_000] = images[17]

    begin = time.process_time()
    (pair,) = near_pairs(images)

    assert (pair.first, pair.second, pair.identical) == (17, 9_000, True)
    assert time.process_time() - begin < 30  # of the processor: about 4 s of it


def test_the_files_own_sizes_are_told(photo, tmp_path):
    for name, size in {"Ana/1": (40, 80), "Ana/2": (60, 60), "Bo/1": (90, 200), "Bo/2": (90, 90)}.items():
        photo(f"people/{name}.png", size)
    (tmp_path / "people" / "Bo" / "3.png").write_text("no image")

    sizes = original_sizes(str(tmp_path / "people"), 64)

    assert sizes == Sizes(4, (40, 75.0, 90), (60, 85.0, 200), scaled_up=1)
    assert original_sizes("rendered", 64) is None
    assert "40 x 60 to 90 x 200 pixels" in facesim_here("data", "describe", tmp_path / "people").output


def test_the_command_tells_pairs_and_json_has_them_all(faces, tmp_path):
    folder = tmp_path / "people"
    shutil.copytree(faces, folder)
    first, second = sorted(folder.iterdir())[:2]
    shutil.copy(first / "0001.png", second / "0002.png")

    shown = facesim_here("data", "describe", folder)
    facts = parse(facesim_here("data", "describe", folder, "--json"))

    assert shown.code == 0, shown.errors
    assert "exact duplicates          1\n" in shown.output
    assert f"one labelled {first.name}, the other {second.name}" in shown.output
    assert facts["suspects"][0]["second"] == f"{second.name}/0002.png"
    assert facts["near_duplicate_pairs_across_identities"] == 1


class TestManyPicturesAlike:
    """Copies of a picture are compared as one, and counted."""

    @pytest.mark.slow
    def test_thousands_of_copies_take_seconds(self, people, tmp_path):
        copies = 2000
        pictures = [people[0], people[7]]
        labels = np.repeat([0, 1, 0], [copies, 2 * copies, 2])
        images = np.stack([*[pictures[0]] * (3 * copies), pictures[0], pictures[1]])
        np.savez(tmp_path / "faces.npz", images=images, labels=labels)
        data = prepare(str(tmp_path / "faces.npz"), image_size=64, cache_dir=tmp_path / "cache")
        begin = time.process_time()

        facts = describe(data)

        same = 3 * copies + 1
        assert facts.duplicate_images == same - 1
        assert facts.near_duplicate_pairs == same * (same - 1) // 2
        assert facts.near_duplicate_pairs_across_identities == (copies + 1) * 2 * copies
        assert (len(facts.suspects), {one.first for one in facts.suspects}) == (1000, {"image 0"})
        assert [one.second for one in facts.suspects] == [f"image {number}" for number in range(1, 1001)]
        assert (
            time.process_time() - begin < 30
        )  # of the processor: about 2 s of it; 18 million pairs, one by one, minutes

    def test_they_are_counted_as_they_are_one_by_one(self, people):
        """Also where one picture has copies of two people, on both sides of the split."""
        rng = np.random.default_rng(0)
        chosen = rng.integers(0, 8, 40)
        images, labels = people[chosen].copy(), chosen % 3
        images[::7] = np.stack([np.asarray(as_jpeg(Image.fromarray(image))) for image in images[::7]])
        labels[::5] = 0
        part = rng.choice([1, 1, -1, 0], 40)

        found = [pair for alike in alike_pairs(images, labels, part) for pair in alike.pairs()]

        near = {pair[:2]: pair for pair in near_pairs(images)}
        cropped = {pair[:2] for pair in cropped_pairs(images, labels, part)}
        assert (
            len(found)
            == len({pair[:2] for pair in found})
            == sum(alike.count for alike in alike_pairs(images, labels, part))
        )
        assert {pair[:2] for pair in found} == near.keys() | cropped
        assert {pair for pair in found if not pair.cropped} == set(near.values())
        assert {pair[:2] for pair in found if pair.cropped} == cropped - near.keys()

    def test_pairs_are_told_once_where_a_picture_looks_like_a_crop_too(self, people):
        images = np.concatenate([people[:3], np.asarray(as_jpeg(Image.fromarray(people[0])))[None]])

        (note,) = notes_across(images, np.zeros(4, int), np.array([0, 0, 0, 2]), "abcd", lambda *_: None)

        assert "1 of the 1 images" in note and "(1 pair, 0 of them crops; such as a and d)" in note


@pytest.mark.parametrize("size", [(1, 40), (40, 1)])
def test_a_picture_of_one_pixel_s_width_or_height_is_described(tmp_path, photo, size):
    for name in ("Ana", "Bo"):
        for k, one in enumerate([size, (60, 30), (30, 60), (40, 40)]):  # crops have the shapes of the others
            photo(f"faces/{'train' if k % 2 else 'test'}/{name}/{k}.png", one)

    data = prepare(str(tmp_path / "faces"), image_size=32, cache_dir=tmp_path / "cache")

    assert describe(data).images == 8

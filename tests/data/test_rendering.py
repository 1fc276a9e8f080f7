"""What the rendered faces promise: people who stay themselves, and a difficulty that means something."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from facesim.data.rendering import RenderSpec, render, render_folder
from facesim.util.errors import InputError

SMALL = RenderSpec(identities=6, images=5, size=32, difficulty=0.5, seed=3)


def nearest_neighbour_accuracy(spec: RenderSpec) -> float:
    """Each image is recognised by the nearest other image, compared grey value by grey value."""
    images, labels, _ = render(spec)
    flat = images.mean(axis=3).reshape(len(images), -1)
    squares = (flat**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * flat @ flat.T
    np.fill_diagonal(distances, np.inf)
    return float(np.mean(labels[distances.argmin(axis=1)] == labels))


def test_shapes_and_order():
    images, labels, names = render(SMALL)

    assert images.shape == (30, 32, 32, 3) and images.dtype == np.uint8
    assert labels.dtype == np.int32 and np.array_equal(labels, np.repeat(np.arange(6), 5))
    assert names == tuple(f"person-00{i}" for i in range(1, 7))


def test_the_same_seed_gives_the_same_images():
    first, again, other = (render(replace(SMALL, seed=seed))[0] for seed in (3, 3, 4))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


#: Of four 32x32 images, every third mean of their 8x8 blocks, as the first version of the renderer had them.
FIRST_VERSION = [
    [206.9, 179.9, 142.2, 186.2, 180.6, 194.4, 162.3, 177.3, 189.2, 202.8, 177.6, 180.7, 178.8, 125.4, 130.6, 190.3],
    [197.9, 159.9, 163.7, 174.9, 165.5, 229.5, 216.7, 191.6, 186.1, 203.3, 187.7, 189.4, 193.5, 168.4, 151.0, 166.7],
    [97.5, 69.7, 82.6, 86.4, 89.8, 160.4, 155.3, 69.3, 73.3, 102.3, 102.9, 74.1, 73.1, 91.7, 92.1, 96.3],
    [190.5, 144.6, 122.5, 98.2, 202.8, 157.5, 101.3, 181.0, 189.7, 72.7, 98.0, 207.0, 99.1, 132.8, 159.1, 213.9],
]


def test_images_are_those_of_earlier_versions():
    images, _, _ = render(RenderSpec(2, 2, 32, difficulty=0.65, seed=1))

    means = images.reshape(4, 4, 8, 4, 8, 3).mean(axis=(2, 4)).reshape(4, -1)[:, ::3]

    np.testing.assert_allclose(means, FIRST_VERSION, atol=1)


def test_in_the_wild_the_same_images_are_made_again_and_recognition_is_harder():
    spec = RenderSpec(20, 10, 32, difficulty=0.4, wild=1.0)

    few = [render(replace(spec, identities=2, images=3))[0] for _ in range(2)]

    assert np.array_equal(*few)
    assert np.array_equal(few[0], render(spec)[0].reshape(20, 10, 32, 32, 3)[:2, :3].reshape(6, 32, 32, 3))
    assert nearest_neighbour_accuracy(spec) < nearest_neighbour_accuracy(replace(spec, wild=0.0)) - 0.1


def test_an_image_does_not_depend_on_how_many_others_there_are():
    many = render(SMALL)[0].reshape(6, 5, 32, 32, 3)
    few = render(replace(SMALL, identities=2, images=3))[0].reshape(2, 3, 32, 32, 3)

    assert np.array_equal(few, many[:2, :3])


def test_the_same_person_is_closer_than_another_at_any_difficulty():
    images = [render(replace(SMALL, difficulty=h))[0].reshape(6, 5, 32, 32, 3)[:, 0].astype(float) for h in (0, 0.15)]

    distance = np.abs(images[0][:, None] - images[1][None, :]).mean(axis=(2, 3, 4))

    assert np.array_equal(distance.argmin(axis=1), np.arange(6))


@pytest.mark.slow
def test_the_same_scene_at_every_size():
    small = render(replace(SMALL, size=32))[0]
    large = render(replace(SMALL, size=128))[0]

    shrunk = np.stack([np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BOX)) for image in large])

    assert np.abs(shrunk.astype(int) - small).mean() < 8


def test_images_of_a_person_agree_more_than_images_of_different_people():
    images, labels, _ = render(replace(SMALL, identities=10, difficulty=0.2))
    flat = images.reshape(len(images), -1) / 255
    distances = np.linalg.norm(flat[:, None] - flat[None, :], axis=2)
    same = (labels[:, None] == labels[None, :]) & ~np.eye(len(labels), dtype=bool)

    assert distances[same].mean() < 0.8 * distances[labels[:, None] != labels[None, :]].mean()


def test_images_of_a_person_differ():
    images, _, _ = render(SMALL)

    assert len({image.tobytes() for image in images}) == len(images)


def test_recognition_gets_harder_with_difficulty():
    accuracy = [nearest_neighbour_accuracy(RenderSpec(29, 10, 32, difficulty=h)) for h in (0.1, 0.4, 0.7, 1.0)]

    assert accuracy == sorted(accuracy, reverse=True)
    assert accuracy[0] > 0.95
    assert accuracy[-1] < 0.35


def test_recognition_gets_easier_with_spread():
    narrow, wide = (nearest_neighbour_accuracy(RenderSpec(20, 10, 32, difficulty=0.5, spread=s)) for s in (0.3, 1.5))

    assert narrow < wide


def test_a_folder_that_every_tool_reads(tmp_path):
    seen = []

    render_folder(SMALL, tmp_path / "out", lambda *event: seen.append(event))

    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert len(files) == 30 and files[0] == "person-001/0001.png" and files[-1] == "person-006/0005.png"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/person-002/0001.png")), render(SMALL)[0][5])
    assert seen[-1] == ("rendering", 30, 30)


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(InputError, match="not an empty folder"):
        render_folder(SMALL, tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("identities", 1),
        ("images", 1),
        ("size", 8),
        ("size", 64.5),
        ("difficulty", 1.1),
        ("difficulty", float("nan")),
        ("wild", 1.1),
        ("spread", 0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=f"{field} is {value}"):
        replace(SMALL, **{field: value})

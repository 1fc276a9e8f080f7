"""Images that stay in their files: decoded by TensorFlow as they are prepared by Pillow, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from facesim.data import PreparedData, prepare, stratified_split
from facesim.data.decode import read_image
from facesim.data.stored import turns_of
from facesim.errors import InputError


def picture(size: tuple[int, int] = (50, 40)) -> Image.Image:
    """A smooth one: what is compared is where things are and which colour they have, not each codec's noise."""
    rough = np.random.default_rng(3).integers(0, 256, (6, 7, 3), np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def see_through(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


@pytest.fixture(scope="module")
def decoded():
    """An image file as a training task's graph decodes it."""
    tf = pytest.importorskip("tensorflow")
    from facesim.data import pipeline

    def run(path, shape):
        return tf.function(pipeline.decoded)(tf.constant(str(path)), tf.constant(turns_of(path)), shape).numpy()

    return run


@pytest.mark.parametrize(
    ("name", "image", "options"),
    [
        ("a.jpg", picture(), {"quality": 95}),
        ("a.jpg", picture().convert("L"), {"quality": 95}),
        ("tall.jpg", picture((30, 70)), {"quality": 95}),
        ("exact.png", picture((32, 32)), {}),
        ("small.png", picture((9, 7)), {}),
        ("palette.png", picture().convert("P"), {}),
        ("see-through.png", see_through(picture()), {}),
        ("a.webp", picture(), {"lossless": True}),
        ("a.bmp", picture(), {}),
        ("without_extension", picture().convert("L"), {"format": "GIF"}),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_tensorflow_decodes_a_file_as_pillow_does(tmp_path, decoded, name, image, options, channels):
    image.save(tmp_path / name, **options)

    seen = decoded(tmp_path / name, (32, 32, channels))

    difference = np.abs(seen.astype(int) - read_image(tmp_path / name, 32, channels))
    # Pillow rounds and clips between its two passes, which a few pixels at hard edges show.
    assert difference.mean() < 1 and np.percentile(difference, 99) <= 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_exif_says(tmp_path, decoded, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a.png", exif=exif)

    seen = decoded(tmp_path / "a.png", (32, 32, 3))

    assert np.abs(seen.astype(int) - read_image(tmp_path / "a.png", 32, 3)).max() <= 2


@pytest.fixture
def people(tmp_path):
    """Three people, five JPEGs each, one of them no JPEG at all."""
    for person in ("Ana", "Bo", "Cy"):
        (tmp_path / "people" / person).mkdir(parents=True)
        for shot in range(5):
            image = picture((40 + shot, 50)).point(lambda value, shift=9 * shot: max(0, value - shift))
            image.save(tmp_path / "people" / person / f"{shot}.jpg", quality=95)
    (tmp_path / "people" / "Bo" / "2.jpg").write_bytes(b"no picture")
    return tmp_path / "people"


def ready(source, cache, **options) -> PreparedData:
    return prepare(str(source), **{"image_size": 32, "max_bad_files": 0.1, "cache_dir": cache, **options})


def test_the_same_examples_in_the_same_split_as_with_decoded_images(people, tmp_path):
    kept, stored = (ready(people, tmp_path / "cache", decoded=decoded) for decoded in (True, False))

    assert stored.directory != kept.directory and not (stored.directory / "images.u8").exists()
    assert stored.labels.tolist() == kept.labels.tolist() and stored.names == kept.names
    assert [bad.path for bad in stored.bad_files] == [bad.path for bad in kept.bad_files] == ["Bo/2.jpg"]
    assert stored.sha256 == kept.sha256
    assert np.array_equal(stored.images, kept.images) and np.array_equal(stored.images[[3, 1]], kept.images[[3, 1]])
    for one, other in zip(stratified_split(stored.labels, 0.2, 5), stratified_split(kept.labels, 0.2, 5)):
        assert one.tolist() == other.tolist()
    stored.verify()


def test_every_cache_gives_a_training_task_the_same_batch(people, tmp_path):
    pytest.importorskip("tensorflow")
    from facesim.data.pipeline import TASK_INDEX_FILE, ExampleSource

    (tmp_path / TASK_INDEX_FILE).write_text("3")
    batches = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for cache in ("memory", "disk", "none"):
            source = ExampleSource(ready(people, tmp_path / "cache", decoded=cache != "none"), cache)
            images, task = source.take(next(iter(source.dataset())), np.array([7, 0, 12]))
            assert task.numpy() == 3
            batches[cache] = images.numpy().astype(int)

    assert np.array_equal(batches["memory"], batches["disk"])
    assert batches["none"].shape == (3, 32, 32, 3)
    assert np.abs(batches["none"] - batches["memory"]).max() <= 3


@pytest.mark.parametrize(
    ("name", "image", "told"),
    [
        ("5.pgm", picture().convert("L"), "5.pgm is PPM"),
        ("5.tif", picture(), "5.tif is TIFF"),
        ("5.bmp", picture().convert("P"), "5.bmp is a palette BMP"),
        ("5.webp", see_through(picture()), "5.webp is a transparent WEBP"),
    ],
)
def test_what_tensorflow_cannot_decode_is_named(people, tmp_path, name, image, told):
    image.save(people / "Ana" / name)

    with pytest.raises(InputError, match=f"{told}.*--cache disk"):
        ready(people, tmp_path / "cache", decoded=False)


def test_images_without_files_are_refused(tmp_path):
    np.savez(tmp_path / "faces.npz", images=np.zeros((8, 32, 32), np.uint8), labels=[0, 0, 0, 0, 1, 1, 1, 1])

    with pytest.raises(InputError, match="--cache none decodes image files"):
        ready(tmp_path / "faces.npz", tmp_path / "cache", decoded=False)


def test_a_list_that_lost_a_file_s_name_is_made_again(people, tmp_path):
    stored = ready(people, tmp_path / "cache", decoded=False)
    (stored.directory / "files").write_bytes(b"one\0")

    with pytest.raises(InputError, match="does not name 14 files"):
        PreparedData.load(stored.directory)
    assert len(ready(people, tmp_path / "cache", decoded=False).images) == 14

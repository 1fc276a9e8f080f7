"""Images that stay in their files: decoded by TensorFlow as they are prepared by Pillow, whatever they are."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from facesim.data import PreparedData, prepare, stratified_split
from facesim.util.errors import InputError
from tests.data.exif import BROKEN, picture

pytestmark = pytest.mark.slow


def see_through(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def with_orientation(value: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = value
    return tags


def windows_bitmap(header: bytes, pixels: bytes, before: bytes = b"") -> bytes:
    """A BMP: the header of its picture, what comes `before` the pixels, the pixels."""
    begin = 14 + len(header) + len(before)
    return b"BM" + struct.pack("<IHHI", begin + len(pixels), 0, 0, begin) + header + before + pixels


def written(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def by_others() -> dict[str, bytes]:
    """Files as Pillow writes none, by name: what is particular about them."""
    rows = np.asarray(picture((32, 32)))[::-1]

    def header(bits: int, compression: int, size: int) -> bytes:
        return struct.pack("<IiiHHIIiiII", 40, 32, 32, 1, bits, compression, size, 0, 0, 0, 0)

    red, green, blue = np.moveaxis(rows.astype("<u2") >> 3, 2, 0)
    shallow = (red << 10 | green << 5 | blue).tobytes()
    runs = b"".join(b"".join(bytes([1, value]) for value in row[:, 0]) + b"\0\0" for row in rows) + b"\0\1"
    greys = b"".join(bytes([value, value, value, 0]) for value in range(256))
    deep = np.insert(rows[..., ::-1], 0, 0, axis=2).tobytes()
    masks = struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00)
    frame = written(picture((32, 32)).quantize(8), "GIF")
    screen = frame[:6] + struct.pack("<HH", 48, 40)
    return {
        "more-bytes.bmp": written(picture(), "BMP") + b"more",
        "16-bits.bmp": windows_bitmap(header(16, 0, len(shallow)), shallow),
        "runs.bmp": windows_bitmap(header(8, 1, len(runs)), runs, greys),
        "os-2.bmp": windows_bitmap(struct.pack("<IHHHH", 12, 32, 32, 1, 24), rows[..., ::-1].tobytes()),
        "masks.bmp": windows_bitmap(header(32, 3, len(deep)), deep, masks),
        "part-of-its-screen.gif": screen + frame[10:],
    }


#: Of the size asked for: what is transparent has hard edges, at which scaling would round differently.
FEW_COLOURS = picture((32, 32)).quantize(8)


def sixteen_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def lab(image: Image.Image) -> Image.Image:
    profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
    return ImageCms.profileToProfile(image, *profiles, outputMode="LAB")


#: File names, what is in them, and how it is saved: every kind of file that people have.
FILES = [
    ("a.jpg", picture(), {"quality": 95}),
    ("grey.jpg", picture().convert("L"), {"quality": 95}),
    ("progressive.jpg", picture(), {"quality": 95, "progressive": True}),
    ("cmyk.jpg", picture().convert("CMYK"), {"quality": 95}),
    ("tall.jpg", picture((30, 70)), {"quality": 95}),
    ("exact.png", picture((32, 32)), {}),
    ("small.png", picture((9, 7)), {}),
    ("narrow.png", picture((70, 1)), {}),
    ("grey.png", picture().convert("L"), {}),
    ("two-colours.png", picture().convert("1"), {}),
    ("palette.png", picture().convert("P"), {}),
    ("16-bits.png", sixteen_bits(picture()), {}),
    ("see-through.png", see_through(picture()), {}),
    ("see-through-grey.png", see_through(picture()).convert("LA"), {}),
    ("see-through-colour.png", picture().convert("P"), {"transparency": 3}),
    ("much-text.png", picture(), {"icc_profile": bytes(2_000_000)}),
    ("a.webp", picture(), {"lossless": True}),
    ("lossy.webp", picture(), {"quality": 95}),
    ("see-through.webp", see_through(picture()), {"lossless": True}),
    ("a.bmp", picture(), {}),
    ("grey.bmp", picture().convert("L"), {}),
    ("palette.bmp", picture().convert("P"), {}),
    ("two-colours.bmp", picture().convert("1"), {}),
    ("gif_without_extension", picture().convert("L"), {"format": "GIF"}),
    ("colours.gif", picture(), {}),
    ("several.gif", picture(), {"save_all": True, "append_images": [picture((50, 40)).rotate(90)]}),
    ("several.webp", picture(), {"save_all": True, "append_images": [picture().rotate(90)], "lossless": True}),
    ("several.png", picture(), {"save_all": True, "append_images": [picture().rotate(90)]}),
    ("camera.jpg", picture(), {"format": "MPO", "save_all": True, "append_images": [picture()], "quality": 95}),
    *(
        (f"key-{mode}.png", FEW_COLOURS.convert(mode), {"transparency": FEW_COLOURS.convert(mode).getpixel((9, 9))})
        for mode in ("L", "RGB")
    ),
    ("half-colour.png", picture().convert("P"), {"transparency": bytes(range(256))}),
    ("see-through.gif", FEW_COLOURS, {"transparency": 3}),
    ("a.tif", picture(), {}),
    ("lab.tif", lab(picture()), {}),
    ("cmyk.tif", picture().convert("CMYK"), {}),
    ("32-bits.tif", sixteen_bits(picture()).convert("I"), {}),
    ("big-endian.tif", Image.fromarray(np.asarray(sixteen_bits(picture())).astype(">u2")), {}),
    ("palette-and-alpha.tif", picture().convert("P").convert("PA"), {}),
    ("16-bits.tif", sixteen_bits(picture()), {}),
    ("see-through.tif", see_through(picture()), {"compression": "tiff_lzw"}),
    ("turned.tif", picture(), {"exif": with_orientation(6)}),
    ("a.pgm", picture().convert("L"), {}),
    ("a.ppm", picture(), {}),
    ("large.png", picture((6000, 6000)), {"compress_level": 1}),
    *((f"turned{value}.jpg", picture(), {"quality": 95, "exif": with_orientation(value)}) for value in range(1, 9)),
    *((f"turned{value}.png", picture(), {"exif": with_orientation(value)}) for value in (3, 6, 8)),
    ("turned.webp", picture(), {"lossless": True, "exif": with_orientation(6)}),
    *(
        (f"{nth}.{suffix}", picture(), {"exif": broken})
        for nth, broken in enumerate(BROKEN.values())
        for suffix in ("jpg", "png", "webp")
    ),
]


NAMES = [*(name for name, *_ in FILES), *by_others()]


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def by_cache(request, tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    """cache -> file name -> its image, int (32, 32, channels), as a training task gets it."""
    pytest.importorskip("tensorflow")
    from facesim.training.tensorflow.pipeline import TASK_INDEX_FILE, ExampleSource

    folder = tmp_path_factory.mktemp("kinds")
    for number, (name, image, options) in enumerate(FILES):
        file = folder / "files" / ("Ana" if number % 2 else "Bo") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, **options)
    for name, content in by_others().items():
        (folder / "files/Ana" / name).write_bytes(content)
    (folder / TASK_INDEX_FILE).write_text("0")
    sizes = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for cache in ("memory", "disk", "none"):
            data = ready(folder / "files", folder / "cache", decoded=cache != "none", channels=request.param)
            source = ExampleSource(data, cache)
            images, _ = source.take(next(iter(source.dataset())), np.arange(len(data.labels)))
            names = [origin.split("/")[-1] for origin in data.origins]
            assert sorted(names) == sorted(NAMES) and not data.bad_files
            sizes[cache] = dict(zip(names, images.numpy().astype(int)))
    return sizes


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", NAMES)
def test_every_cache_has_the_same_picture_of_a_file(by_cache, name):
    kept, stored = by_cache["memory"][name], by_cache["none"][name]

    assert np.array_equal(kept, by_cache["disk"][name])
    # Pillow rounds and clips between its two passes, which a few pixels at hard edges show.
    difference = np.abs(stored - kept)
    assert difference.mean() < 1 and np.percentile(difference, 99) <= 5


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
    from facesim.training.tensorflow.pipeline import TASK_INDEX_FILE, ExampleSource

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


def test_files_that_tensorflow_decodes_are_not_copied(people, tmp_path):
    picture().save(people / "Ana" / "5.tif")
    picture().save(people / "Bo" / "5.png")

    stored = ready(people, tmp_path / "cache", decoded=False)

    copies = list(stored.directory.glob("*.png"))
    assert [Image.open(copy).size for copy in copies] == [(32, 32)]
    assert stored.images[:].shape == (16, 32, 32, 3)
    stored.verify()


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

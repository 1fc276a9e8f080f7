"""One picture file as pixels: metadata never makes it unreadable, size never takes much memory, reasons are told."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import unicodedata
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from facesim.data.decode import BadFile, Wanted, decode, decode_bytes, fit, read_image
from facesim.data.rendering import RenderSpec
from tests.data.exif import BROKEN, HEIC, exif, picture

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def wanted(size: int = 16, channels: int = 3) -> Wanted:
    return Wanted(size, channels, None, RenderSpec(), lambda *_: None)


def reason(path: Path) -> str:
    image = decode(path, path.parent, wanted())
    assert isinstance(image, BadFile)
    return image.reason


class TestExif:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
    @pytest.mark.parametrize("broken", BROKEN)
    def test_what_cannot_be_read_is_upright(self, tmp_path, suffix, broken):
        options = {"quality": 95} if suffix != "png" else {}
        picture().save(tmp_path / f"plain.{suffix}", **options)
        picture().save(tmp_path / f"broken.{suffix}", exif=BROKEN[broken], **options)

        plain, seen = (read_image(tmp_path / f"{name}.{suffix}", 32, 3) for name in ("plain", "broken"))

        assert np.array_equal(plain, seen)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_what_can_be_read_is_obeyed(self, tmp_path, suffix, orientation):
        upright = picture((40, 40))
        undone = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
        stored = upright if undone is None else upright.transpose(Image.Transpose(undone))
        options = (
            {"quality": 100, "subsampling": 0} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
        )
        tags = Image.Exif()
        tags[0x0112] = orientation
        stored.save(tmp_path / f"a.{suffix}", exif=tags, **options)

        seen = read_image(tmp_path / f"a.{suffix}", 40, 3)

        assert np.abs(seen.astype(int) - np.asarray(upright)).max() <= 12

    def test_a_hex_profile_of_png_that_is_none(self, tmp_path):
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_text("Raw profile type exif", "\nexif\n 10\nnot hex at all")
        picture().save(tmp_path / "a.png", pnginfo=text)
        picture().save(tmp_path / "b.png")

        assert np.array_equal(*(read_image(tmp_path / f"{name}.png", 32, 3) for name in "ab"))

    def test_a_png_with_more_text_than_pillow_unpacks(self, tmp_path):
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_text("history", "a" * 3_000_000, zip=True)
        picture().save(tmp_path / "a.png", pnginfo=text, icc_profile=bytes(2_000_000))
        picture().save(tmp_path / "b.png")

        assert np.array_equal(*(read_image(tmp_path / f"{name}.png", 32, 3) for name in "ab"))

    def test_a_tiff_whose_orientation_is_a_text(self, tmp_path):
        from PIL.TiffImagePlugin import ImageFileDirectory_v2

        tags = ImageFileDirectory_v2()
        tags.tagtype[0x0112] = 2
        tags[0x0112] = "six"
        picture().save(tmp_path / "a.tif", tiffinfo=tags)
        picture().save(tmp_path / "b.tif")

        assert np.array_equal(*(read_image(tmp_path / f"{name}.tif", 32, 3) for name in "ab"))


def blank_png(width: int, height: int) -> bytes:
    """A grey-blue PNG of any size, without ever holding its pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(1), b"\0" + b"\x40\x60\x80" * width
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class TestSize:
    @pytest.mark.slow
    def test_many_large_pictures_do_not_take_much_memory_together(self, tmp_path):
        (tmp_path / "large.png").write_bytes(blank_png(9400, 9400))
        measure = (
            "import resource, sys; from concurrent.futures import ThreadPoolExecutor; from pathlib import Path\n"
            "from facesim.data.decode import read_image\n"
            "with ThreadPoolExecutor(6) as pool:\n"
            "    found = list(pool.map(lambda path: read_image(Path(path), 64, 3), [sys.argv[1]] * 6))\n"
            "assert all((one == (0x40, 0x60, 0x80)).all() for one in found)\n"
            # Linux' ru_maxrss also has what the process that started this one had; VmHWM is this program's alone.
            "status = Path('/proc/self/status')\n"
            "own = [line.split()[1] for line in status.read_text().splitlines() if line.startswith('VmHWM')]"
            " if status.exists() else []\n"
            "print(*own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])"
        )

        ran = subprocess.run(
            [sys.executable, "-c", measure, tmp_path / "large.png"], capture_output=True, text=True, check=True
        )

        kib = int(ran.stdout) / (1024 if sys.platform == "darwin" else 1)
        assert kib < 800 * 1024  # one such picture is 345 MiB

    @pytest.mark.slow
    def test_a_photograph_of_108_megapixels(self, tmp_path):
        Image.new("L", (12000, 9000), 99).save(tmp_path / "phone.jpg", quality=50)

        assert (abs(read_image(tmp_path / "phone.jpg", 64, 1)[8:56].astype(int) - 99) <= 1).all()

    def test_what_is_too_large_is_told_with_a_remedy(self, tmp_path):
        for name, header in {
            "a.ppm": b"P6 12000 9000 255\n",
            "b.jpg": jpeg_header(60000, 60000),
        }.items():
            (tmp_path / name).write_bytes(header)

        assert reason(tmp_path / "a.ppm") == (
            "too large: 12000 x 9000 pixels are more than 89,478,485; make it smaller, or save it as JPEG, decoded at "
            "a part of its size"
        )
        assert (
            reason(tmp_path / "b.jpg") == "too large: 60000 x 60000 pixels are more than 250,000,000; make it smaller"
        )

    def test_no_warning_of_pillow_s_own_limit(self, tmp_path):
        (tmp_path / "a.ppm").write_bytes(b"P6 12000 9000 255\n")

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "too large" in reason(tmp_path / "a.ppm")

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_large_picture_looks_as_a_small_one(self, tmp_path, mode, channels):
        small = picture((500, 430))
        large = small.resize((2500, 2150), Image.Resampling.NEAREST)
        for name, image in {"small": small, "large": large}.items():
            as_mode(image, mode).save(tmp_path / f"{name}.png")

        one, other = (read_image(tmp_path / f"{name}.png", 32, channels).astype(int) for name in ("small", "large"))

        assert np.abs(one - other).mean() < 2

    @pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1), (70000, 80)])
    def test_any_shape(self, tmp_path, size):
        Image.new("RGB", size, "white").save(tmp_path / "a.png")

        assert read_image(tmp_path / "a.png", 32, 3).max() == 255

    def test_strips_change_nothing(self, monkeypatch):
        whole = fit(picture((700, 430)), wanted(32))
        monkeypatch.setattr("facesim.data.decode._LARGE_PIXELS", 1000)
        monkeypatch.setattr("facesim.data.decode._STRIP_PIXELS", 9999)

        assert np.array_equal(fit(picture((700, 430)), wanted(32)), whole)


def jpeg_header(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    content = bytearray(file.getvalue())
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def as_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    if mode == "RGBA":
        image = image.convert("RGBA")
        image.putalpha(Image.linear_gradient("L").resize(image.size, Image.Resampling.NEAREST))
        return image
    return image.convert(mode)


def test_a_phone_s_heic():
    pytest.importorskip("pi_heif")

    seen = decode_bytes(HEIC, "a.heic", wanted()).astype(int)

    assert np.abs(seen[8, [2, 13]] - [(200, 40, 60), (20, 160, 220)]).max() < 30


class TestFrames:
    """Of what is animated, or has pages, the first is read; where that is so is kept, to be told."""

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
    def test_the_first_is_read_and_told(self, kind):
        if kind == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        asked, file = wanted(), io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(
            file, kind, save_all=True, append_images=[Image.new("RGB", (16, 16), "blue")]
        )

        seen = decode_bytes(file.getvalue(), "a", asked).astype(int)

        assert np.abs(seen - (255, 0, 0)).max() < 8
        assert asked.first_frames == ["a"]

    @pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
    def test_a_photograph_has_one(self, kind):
        """Also one of a camera with a second, smaller or later one in it (MPO)."""
        asked, file = wanted(), io.BytesIO()
        options = {"save_all": True, "append_images": [picture((20, 20))]} if kind == "MPO" else {}
        picture().save(file, kind, **options)

        assert not isinstance(decode_bytes(file.getvalue(), "a", asked), BadFile)
        assert asked.first_frames == []


class TestReasons:
    def test_what_is_there_instead_of_a_missing_file(self, tmp_path):
        picture().save(tmp_path / "Photo.png")
        picture().save(tmp_path / unicodedata.normalize("NFD", "José.png"))
        (tmp_path / "gone.png").symlink_to("nowhere")

        assert reason(tmp_path / "none.png") == "no such file"
        assert reason(tmp_path / "nowhere/none.png") == "no such file"
        assert reason(tmp_path / "gone.png") == "a link to no file"
        assert "backslashes" in reason(tmp_path / "Ana\\1.png")
        if not (tmp_path / "photo.png").exists():
            assert "capital letters" in reason(tmp_path / "photo.png")
        if not (tmp_path / unicodedata.normalize("NFC", "José.png")).exists():
            assert "NFC or NFD" in reason(tmp_path / unicodedata.normalize("NFC", "José.png"))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "empty file"),
            (b"not an image", "not an image that Pillow can read"),
            (bytes(64 * 64 * 3), "perhaps raw pixels"),
            (bytes(range(256)) * 16, "perhaps raw pixels"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image that Pillow can read"),
            (b"<!DOCTYPE html><html><body>404", "a web page"),
            (b"\n <?xml version='1.0'?><svg></svg>", "a web page, or another text in HTML or XML"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "run git lfs pull"),
            (b"\0\0\0\x14ftypqt  " + bytes(100), "a film"),
            (b"\xff\x0a" + bytes(100), "JPEG XL is not supported"),
            (b"%PDF-1.4\n", "a PDF"),
            (bytes(5000), "nothing but zeros"),
        ],
    )
    def test_what_content_is_instead_of_an_image(self, tmp_path, content, message):
        (tmp_path / "a.png").write_bytes(content)

        assert message in reason(tmp_path / "a.png")
        assert message in decode_bytes(content, "record 7", wanted()).reason

    def test_avif_that_is_damaged_is_not_said_to_be_of_no_kind_that_is_read(self):
        if not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")

        assert decode_bytes(b"\0\0\0\x18ftypavif", "record 7", wanted()).reason == "AVIF, and damaged; copy it again"

    def test_avif_that_this_pillow_does_not_read(self, monkeypatch):
        words = "AVIF support not installed"
        monkeypatch.setitem(Image.OPEN, "AVIF", (None, lambda start: words if b"avif" in start else False))

        assert "this Pillow does not read it" in decode_bytes(b"\0\0\0\x18ftypavif", "record 7", wanted()).reason

    def test_heic_without_its_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pi_heif", None)
        monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)

        assert decode_bytes(b"\0\0\0\x18ftypheic", "record 7", wanted()).reason == (
            "HEIC, and facesim-cluster[heic] is not installed; install it, or convert it to JPEG"
        )

    def test_heic_that_is_damaged(self):
        pytest.importorskip("pi_heif")

        assert decode_bytes(HEIC[:300], "record 7", wanted()).reason.startswith("HEIC, and damaged, or written")

    def test_numbers_without_a_range(self, tmp_path):
        Image.fromarray(np.full((8, 8), 1 << 20, np.int32)).save(tmp_path / "deep.tif")
        Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "float.tif")

        assert (
            reason(tmp_path / "deep.tif") == "pixels of 32 bits have no fixed range; convert the image to 8 or 16 bits"
        )
        assert "floating-point pixels have no fixed range" in reason(tmp_path / "float.tif")

    def test_damage_is_one_kind_whatever_pillow_says_of_it(self, tmp_path):
        for name, rest in (("a", b"short"), ("b", b"a little longer")):
            (tmp_path / f"{name}.pgm").write_bytes(b"P5 20 20 255\n" + rest)

        images = [decode(tmp_path / f"{name}.pgm", tmp_path, wanted()) for name in "ab"]

        assert [bad.kind for bad in images] == ["damaged", "damaged"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_no_permission(self, tmp_path):
        picture().save(tmp_path / "a.png")
        (tmp_path / "a.png").chmod(0)

        assert reason(tmp_path / "a.png") == "no permission to read"


def encoded(kind: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    as_mode(picture((24, 18)), mode).save(file, kind, **options)
    return file.getvalue()


_FILES = [
    encoded("JPEG", exif=exif(3, 1, struct.pack("<HH", 6, 0))),
    encoded("JPEG", progressive=True),
    encoded("PNG", exif=exif(3, 1, struct.pack("<HH", 6, 0))),
    encoded("PNG", "P"),
    encoded("PNG", "I;16"),
    encoded("GIF", "P"),
    encoded("WEBP", exif=exif(3, 1, struct.pack("<HH", 6, 0))),
    encoded("BMP"),
    encoded("TIFF"),
    encoded("TIFF", compression="tiff_lzw"),
    encoded("PPM"),
]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    content=st.sampled_from(_FILES),
    changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6),
    cut=st.none() | st.integers(0, 4000),
    channels=st.sampled_from([1, 3]),
)
def test_any_bytes_are_a_picture_or_a_reason(content, changes, cut, channels):
    damaged = bytearray(content[:cut])
    for at, value in changes:
        if damaged:
            damaged[at % len(damaged)] = value

    image = decode_bytes(bytes(damaged), "record", wanted(16, channels))

    if isinstance(image, BadFile):
        assert image.reason and image.kind
    else:
        assert image.shape == (16, 16, channels) and image.dtype == np.uint8


@settings(max_examples=200, deadline=None)
@given(
    kind=st.integers(0, 13),
    count=st.sampled_from([0, 1, 2, 5, 1 << 16, (1 << 32) - 1]),
    value=st.binary(min_size=4, max_size=4),
    format_=st.sampled_from(["JPEG", "PNG", "WEBP"]),
)
def test_any_exif_leaves_a_picture_readable(kind, count, value, format_):
    image = decode_bytes(encoded(format_, exif=exif(kind, count, value)), "record", wanted())

    assert not isinstance(image, BadFile)

"""Open an image with Pillow: only a regular file, only kinds that Pillow decodes by itself, of whatever stored size.

Pillow's own `Image.open` refuses by the size that is stored. What matters is the memory that decoding takes: a JPEG can
be decoded at a part of its size, so a phone's photograph of 108 megapixels needs little. So the limit is on what is
decoded.
"""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from facesim.util.files import open_regular, why_unread

if TYPE_CHECKING:
    from PIL import Image

# Of damaged metadata, which nothing here depends on; a user could not tell which file it is about.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

#: As Pillow names them. Others are rare, or Pillow starts another program for them (EPS).
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")

#: So many pixels are decoded of one image at most: Pillow's own limit, 0.36 GB.
MAX_PIXELS = 89_478_485

#: A JPEG may store so many, if it can be decoded at a part of its size. A progressive one is held whole meanwhile.
MAX_JPEG_PIXELS = 250_000_000

_BYTES_PER_PIXEL = 4
_PROGRESSIVE_BYTES_PER_PIXEL = 6
_ORIENTATION = 0x0112


class Unusable(ValueError):
    """Content that is no image of a kind that is read, or too large a one; the message says so to the user."""


@contextmanager
def opened(source: Path | BinaryIO, enough: int | None = None) -> Iterator[Image.Image]:
    """The image of a file, or of bytes, its header read and its pixels not yet; closed afterwards.

    With `enough`, pixels, it is to be decoded: a JPEG at 1/2, 1/4 or 1/8 of its size if both sides keep that many.
    `image.info["stored_size"]` is the size before that, (width, height).

    Raises:
        OSError, ValueError: the path cannot be opened (`facesim.util.files.why_unread` has words for it).
        Unusable: it is no image of a kind that is read, or decoding it takes too much.
        Exception: whatever Pillow trips over in a damaged header.
    """
    try:
        file = open_regular(source) if isinstance(source, (str, os.PathLike)) else source
    except ValueError as error:
        raise Unusable(why_unread(error)) from error
    with file, _recognised(file) as image:
        image.info["stored_size"] = image.size
        if enough:
            image.draft(None, (enough, enough))
            check_size(image)
        yield image


def _recognised(file: BinaryIO) -> Image.Image:
    """What `PIL.Image.open` does, for `FORMATS`, without its limit."""
    from PIL import Image

    start = file.read(16)
    for name in FORMATS:
        if name not in Image.OPEN:
            Image.init()
            _add_heif()
        if not _is_read(name, start):
            continue
        file.seek(0)
        factory, _ = Image.OPEN[name]
        try:
            return factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # as `Image.open` has it: not of this kind after all
            continue
        except ValueError:  # for more text or a larger colour profile than Pillow unpacks of a PNG
            if name != "PNG":
                raise
            return factory(_without_texts(file), "")
    raise Unusable("empty file" if not start else _unknown(file, start))


def _is_read(name: str, start: bytes) -> bool:
    """Whether Pillow has what reads the kind `name`, and takes for it a file that begins so."""
    from PIL import Image

    factory, accepts = Image.OPEN.get(name, (None, None))
    # An answer in words says that this Pillow was built without the kind.
    return factory is not None and (accepts is None or accepts(start) is True)


def decoders() -> tuple[str, bool]:
    """What decides which files can be read, and what their pixels are: Pillow's version, and whether HEIC is read."""
    import PIL

    return PIL.__version__, find_spec("pi_heif") is not None


def _add_heif() -> None:
    """Let Pillow open HEIC, where the package for that is installed, if only a moment ago."""
    from PIL import Image

    if "HEIF" in Image.OPEN:
        return
    try:
        from pi_heif import register_heif_opener
    except ModuleNotFoundError:
        return
    register_heif_opener()


def _without_texts(file: BinaryIO) -> io.BytesIO:
    """A PNG without its texts and colour profile."""
    file.seek(0)
    png = io.BytesIO()
    png.write(file.read(8))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            file.seek(length + 4, os.SEEK_CUR)
        else:
            png.write(head)
            png.write(file.read(length + 4))
    png.seek(0)
    return png


#: Kinds that not every installation reads, by how they begin: Pillow's name, what is wrong where it can read them, and
#: what where it cannot.
_OPTIONAL = {
    rb"....ftyp(heic|heix|hevc|mif1|msf1|heim|heis)": (
        "HEIF",
        "HEIC, and damaged, or written in a way that pi_heif does not read; copy it again, or convert it to JPEG",
        "HEIC, and facesim-cluster[heic] is not installed; install it, or convert it to JPEG",
    ),
    rb"....ftypavi[fs]": (
        "AVIF",
        "AVIF, and damaged; copy it again",
        "AVIF, and this Pillow does not read it; install a newer one, or convert it to JPEG",
    ),
}

#: What is in place of an image, by how it begins.
_OTHERS = {
    rb"....ftyp": "a film, not an image; save a picture of it as JPEG or PNG",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "JPEG XL is not supported; convert it to JPEG",
    rb"version https://": "a pointer of Git LFS, not the image itself; run git lfs pull",
    rb"(\xef\xbb\xbf)?\s*<": "a web page, or another text in HTML or XML, not an image; download it again",
    rb"%PDF": "a PDF, not an image; save its pages as JPEG or PNG",
}


def _unknown(file: BinaryIO, start: bytes) -> str:
    size = file.seek(0, os.SEEK_END)
    for begins, (name, damaged, unread) in _OPTIONAL.items():
        if re.match(begins, start, re.DOTALL):
            return damaged if _is_read(name, start) else unread
    for begins, what in _OTHERS.items():
        if re.match(begins, start, re.DOTALL):
            return what
    if size >= 192 and any(_is_square(size / channels) for channels in (1, 3, 4)):
        return "not an image that Pillow can read, perhaps raw pixels by its size; encode it as JPEG or PNG"
    if _only_zeros(file):
        return "nothing but zeros, it was not written; copy or download it again"
    return "not an image that Pillow can read"


def _only_zeros(file: BinaryIO) -> bool:
    file.seek(0)
    return not any(any(piece) for piece in iter(lambda: file.read(1 << 20), b""))


def _is_square(count: float) -> bool:
    return round(count**0.5) ** 2 == count


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8; 1 where there is none that can be read, so that a picture stays usable."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  Pillow raises whatever it trips over in damaged metadata
        return 1
    return orientation if type(orientation) is int and 1 <= orientation <= 8 else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image turned as `orientation` (of `orientation_of`) asks."""
    from PIL import Image

    turn = Image.Transpose
    turns = (
        turn.FLIP_LEFT_RIGHT,
        turn.ROTATE_180,
        turn.FLIP_TOP_BOTTOM,
        turn.TRANSPOSE,
        turn.ROTATE_270,
        turn.TRANSVERSE,
        turn.ROTATE_90,
    )
    return image if orientation == 1 else image.transpose(turns[orientation - 2])


def has_more(image: Image.Image) -> bool:
    """Whether an image is animated, or has several pages. A camera's MPO has, and what it shows is its first one."""
    return bool(getattr(image, "is_animated", False)) and image.format != "MPO"


def check_size(image: Image.Image) -> None:
    """Raise Unusable if decoding `image` takes too much."""
    width, height = image.info["stored_size"]
    size = f"too large: {width} x {height} pixels are more than"
    if image.format in ("JPEG", "MPO") and width * height > MAX_JPEG_PIXELS:
        raise Unusable(f"{size} {MAX_JPEG_PIXELS:,}; make it smaller")
    if image.width * image.height > MAX_PIXELS:
        raise Unusable(f"{size} {MAX_PIXELS:,}; make it smaller, or save it as JPEG, decoded at a part of its size")


def decoding_bytes(image: Image.Image) -> int:
    """About how much memory decoding `image`, as `opened` gives it, takes."""
    held = image.width * image.height * _BYTES_PER_PIXEL
    if image.info.get("progressive"):
        width, height = image.info["stored_size"]
        held += width * height * _PROGRESSIVE_BYTES_PER_PIXEL
    return held

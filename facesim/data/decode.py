"""One image file as pixels: upright, of one size, grey or colour; or why it cannot be read."""

from __future__ import annotations

import errno
import io
import os
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facesim.data.opening import Unusable, check_size, decoding_bytes, has_more, opened, orientation_of, upright
from facesim.data.rendering import Progress, RenderSpec
from facesim.util.errors import InputError
from facesim.util.files import NotAFile, why_unread
from facesim.util.unused import printable

if TYPE_CHECKING:
    from PIL import Image

#: An image whose decoding takes more is decoded while no other such one is.
_ALONE_BYTES, _ALONE = 64 << 20, threading.Lock()

#: Of a larger image, in pixels, no whole copy is made; strips are about so large.
_LARGE_PIXELS, _STRIP_PIXELS = 1 << 22, 1 << 20


#: Errors of the disk, the network or the process, not of the file.
_SYSTEM_FAULTS = frozenset(
    {errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN}
)

#: An image whose lightest and darkest values, of 0 to 255, differ by less shows nothing.
_FLAT = 16


@dataclass(frozen=True)
class BadFile:
    """A file that could not be read as an image, and why; `path` is relative to the source's folder.

    `reason` is what files have in common, and after a colon what is this file's own: `damaged: 12 bytes are missing`.
    """

    path: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without what is this file's own, as files are counted by it."""
        return self.reason.partition(": ")[0]


@dataclass(frozen=True)
class Wanted:
    """What is asked of a source: the images' size and channels, what to render, whom to leave out, and where to report
    progress.

    `image_feature` and `label_feature` name them in files and lists of many images; None looks for the usual names. To
    `first_frames` is added where each image is that has more than the one frame, or page, which is read of it, and to
    `unread_now` where each is that could not be read for want of memory or by a fault of the system, and may be yet.
    """

    image_size: int
    channels: int
    min_images: int | None
    render: RenderSpec
    progress: Progress
    image_feature: str | None = None
    label_feature: str | None = None
    first_frames: list[str] = field(default_factory=list)
    unread_now: list[str] = field(default_factory=list)

    @property
    def features(self) -> tuple[str | None, str | None]:
        """What the image and the label are called, None where they have their usual names."""
        return self.image_feature, self.label_feature


def read_image(path: Path, image_size: int, channels: int) -> np.ndarray:
    """One image file as `prepare` would decode it: uint8 (image_size, image_size, channels).

    Raises InputError if it cannot be read.
    """
    path = Path(path)
    image = decode(path, path.parent, Wanted(image_size, channels, None, RenderSpec(), lambda *_: None))
    if isinstance(image, BadFile):
        raise InputError(f"{printable(str(path))} cannot be read as an image: {image.reason}. Name an image file.")
    return image


def decode(path: Path, root: Path, wanted: Wanted) -> np.ndarray | BadFile:
    """uint8 (size, size, channels), upright, or why this file is no usable image."""
    return _decode(path, path, shown_path(path, root), wanted)


def whole_picture(path: Path, root: Path) -> Image.Image | BadFile:
    """A file's picture at its own size, upright, RGB; or why it is no usable image."""
    colour = Wanted(0, 3, None, RenderSpec(), lambda *_: None)
    try:
        with opened(path) as image:
            check_size(image)
            image.load()
            return upright(_plain(image, colour), orientation_of(image))
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise whatever they trip over in a damaged file
        return BadFile(shown_path(path, root), _reason(path, error))


def decode_bytes(encoded: bytes, origin: str, wanted: Wanted) -> np.ndarray | BadFile:
    """The same for an image that was read from a file of many; `origin` says where."""
    return _decode(io.BytesIO(encoded), None, origin, wanted)


def decode_member(read: Callable[[], bytes], origin: str, wanted: Wanted) -> np.ndarray | BadFile:
    """The same for an image whose bytes `read` gives, or fails to."""
    try:
        encoded = read()
    except Exception as error:  # noqa: BLE001  a damaged archive fails in whatever unpacks it
        return _bad_file(None, origin, error, wanted)
    return decode_bytes(encoded, origin, wanted)


def _decode(source: Path | io.BytesIO, path: Path | None, shown: str, wanted: Wanted) -> np.ndarray | BadFile:
    try:
        # A JPEG is decoded at a part of its size; twice the size asked for is enough to resample from.
        with opened(source, 2 * wanted.image_size) as image:
            if has_more(image):
                wanted.first_frames.append(shown)
            if decoding_bytes(image) <= _ALONE_BYTES:
                return _pixels(image, wanted)
            # One at a time, each in a thread of its own: what a thread has freed, the allocator keeps for it.
            with _ALONE, ThreadPoolExecutor(1) as pool:
                return pool.submit(_pixels, image, wanted).result()
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise whatever they trip over in a damaged file
        return _bad_file(path, shown, error, wanted)


def _bad_file(path: Path | None, shown: str, error: Exception, wanted: Wanted) -> BadFile:
    if _out_of_memory(error) or (isinstance(error, OSError) and error.errno in _SYSTEM_FAULTS):
        wanted.unread_now.append(shown)
    return BadFile(shown, _reason(path, error))


def _out_of_memory(error: Exception) -> bool:
    """Pillow's decoders have an error without a number for it."""
    return isinstance(error, MemoryError) or "out of memory" in str(error)


def _pixels(image: Image.Image, wanted: Wanted) -> np.ndarray:
    try:
        image.load()
        return fit(image, wanted, orientation_of(image))
    finally:
        image.close()


def shown_path(path: Path, root: Path) -> str:
    """A file as a data set names it: its path below the set's folder, or where it lies elsewhere its name."""
    return printable((path.relative_to(root) if path.is_relative_to(root) else Path(path.name)).as_posix())


def _reason(path: Path | None, error: Exception) -> str:
    if isinstance(error, Unusable):
        return str(error)
    if _out_of_memory(error):
        return "too large: there is not enough memory to decode it"
    # Pillow raises OSError without a number for damaged content; a path that cannot be opened has one, or is no path.
    if path is not None and isinstance(error, FileNotFoundError):
        return _missing(path)
    if path is not None and (isinstance(error, NotAFile) or (isinstance(error, OSError) and error.errno)):
        return why_unread(error)
    return f"damaged: {type(error).__name__}: {error}"


def _missing(path: Path) -> str:
    """Why a file is not there, as far as what is there instead tells."""
    if os.path.islink(path):
        return "a link to no file"
    if "\\" in str(path):
        return "no such file, its path has backslashes; write / between folders"
    for name in _names_beside(path):
        if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", path.name):
            return "no such file, but one whose accents are stored in another form (Unicode NFC or NFD)"
        if name.casefold() == path.name.casefold():
            return "no such file, but one whose name differs in capital letters"
    return "no such file"


def _names_beside(path: Path) -> list[str]:
    try:
        return sorted(os.listdir(path.parent))
    except OSError:
        return []


def fit(image: Image.Image, wanted: Wanted, orientation: int = 1) -> np.ndarray:
    """uint8 (size, size, channels): 8 bits, without transparency, scaled to fit, upright, and padded with black."""
    from PIL import Image

    size = wanted.image_size
    # As PIL.ImageOps.contain, which makes a very narrow picture 0 pixels wide.
    width, height = (max(1, round(side / max(image.size) * size)) for side in image.size)
    narrow = _narrowed(image, width, wanted) if image.width * image.height > _LARGE_PIXELS else _plain(image, wanted)
    scaled = upright(narrow.resize((width, height), Image.Resampling.LANCZOS), orientation)
    canvas = Image.new(scaled.mode, (size, size))
    canvas.paste(scaled, tuple(round((size - side) / 2) for side in scaled.size))
    return np.asarray(canvas).reshape(size, size, wanted.channels)


def _narrowed(image: Image.Image, width: int, wanted: Wanted) -> Image.Image:
    """An image scaled to `width` alone, strip by strip, so that there is never a whole copy of it: as Pillow scales,
    which does the width first and then the height.
    """
    from PIL import Image

    narrow = Image.new("L" if wanted.channels == 1 else "RGB", (width, image.height))
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = _plain(image.crop((0, top, image.width, min(top + rows, image.height))), wanted)
        narrow.paste(strip.resize((width, strip.height), Image.Resampling.LANCZOS), (0, top))
    return narrow


def _plain(image: Image.Image, wanted: Wanted) -> Image.Image:
    """8 bits, grey or colour, transparency on white."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits a pixel, in whatever byte order; Pillow's own conversion would clip
        low, high = (int(end) for end in (np.min(image), np.max(image)))
        if low < 0 or high > 65535:
            raise Unusable("pixels of 32 bits have no fixed range; convert the image to 8 or 16 bits")
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257 + 0.5).astype(np.uint8))
    elif image.mode == "F":
        raise Unusable("floating-point pixels have no fixed range; convert the image to 8 bits")
    if image.mode == "LAB":  # which Pillow makes no grey of
        image = image.convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if wanted.channels == 1 else "RGB")


def shows_nothing(picture: np.ndarray) -> bool:
    """Whether a picture, uint8, is of one colour, or nearly."""
    return bool(np.ptp(picture) < _FLAT)


def to_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    from PIL import Image

    return picture if channels == 3 else np.asarray(Image.fromarray(picture).convert("L"))[:, :, None]

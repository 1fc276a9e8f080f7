"""One image file as pixels: upright, of one size, grey or colour; or why it cannot be had."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facesim.data.rendering import Progress, RenderSpec
from facesim.errors import InputError

if TYPE_CHECKING:
    from PIL import Image


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
    """What is asked of a source: the images' size and channels, what to render, whom to leave out, whom to tell.

    `image_feature` and `label_feature` name them in TFRecord files; None looks for the usual names.
    """

    image_size: int
    channels: int
    min_images: int | None
    render: RenderSpec
    progress: Progress
    image_feature: str | None = None
    label_feature: str | None = None


def read_image(path: Path, image_size: int, channels: int) -> np.ndarray:
    """One image file as `prepare` would decode it: uint8 (image_size, image_size, channels).

    Raises InputError if it cannot be read.
    """
    path = Path(path)
    image = decode(path, path.parent, Wanted(image_size, channels, None, RenderSpec(), lambda *_: None))
    if isinstance(image, BadFile):
        raise InputError(f"{path} cannot be read as an image: {image.reason}. Name an image file.")
    return image


def decode(path: Path, root: Path, wanted: Wanted) -> np.ndarray | BadFile:
    """uint8 (size, size, channels), upright, or why this file is no usable image."""
    return _decode(path, path, shown_path(path, root), wanted)


def decode_bytes(encoded: bytes, origin: str, wanted: Wanted) -> np.ndarray | BadFile:
    """The same for an image that was read from a file of many; `origin` says where."""
    return _decode(io.BytesIO(encoded), Path(origin), origin, wanted)


def _decode(source: Path | io.BytesIO, path: Path, shown: str, wanted: Wanted) -> np.ndarray | BadFile:
    from PIL import Image, ImageOps

    try:
        with Image.open(source) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than {Image.MAX_IMAGE_PIXELS}")
            # JPEG can be decoded at 1/2, 1/4 or 1/8 size; twice the size asked for is enough to resample from.
            image.draft(None, (2 * wanted.image_size, 2 * wanted.image_size))
            image.load()
            return fit(ImageOps.exif_transpose(image), wanted)
    except Exception as error:  # noqa: BLE001  Pillow's decoders raise whatever they trip over in a damaged file
        return BadFile(shown, _reason(source, path, error))


def shown_path(path: Path, root: Path) -> str:
    """A file as a data set tells of it: its path below the set's folder, or where it lies elsewhere its name."""
    return (path.relative_to(root) if path.is_relative_to(root) else Path(path.name)).as_posix()


def _reason(source: Path | io.BytesIO, path: Path, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    if path.suffix.lower() in (".heic", ".heif"):
        return "HEIC is not supported; convert it to JPEG"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        size = path.stat().st_size if isinstance(source, Path) else len(source.getvalue())
        return "empty file" if size == 0 else "not an image that Pillow can read"
    return f"{type(error).__name__}: {error}"


def fit(image: Image.Image, wanted: Wanted) -> np.ndarray:
    """uint8 (size, size, channels): 8 bits, without transparency, scaled to fit and padded with black."""
    from PIL import Image, ImageOps

    if image.mode.startswith("I"):  # 16 bits a pixel, in whatever byte order; Pillow's own conversion would clip
        image = Image.fromarray((np.asarray(image).astype(np.float64).clip(0, 65535) / 257 + 0.5).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; convert the image to 8 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    image = image.convert("L" if wanted.channels == 1 else "RGB")
    size = (wanted.image_size, wanted.image_size)
    return np.asarray(ImageOps.pad(image, size, method=Image.Resampling.LANCZOS)).reshape(*size, wanted.channels)


def to_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    from PIL import Image

    return picture if channels == 3 else np.asarray(Image.fromarray(picture).convert("L"))[:, :, None]

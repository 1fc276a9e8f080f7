"""Image files that stay as they are and are decoded whenever they are read: what `--cache none` trains from.

`prepare` looks at every file once, and writes beside the labels

    files      the paths, each ended by a 0 byte
    turns.u8   uint8 (n, 4), for each file 1 or 0: is transparent, is to be transposed, mirrored, turned upside down

which is all that TensorFlow's own operations need to decode a file as `facesim.data.decode` does (`data.pipeline`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from facesim.data.decode import Wanted, read_image
from facesim.data.rendering import RenderSpec
from facesim.errors import InputError

FILES, TURNS = "files", "turns.u8"

#: Formats, as Pillow names them, that TensorFlow decodes; MPO is a camera's JPEG.
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP")
#: (transposed, mirrored, turned upside down), in this order, for EXIF's orientations 1 to 8.
_TURNS = ((0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1))
_EXIF_ORIENTATION = 0x0112


def turns_of(path: Path) -> tuple[int, int, int, int]:
    """A row of `turns.u8`, of a file that `decode` can read.

    Raises:
        InputError: TensorFlow could not decode it as it is.
    """
    from PIL import Image

    with Image.open(path) as image:
        kind = f"a palette {image.format}" if image.format == "BMP" and image.mode not in ("L", "RGB") else image.format
        transparent = image.has_transparency_data
        if kind not in _FORMATS or (transparent and kind != "PNG"):
            raise InputError(
                f"{path} is {'a transparent ' if transparent else ''}{kind}, which cannot be decoded while training: "
                f"use --cache disk or --cache memory, or convert it to JPEG or PNG."
            )
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    return int(transparent), *_TURNS[orientation - 1 if 1 <= orientation <= 8 else 0]


def write_index(directory: Path, paths: list[Path], turns: list[tuple[int, int, int, int]]) -> None:
    (directory / FILES).write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    (directory / TURNS).write_bytes(np.array(turns, np.uint8).tobytes())


class StoredImages:
    """What the files hold, as an array: uint8 (n, height, width, channels). A part of it is decoded when it is asked
    for, so asking for all of it takes the memory for all.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, directory: Path, image_shape: tuple[int, int, int]):
        content = (directory / FILES).read_bytes()
        self._paths = [Path(os.fsdecode(path)) for path in content.split(b"\0")[:-1]]
        self._wanted = Wanted(image_shape[0], image_shape[2], None, RenderSpec(), lambda *_: None)
        self.shape = (len(self._paths), *image_shape)

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self._decode, range(len(self)))

    def __getitem__(self, which: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(which, (int, np.integer)):
            return self._decode(int(which))
        with ThreadPoolExecutor() as pool:
            chosen = np.arange(len(self))[which]
            return np.array(list(pool.map(self._decode, chosen)), np.uint8).reshape(-1, *self.shape[1:])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.uint8, copy=False)

    def _decode(self, index: int) -> np.ndarray:
        return read_image(self._paths[index], self._wanted.image_size, self._wanted.channels)

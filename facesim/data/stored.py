"""Image files that stay as they are and are decoded whenever they are read: what `--cache none` trains from.

`prepare` looks at every file once, and writes beside the labels

    files      the paths, each ended by a 0 byte
    turns.u8   uint8 (n, 4), for each file 1 or 0: is transparent, is to be transposed, mirrored, turned upside down
    <n>.png    of files that TensorFlow cannot decode, or only in much memory: a copy of the size asked for

which is all that TensorFlow's own operations (`facesim.training.tensorflow.pipeline`) need to decode a file as
`facesim.data.decode` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from facesim.data.decode import Wanted, read_image
from facesim.data.opening import has_more, opened, orientation_of
from facesim.data.rendering import RenderSpec

FILES, TURNS = "files", "turns.u8"

#: What TensorFlow decodes as Pillow does: Pillow's names of formats and the modes in which it opens them. MPO is a
#: camera's JPEG. Not BMP, of which TensorFlow refuses some and mistakes others' colours, nor GIF, whose picture it does
#: not place where that is smaller than the file says.
_AS_IT_IS = {
    "JPEG": ("L", "RGB"),
    "MPO": ("L", "RGB"),
    "PNG": ("L", "LA", "P", "RGB", "RGBA"),
    "WEBP": ("RGB",),
}
#: TensorFlow decodes a file at its full size, some at the same time: larger ones would take too much memory.
_MAX_PIXELS = 1 << 25

#: (transposed, mirrored, turned upside down), in this order, for EXIF's orientations 1 to 8.
_TURNS = ((0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1))


def turns_of(path: Path) -> tuple[int, int, int, int] | None:
    """A row of `turns.u8`, of a file that `decode` can read; None where TensorFlow cannot decode it as it is."""
    with opened(path) as image:
        transparent = image.has_transparency_data
        if (
            image.mode not in _AS_IT_IS.get(image.format, ())
            or (transparent and image.format != "PNG")
            or has_more(image)  # TensorFlow refuses some films
            or image.width * image.height > _MAX_PIXELS
        ):
            return None
        return int(transparent), *_TURNS[orientation_of(image) - 1]


def store(directory: Path, number: int, file: Path, picture: np.ndarray) -> tuple[Path, tuple[int, int, int, int]]:
    """Where image `number` will be decoded from, and its row of `turns.u8`: `file` itself if TensorFlow can decode it,
    otherwise a PNG, made here, of the decoded `picture`, uint8 (height, width, channels); relative to `directory`.
    """
    from PIL import Image

    with suppress(Exception):  # changed since it was decoded, or damaged where only this look at it sees it
        if turns := turns_of(file):
            return file, turns
    copy = Path(f"{number}.png")
    Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0]).save(directory / copy)
    return copy, (0, *_TURNS[0])


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
        self._paths = [directory / os.fsdecode(path) for path in content.split(b"\0")[:-1]]
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

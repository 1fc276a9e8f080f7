"""Rendered faces: people who do not exist, so that facesim works without a download and without anyone's biometrics.

A head is an ellipsoid seen from the front (2.5-D). For every pixel the renderer undoes shift, roll and scale of the
photograph, takes the ellipsoid's point under the pixel, turns it by yaw and pitch into the face's own coordinates
and paints the features there: +x to the image's right, +y up, +z out of the face, the head's surface being the unit
sphere. Lambert shading with a bump map follows, then background, blur, noise and exposure. All of it is NumPy on
batches of images, one array operation for all pixels of all images in a batch.

Two kinds of numbers make an image (`draws`). Traits belong to an identity; circumstances belong to one photograph and
grow with `difficulty`. Both are drawn from streams of their own, keyed by (seed, identity) and (seed, identity, image):
the same seed gives the same people at any difficulty, size and number of images. On another processor or NumPy a pixel
may round differently by one; where bytes must be equal everywhere, copy the images. `painting` makes the images.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from facesim.data.rendering.camera import taken
from facesim.data.rendering.draws import draw_circumstances, draw_traits
from facesim.data.rendering.painting import photograph
from facesim.util.disk import is_full, no_room
from facesim.util.errors import DiskFull, InputError

RENDERER_VERSION = 1
"""Raised whenever the same `RenderSpec` no longer gives the same pixels, so that prepared copies are made afresh."""

Progress = Callable[[str, int, int], None]
"""Called with the phase, how many images are done and how many are due."""

_BATCH_PIXELS = 8 * 64 * 64  # keeps a batch's dozens of float32 planes inside a core's cache


@dataclass(frozen=True)
class RenderSpec:
    """What to render: how many people, how many images of each, and how hard they are to tell apart.

    size: height and width in pixels. difficulty: 0 passport photographs .. 1 anything goes; near 0.65 recognition is
    about as hard as on photographs from the web. spread: how much people differ from each other, 1 as usual. wild: at 1
    pose, light, expression, place in the image and what is in front of the face go half as far again, and the camera is
    poor (`camera`); at 0 neither.
    Raises InputError for a value outside its range.
    """

    identities: int = 29
    images: int = 15
    size: int = 64
    difficulty: float = 0.65
    spread: float = 1.0
    seed: int = 0
    wild: float = 0.0

    def __post_init__(self) -> None:
        ranges = {
            "identities": (2, 100_000),
            "images": (2, 10_000),
            "size": (16, 1024),
            "difficulty": (0, 1),
            "wild": (0, 1),
            "spread": (0.1, 2),
            "seed": (0, 2**32 - 1),
        }
        for field, (lowest, highest) in ranges.items():
            value = getattr(self, field)
            if not lowest <= value <= highest:
                raise InputError(f"rendered faces: {field} is {value}; it must lie in {lowest}..{highest}.")
            if field not in ("difficulty", "spread", "wild") and not isinstance(value, int):
                raise InputError(f"rendered faces: {field} is {value}; it must be a whole number.")

    @property
    def count(self) -> int:
        """How many images in all."""
        return self.identities * self.images

    @property
    def names(self) -> tuple[str, ...]:
        """person-001, person-002, ... in label order."""
        return tuple(f"person-{i + 1:03d}" for i in range(self.identities))

    @property
    def labels(self) -> np.ndarray:
        """(count,) int32, ascending: all images of the first identity, then of the second, ..."""
        return np.repeat(np.arange(self.identities, dtype=np.int32), self.images)


def render(spec: RenderSpec, progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Render all images of `spec`.

    Returns images uint8 (count, size, size, 3), labels int32 (count,) and names, one an identity, in label order.
    """
    return np.concatenate(list(render_batches(spec, progress))), spec.labels, spec.names


def render_folder(spec: RenderSpec, out: Path, progress: Progress | None = None) -> None:
    """Write all images of `spec` as `out/person-001/0001.png`, ..., the layout that most tools read.

    Raises InputError if `out` exists and is not an empty folder, or cannot be written; DiskFull without room for them:
    then nothing is left of them.
    """
    from PIL import Image

    out = Path(out)
    if os.path.exists(out) and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} already exists and is not an empty folder. Name a new folder.")
    pictures = (picture for batch in render_batches(spec, progress) for picture in batch)
    try:
        for name in spec.names:
            folder = out / name
            folder.mkdir(parents=True)
            for k in range(spec.images):
                Image.fromarray(next(pictures)).save(folder / f"{k + 1:04d}.png")
    except OSError as error:
        for name in spec.names:
            shutil.rmtree(out / name, ignore_errors=True)
        if is_full(error):
            raise DiskFull(no_room(out, "make room there, name a folder on another disk, or render less")) from None
        raise InputError(f"{out} cannot be written: {error.strerror or error}. Name another folder.") from None


def render_batches(spec: RenderSpec, progress: Progress | None = None) -> Iterator[np.ndarray]:
    """The images of `spec` in label order, a batch at a time: uint8 (batch, size, size, 3)."""
    batch = max(1, _BATCH_PIXELS // spec.size**2)
    for start in range(0, spec.count, batch):
        images = _render_batch(spec, range(start, min(start + batch, spec.count)))
        if progress:
            progress("rendering", start + len(images), spec.count)
        yield images


def _render_batch(spec: RenderSpec, indices: range) -> np.ndarray:
    places = [divmod(i, spec.images) for i in indices]  # identity, image
    streams = [np.random.default_rng([spec.seed, 1, identity, image]) for identity, image in places]
    person = _columns([draw_traits(spec.seed, identity, spec.spread) for identity, _ in places])
    shot = _columns([draw_circumstances(spec.difficulty * (1 + spec.wild / 2), stream) for stream in streams])
    linear = photograph(person, shot, spec.size, spec.difficulty)
    # Noise is drawn last: it alone depends on the size, so an image shows the same scene at every size.
    noise = np.stack([stream.standard_normal(linear.shape[1:], dtype=np.float32) for stream in streams])
    linear += noise * shot.noise[:, None]
    np.clip(linear, 0, 1, out=linear)
    images = np.ascontiguousarray((linear * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1))
    if not spec.wild:
        return images
    cameras = (np.random.default_rng([spec.seed, 2, identity, image]) for identity, image in places)
    return np.stack([taken(image, spec.wild, stream) for image, stream in zip(images, cameras, strict=True)])


def _columns(rows: list[dict[str, float]]) -> SimpleNamespace:
    """One (batch, 1, 1) float32 array a name, ready to broadcast against (batch, size, size) planes."""
    return SimpleNamespace(
        **{name: np.array([row[name] for row in rows], np.float32).reshape(-1, 1, 1) for name in rows[0]}
    )

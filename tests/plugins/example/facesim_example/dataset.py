"""A data set: images of stripes. Who an image shows is the direction of its stripes."""

import numpy as np

from facesim.data import Content, Source, from_arrays
from facesim.data.decode import Wanted

_DIRECTIONS, _IMAGES = 6, 12


def stripes(wanted: Wanted) -> Source:
    """The content follows from the numbers alone; another version of it is another fingerprint."""

    def image(number: int) -> np.ndarray:
        random = np.random.default_rng(number)
        angle = np.pi * (number // _IMAGES) / _DIRECTIONS
        y, x = np.mgrid[: wanted.image_size, : wanted.image_size] / wanted.image_size
        wave = np.sin(20 * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 6))
        noise = random.normal(0, 20, (*x.shape, 3))
        return np.clip(128 + 80 * wave[..., None] + noise, 0, 255).astype(np.uint8)

    def content() -> Content:
        labels = np.repeat(np.arange(_DIRECTIONS), _IMAGES)
        return from_arrays(image, labels, [f"direction-{n}" for n in range(_DIRECTIONS)], wanted)

    return Source("stripes", [1, _DIRECTIONS, _IMAGES], content)

"""Images by their content: to the last pixel, as they are trained on and tested."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from facesim.data.prepared import PreparedData
from facesim.spec.data import images_sha256

_CHUNK = 4096


def image_digests(data: PreparedData, indices: np.ndarray) -> Iterator[bytes]:
    """The SHA-256 of each of the images at `indices`, integers (n,)."""
    images = data.images
    for at in range(0, len(indices), _CHUNK):
        yield from digests_of(images[indices[at : at + _CHUNK]])


def digests_of(images: Iterable[np.ndarray]) -> Iterator[bytes]:
    """The SHA-256 of each of some images."""
    for image in images:
        yield hashlib.sha256(image.tobytes()).digest()


def identity_of(data: PreparedData, indices: np.ndarray) -> str:
    """`facesim.spec.data.images_sha256` of the images at `indices`, integers (n,)."""
    return images_sha256(zip(data.labels[indices].tolist(), image_digests(data, indices), strict=True))

"""Images that look the same: the same photograph twice, perhaps scaled, lightened or compressed anew.

Found by perceptual hash: the signs of an image's lowest frequencies (discrete cosine transform) about their median, as
in Zauner (2010), "Implementation and benchmarking of perceptual image hash functions"; 16 x 16 frequencies in place of
8 x 8, because faces that are all cut alike differ in finer things than whole photographs do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

#: Frequencies in each direction, the mean brightness left out.
_FREQUENCIES = 16

#: Pairs whose hashes differ in at most this share of their bits are suspected. Of photographs of 40 people (ORL) and of
#: rendered faces, 99 % of copies at half the size, 25 % lighter, or as JPEG of quality 30 are that close; no images of
#: two people are, and 0.5 % of the pairs of one person.
NEAR = 0.09

_CHUNK = 2048


class Pair(NamedTuple):
    """Two images, indices in ascending order, the share of hash bits that differ, whether all pixels are the same."""

    first: int
    second: int
    distance: float
    identical: bool


def near_pairs(
    images: np.ndarray, near: float = NEAR, progress: Callable[[int, int], None] = lambda *_: None
) -> Iterator[Pair]:
    """Every pair of images, uint8 (n, height, width, channels), whose hashes differ in at most the share `near`.

    All pairs are looked at, as matrix products: 10,000 images take seconds, and the time grows with the
    square of their number. `progress` is told images done and due.
    """
    hashes, digests = _hashes(images), [hashlib.blake2b(image, digest_size=16).digest() for image in images]
    count, bits = hashes.shape
    for start in range(0, count, _CHUNK):
        for other in range(start, count, _CHUNK):
            # The product counts the bits that agree less those that differ.
            distance = (bits - hashes[start : start + _CHUNK] @ hashes[other : other + _CHUNK].T) / (2 * bits)
            for row, column in np.argwhere(np.triu(distance <= near, k=1) if other == start else distance <= near):
                first, second = start + int(row), other + int(column)
                yield Pair(first, second, float(distance[row, column]), digests[first] == digests[second])
        progress(min(start + _CHUNK, count), count)


def _hashes(images: np.ndarray) -> np.ndarray:
    """A row of bits an image, -1 or 1, float32 (n, bits)."""
    from scipy.fft import dct

    size = images.shape[1]
    waves = dct(np.eye(size, dtype=np.float32), axis=0, norm="ortho")[1 : _FREQUENCIES + 1]
    hashes = np.empty((len(images), len(waves) ** 2), np.float32)
    weights = np.full(images.shape[-1], 1 / images.shape[-1], np.float32)
    for start in range(0, len(images), _CHUNK):
        grey = images[start : start + _CHUNK] @ weights
        found = (waves @ grey @ waves.T).reshape(len(grey), -1)
        hashes[start : start + _CHUNK] = np.where(found > np.median(found, axis=1, keepdims=True), 1, -1)
    return hashes

"""Local binary patterns in a network: which neighbours of a pixel are brighter, whatever the light.

Of each pixel eight bits, whether its neighbours are at least as bright (Ojala et al., 2002), and of each part of the
image how often each pattern is there (Ahonen et al., 2006). Nothing of that is learned, so few photographs are enough.
"""

import keras
import numpy as np
from keras import ops

from facesim.models.heads import embedding

#: Distances of the neighbours in pixels, and into how many rows and columns of parts the image is divided.
RADII, PARTS = (1, 2, 4), 6

_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_LUMA = (0.299, 0.587, 0.114)  # BT.601


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """A 128-d embedding of the patterns in images (batch, height, width, channels), pixels 0..255."""
    return embedding(patterns(images), 128)


def patterns(images: keras.KerasTensor) -> keras.KerasTensor:
    """Square roots of the patterns' shares in each part (batch, radii * parts^2 * 59): between them the scalar product
    is Hellinger's kernel. Keras' own operations, so that whatever loads a network of Keras loads this.

    59: patterns with at most two changes around the circle, and all others.
    """
    grey = ops.cast(images, "float32")
    grey = ops.sum(grey * np.array(_LUMA, np.float32), axis=-1) if images.shape[-1] == 3 else grey[..., 0]
    shares = ops.matmul(ops.concatenate([_shares(grey, radius) for radius in RADII], axis=1), _kinds())
    return ops.reshape(ops.sqrt(shares), (-1, shares.shape[1] * shares.shape[2]))


def _shares(grey: keras.KerasTensor, radius: int) -> keras.KerasTensor:
    """Of each of the 256 patterns, in each part: (batch, parts^2, 256)."""
    height, width = ((side - 2 * radius) // PARTS for side in grey.shape[1:])
    top, left = ((side - PARTS * part) // 2 for side, part in zip(grey.shape[1:], (height, width)))

    def moved(down: int, right: int) -> keras.KerasTensor:
        rows, columns = top + radius * down, left + radius * right
        return grey[:, rows : rows + PARTS * height, columns : columns + PARTS * width]

    around = ops.stack([moved(*place) for place in _AROUND], axis=-1)
    bits = ops.cast(ops.greater_equal(around, ops.expand_dims(moved(0, 0), -1)), "int32")
    # A pattern is a pair of halves: counted so, as 16 numbers by 16, it takes little memory.
    bits = ops.reshape(bits, (-1, PARTS, height, PARTS, width, 2, 4))
    halves = ops.sum(bits * np.array([1, 2, 4, 8], np.int32), axis=-1)
    halves = ops.reshape(ops.transpose(halves, (0, 1, 3, 5, 2, 4)), (-1, PARTS**2, 2, height * width))
    ones = ops.one_hot(halves, 16, dtype="float32")
    counts = ops.matmul(ops.transpose(ones[:, :, 1], (0, 1, 3, 2)), ones[:, :, 0])
    return ops.reshape(counts / (height * width), (-1, PARTS**2, 256))


def _kinds() -> np.ndarray:
    """(256, 59): 1 where a pattern is of a kind."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    even = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    kinds = np.where(even, np.cumsum(even) - 1, even.sum())
    return np.eye(even.sum() + 1, dtype=np.float32)[kinds]

"""Local binary patterns in a network: what neighbouring pixels have of light more or less, which light leaves alone.

Of each pixel eight bits, whether its neighbours are at least as bright (Ojala et al., 2002), and of each part of the
image how often each pattern is there (Ahonen et al., 2006). Nothing of it is learned, so few photographs are enough.
"""

import keras
import numpy as np
from keras import layers, ops

from facesim.models.heads import embedding

#: Distances of the neighbours in pixels, and into how many rows and columns of parts the image is divided.
RADII, PARTS = (1, 2, 4), 6

_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
_LUMA = (0.299, 0.587, 0.114)  # BT.601


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """A 128-d embedding of the patterns in images (batch, height, width, channels), pixels 0..255."""
    return embedding(LocalPatterns(dtype="float32")(images), 128)


@keras.saving.register_keras_serializable("facesim")
class LocalPatterns(layers.Layer):
    """From images (batch, height, width, channels) to square roots of shares (batch, radii * parts^2 * 59): between
    them the scalar product is Hellinger's kernel.

    59: patterns with at most two changes around the circle, and all others.
    """

    def call(self, images):
        images = ops.cast(images, self.compute_dtype)
        grey = ops.sum(images * _LUMA, axis=-1) if images.shape[-1] == 3 else images[..., 0]
        return ops.concatenate([self._shares(grey, radius) for radius in RADII], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], len(RADII) * PARTS**2 * _UNIFORM.shape[1])

    def _shares(self, grey, radius):
        height, width = ((side - 2 * radius) // PARTS * PARTS for side in grey.shape[1:])
        top, left = ((side - even) // 2 for side, even in zip(grey.shape[1:], (height, width)))

        def moved(down, right):
            return grey[:, top + down : top + down + height, left + right : left + right + width]

        centre = moved(0, 0)
        bits = [ops.cast(moved(radius * y, radius * x) >= centre, self.compute_dtype) for y, x in _AROUND]
        # A pattern is a pair of halves: counted so, as products of 16 numbers by 16, it takes little memory.
        halves = [self._parted(sum(2**place * bit for place, bit in enumerate(half))) for half in (bits[:4], bits[4:])]
        first, second = (ops.one_hot(ops.cast(half, "int32"), 16, dtype=self.compute_dtype) for half in halves)
        counts = ops.reshape(ops.matmul(ops.swapaxes(second, -1, -2), first), (-1, PARTS**2, 256))
        shares = ops.matmul(counts, ops.convert_to_tensor(_UNIFORM)) * (PARTS**2 / (height * width))
        return ops.reshape(ops.sqrt(shares), (-1, PARTS**2 * _UNIFORM.shape[1]))

    @staticmethod
    def _parted(plane):
        """(batch, height, width) as (batch, parts^2, pixels of a part)."""
        height, width = plane.shape[1] // PARTS, plane.shape[2] // PARTS
        parts = ops.reshape(plane, (-1, PARTS, height, PARTS, width))
        return ops.reshape(ops.transpose(parts, (0, 1, 3, 2, 4)), (-1, PARTS**2, height * width))


def _uniform() -> np.ndarray:
    """(256, 59): 1 where a pattern is of a kind."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    even = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    kinds = np.where(even, np.cumsum(even) - 1, even.sum())
    return np.eye(even.sum() + 1, dtype=np.float32)[kinds]


_UNIFORM = _uniform()

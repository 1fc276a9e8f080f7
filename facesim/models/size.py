"""How large a network is: what an image costs to look at, and what an update holds in memory."""

from __future__ import annotations

import math
from typing import NamedTuple

import keras

from facesim import models
from facesim.models.sampling import sample_size

_FLOAT = 4

#: Of each parameter in training: itself and Adam's two moments; its gradient comes beside them.
_HELD = 3

#: Examples that are evaluated at a time.
_EVALUATED = 256


class Size(NamedTuple):
    """`flops`: an image's forward pass. `head_bytes`: what the head holds in training, a batch's logits included."""

    parameters: int
    flops: int
    head_bytes: int


def size(
    name: str, head: str, image_shape: tuple[int, int, int], identities: int, batch: int, sample_rate: float = 1.0
) -> Size:
    """The size of network `name` with `head`, for images of (height, width, channels).

    The head is reckoned, not built, so that any number of identities can be asked for. A sampled one computes the share
    `sample_rate` of them in an update; evaluating, it computes all.
    """
    network = models.build(name, image_shape, 1, head=head)
    dimensions = network.layers[-1].input.shape[-1]
    kind = models.HEADS[head]
    weights = dimensions if kind.cosine else dimensions + 1
    computed = sample_size(identities, sample_rate, batch) if kind.sampled else identities
    logits = max(3 * batch * computed, _EVALUATED * identities if kind.sampled else 0)
    return Size(
        parameters=models.embedder(network).count_params() + identities * weights,
        flops=sum(_flops(layer) for layer in network.layers[:-1]) + 2 * dimensions * identities,
        # The logits, their softmax and their gradient beside the parameters.
        head_bytes=_FLOAT * (_HELD * identities * weights + computed * weights + logits),
    )


def _flops(layer: keras.Layer) -> int:
    """Two for each multiply-add of a convolution or dense layer: each kernel weight is used once a place of the output.

    What has no kernel (normalisation, activation, pooling) is left out, as is usual.
    """
    kernel = getattr(layer, "kernel", None)
    return 0 if kernel is None else 2 * math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1])

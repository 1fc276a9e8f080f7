"""Images stay as they are, channels last, where Keras would copy them into channels first and back.

PyTorch computes convolutions and pooling of images that lie channels last in memory, and are only numbered channels
first, which takes no copy. Keras copies them before each such layer, and before convolutions back, in the forward and
in the backward pass: nearly half of the CPU time of a step of the paper's network.
"""

from __future__ import annotations

import torch
from keras.src.backend.torch import nn


def numbered_channels_first(images: torch.Tensor) -> torch.Tensor:
    """A view (n, channels, ...) of (n, ..., channels)."""
    return images.movedim(-1, 1)


def keep_channels_last() -> None:
    """From now on Keras' layers leave images of this process where they are."""
    if hasattr(nn, "_transpose_spatial_inputs"):  # versions of Keras without it make no copy
        nn._transpose_spatial_inputs = numbered_channels_first

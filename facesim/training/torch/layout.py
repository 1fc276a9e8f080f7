"""Keras' layers for images as PyTorch computes them with the fewest passes over memory.

PyTorch computes convolutions and pooling of images that lie channels last in memory, and are only numbered channels
first, which takes no copy. Keras copies them before each such layer, and before convolutions back, in the forward and
in the backward pass: nearly half of the CPU time of a step of the paper's network. It also adds a convolution's bias in
a pass of its own.
"""

from __future__ import annotations

import torch
from keras import activations, layers, ops
from keras.src.backend.torch import nn
from torch.nn import functional

_call, _convolution_op = layers.Conv2D.call, layers.Conv2D.convolution_op


def numbered_channels_first(images: torch.Tensor) -> torch.Tensor:
    """A view (n, channels, ...) of (n, ..., channels)."""
    return images.movedim(-1, 1)


def convolved(layer: layers.Conv2D, inputs: torch.Tensor) -> torch.Tensor:
    """What a layer makes of images (n, height, width, channels), as Keras has it, but that the convolution adds its
    bias and ReLU overwrites what that returns.
    """
    plain = layer.padding == "valid" and layer.data_format == "channels_last" and layer.use_bias
    if not plain or type(layer).convolution_op is not _convolution_op:
        return _call(layer, inputs)
    kernel, bias = ops.convert_to_tensor(layer.kernel), ops.convert_to_tensor(layer.bias)
    outputs = functional.conv2d(
        numbered_channels_first(inputs),
        kernel.permute(3, 2, 0, 1),
        bias,
        layer.strides,
        dilation=layer.dilation_rate,
        groups=layer.groups,
    )
    if layer.activation is activations.relu:
        return outputs.relu_().movedim(1, -1)
    return layer.activation(outputs.movedim(1, -1))


def save_passes() -> None:
    """From now on Keras' layers of this process leave images where they are, and convolve as `convolved`."""
    layers.Conv2D.call = convolved
    if hasattr(nn, "_transpose_spatial_inputs"):  # versions of Keras without it make no copy
        nn._transpose_spatial_inputs = numbered_channels_first

"""A small residual network (after He et al., 2016) for a few photographs a person and a CPU: 0.7 M parameters."""

import keras
from keras import layers

from facesim.models.heads import embedding


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """Stem and three stages, each halving the resolution; each place of the last map has its weight in the pooling.

    A face's parts have their places, so pooling that knows places (MobileFaceNet's global depthwise convolution) keeps
    what averaging would lose.
    """
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = _activated(_convolved(x, 32, stride=2))
    for filters in (48, 96, 192):
        shortcut = _convolved(x, filters, stride=2, kernel=1)
        x = _activated(_convolved(x, filters, stride=2))
        x = layers.Add()([_convolved(x, filters), shortcut])
        x = _activated(x)
    x = layers.DepthwiseConv2D(x.shape[1:3], use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.Flatten()(x)
    return embedding(x, 128)


def _convolved(x: keras.KerasTensor, filters: int, stride: int = 1, kernel: int = 3) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9)(x)


def _activated(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.PReLU(shared_axes=[1, 2])(x)

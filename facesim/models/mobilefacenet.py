"""MobileFaceNet (Chen, Liu, Gao and Han, 2018, table 1): 1 M parameters, made for faces at 112 pixels; 64 work as well.

In place of the paper's 7x7 global depthwise convolution, one of the last map's size.
"""

import keras
from keras import layers

#: Expansion, filters, repetitions and the first repetition's stride of each run of inverted bottlenecks.
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """A 128-d embedding of images (batch, height, width, channels), pixels 0..255."""
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = _activated(layers.Conv2D(64, 3, strides=2, padding="same", use_bias=False)(x))
    x = _activated(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x))
    for expansion, filters, repetitions, first_stride in _BOTTLENECKS:
        for repetition in range(repetitions):
            x = _bottleneck(x, expansion, filters, first_stride if repetition == 0 else 1)
    x = _activated(layers.Conv2D(512, 1, use_bias=False)(x))
    x = _normalised(layers.DepthwiseConv2D(x.shape[1:3], use_bias=False)(x))
    x = _normalised(layers.Conv2D(128, 1, use_bias=False)(x))
    return layers.Flatten()(x)


def _bottleneck(x: keras.KerasTensor, expansion: int, filters: int, stride: int) -> keras.KerasTensor:
    """Inverted residual (Sandler et al., 2018): widen, convolve each channel, narrow; added where shapes allow."""
    wide = _activated(layers.Conv2D(expansion * x.shape[-1], 1, use_bias=False)(x))
    wide = _activated(layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(wide))
    narrow = _normalised(layers.Conv2D(filters, 1, use_bias=False)(wide))
    return layers.Add()([x, narrow]) if stride == 1 and x.shape[-1] == filters else narrow


def _activated(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.PReLU(shared_axes=[1, 2])(_normalised(x))


def _normalised(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.BatchNormalization(momentum=0.9)(x)

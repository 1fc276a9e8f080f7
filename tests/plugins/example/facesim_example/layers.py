"""What the network and the head are made of."""

import keras
from keras import layers, ops


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    x = layers.Rescaling(1 / 255)(images)
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
    return layers.GlobalAveragePooling2D()(x)


def soft_margin(cosine: keras.KerasTensor, margin: float) -> keras.KerasTensor:
    """CosFace's margin, less of it the further the example is from its centre."""
    return cosine - margin * ops.sigmoid(8 * cosine)

"""A small network with nothing random and no batch statistics, for checks.

From the same parameters the same examples give the same gradient, however they are divided among replicas: so whatever
synchronous strategy trains it ends where a single process ends, to the rounding of sums.
"""

import keras
from keras import layers


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """Three convolutions with strides."""
    x = layers.Rescaling(1 / 255)(images)
    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 3, strides=2, activation="relu")(x)
    return layers.Flatten()(x)

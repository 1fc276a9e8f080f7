"""A small network with nothing random and no batch statistics, for checks.

From the same parameters the same examples give the same gradient, however they are divided among replicas: so whatever
synchronous strategy trains it ends where a single process ends, to the rounding of sums.
"""

import keras
from keras import layers


def build(image_shape: tuple[int, int, int], identities: int) -> keras.Model:
    """Three convolutions with strides, then a dense layer."""
    network = keras.Sequential([keras.Input(image_shape, dtype="uint8"), layers.Rescaling(1 / 255)], name="plain_cnn")
    for filters in (16, 32, 64):
        network.add(layers.Conv2D(filters, 3, strides=2, activation="relu"))
    network.add(layers.Flatten())
    network.add(layers.Dense(identities, dtype="float32"))
    return network

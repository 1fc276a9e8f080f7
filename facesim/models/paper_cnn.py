"""The network of the paper that started facesim, as published: 4,842,589 parameters for 29 identities at 64x64x3."""

import keras
from keras import layers


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """Three convolutions with pooling and dropout, then a dense layer that holds 97 % of the parameters."""
    x = layers.Rescaling(1 / 255)(images)
    for filters in (32, 64, 128):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D()(x)
        x = layers.Dropout(0.25)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(1024, activation="relu")(x)
    return layers.Dropout(0.5)(x)

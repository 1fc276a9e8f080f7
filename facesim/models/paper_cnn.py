"""The network of the paper that started facesim, as published: 4,842,589 parameters for 29 identities at 64x64x3."""

import keras
from keras import layers


def build(image_shape: tuple[int, int, int], identities: int) -> keras.Model:
    """Three convolutions with pooling and dropout, then a dense layer that holds 97 % of the parameters."""
    return keras.Sequential(
        [
            keras.Input(image_shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Conv2D(128, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(1024, activation="relu"),
            layers.Dropout(0.5),
            # Logits: the published softmax is part of the loss, which is the stable way to compute the same thing.
            layers.Dense(identities, dtype="float32"),
        ],
        name="paper_cnn",
    )

"""A small network: four convolutional blocks with batch normalisation, then global average pooling."""

import keras
from keras import layers


def build(image_shape: tuple[int, int, int], identities: int) -> keras.Model:
    """Each block halves the resolution; no dense layer but the classifier, so there is little to send over a wire."""
    network = keras.Sequential(
        [keras.Input(image_shape, dtype="uint8"), layers.Rescaling(1 / 127.5, offset=-1)], name="compact_cnn"
    )
    for filters in (32, 64, 128, 160):
        network.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        network.add(layers.BatchNormalization(momentum=0.9))
        network.add(layers.ReLU())
        network.add(layers.MaxPooling2D())
    network.add(layers.GlobalAveragePooling2D())
    network.add(layers.Dropout(0.3))
    network.add(layers.Dense(identities, dtype="float32"))
    return network

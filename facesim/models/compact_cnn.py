"""A small network: four convolutional blocks with batch normalisation, then global average pooling."""

import keras
from keras import layers


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """Each block halves the resolution; no dense layer but the classifier, so there is little to send over a wire."""
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    for filters in (32, 64, 128, 160):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dropout(0.3)(x)

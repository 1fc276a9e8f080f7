"""ResNet-50 (He et al., 2016) from Keras applications, untrained, with a 512-d embedding."""

import keras
from keras import layers

from facesim.models.heads import embedding


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """A 512-d embedding of images (batch, height, width, channels), pixels 0..255."""
    pixels = layers.Rescaling(1 / 127.5, offset=-1)(images)
    network = keras.applications.ResNet50(include_top=False, weights=None, input_tensor=pixels, pooling="avg")
    return embedding(network.output, 512)

"""EfficientNet-B0 (Tan and Le, 2019) from Keras applications, untrained, with a 512-d embedding."""

import keras

from facesim.models.heads import embedding


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """A 512-d embedding of images (batch, height, width, channels), pixels 0..255; the network scales them itself."""
    network = keras.applications.EfficientNetB0(include_top=False, weights=None, input_tensor=images, pooling="avg")
    return embedding(network.output, 512)

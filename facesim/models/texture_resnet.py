"""`texture` and `resnet-small` side by side: what both find is the embedding, each half of it normalised."""

import keras
from keras import layers

from facesim.models import resnet_small, texture


def features(images: keras.KerasTensor) -> keras.KerasTensor:
    """A 256-d embedding of images (batch, height, width, channels), pixels 0..255."""
    return layers.Concatenate()([texture.features(images), resnet_small.features(images)])

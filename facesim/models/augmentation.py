"""Random changes to a training image that leave its identity alone."""

import keras
from keras import layers, ops

#: The share of training images that are altered. A network that is trained on altered images alone meets the images as
#: they are for the first time in testing, and its statistics of them are off (Touvron et al., 2019).
SHARE = 0.7


@keras.saving.register_keras_serializable("facesim")
class Augmentation(layers.Layer):
    """Mirror, rotate, shift, zoom, light, contrast and a hidden patch, each drawn anew for every image; pixels 0..255.

    Off unless `training`: Keras' own random layers are on when they are not told.
    """

    def __init__(self, **options):
        super().__init__(**options)
        dtype = self.dtype_policy  # theirs would be that of all other layers, in which there are too few coordinates
        self.changes = [
            layers.RandomFlip("horizontal", dtype=dtype),
            layers.RandomRotation(0.03, fill_mode="nearest", dtype=dtype),
            layers.RandomTranslation(0.08, 0.08, fill_mode="nearest", dtype=dtype),
            layers.RandomZoom((-0.12, 0.12), fill_mode="nearest", dtype=dtype),
            layers.RandomBrightness(0.2, value_range=(0, 255), dtype=dtype),
            layers.RandomContrast(0.3, value_range=(0, 255), dtype=dtype),
            layers.RandomErasing(factor=0.5, scale=(0.02, 0.15), fill_value=128, value_range=(0, 255), dtype=dtype),
        ]
        self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape):
        for change in self.changes:
            change.build(input_shape)

    def call(self, images, training=False):
        images = ops.cast(images, self.compute_dtype)
        if not training:
            return images
        altered = images
        for change in self.changes:
            altered = change(altered, training=True)
        drawn = keras.random.uniform((ops.shape(images)[0], 1, 1, 1), seed=self.seed_generator)
        return ops.where(drawn < SHARE, altered, images)

    def compute_output_shape(self, input_shape):
        return input_shape

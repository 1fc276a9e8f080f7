"""From features to logits, and margins. These belong to the loss (`facesim.training.tensorflow.objective`): evaluation
needs no labels.
"""

import math

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("facesim")
class CosineLogits(layers.Layer):
    """`scale` times the cosine between each input (batch, dimensions) and each of `units` learned centres.

    NormFace (Wang et al., 2017). `kernel`, (dimensions, units), holds the centres; their lengths do not matter.
    """

    def __init__(self, units: int, scale: float, **options):
        super().__init__(**options)
        self.units, self.scale = units, scale

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.units), initializer="glorot_uniform")

    def call(self, inputs):
        return self.cosines(inputs, self.centres())

    def centres(self) -> keras.KerasTensor:
        """The centres, (dimensions, units)."""
        return self.kernel

    def cosines(self, inputs: keras.KerasTensor, centres: keras.KerasTensor) -> keras.KerasTensor:
        """`scale` times the cosines between inputs (batch, dimensions) and centres (dimensions, any)."""
        return self.scale * ops.matmul(ops.normalize(inputs, axis=-1), ops.normalize(centres, axis=0))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "scale": self.scale}


@keras.saving.register_keras_serializable("facesim")
class SampledCosineLogits(CosineLogits):
    """The same, made so that a step of training reads and changes the centres of some identities alone: Partial FC
    (An et al., 2022). Each centre is a row of `kernel`, (units, dimensions).
    """

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=(self.units, input_shape[-1]), initializer="glorot_uniform")

    def call(self, inputs, rows=None):
        """The logits of all identities; or in training, of those whose `rows` of `kernel`, (k, dimensions), come."""
        return self.cosines(inputs, self.centres() if rows is None else ops.transpose(rows))

    def centres(self):
        return ops.transpose(self.kernel)


def logits(
    features: keras.KerasTensor, identities: int, cosine_scale: float | None, sampled: bool = False
) -> keras.KerasTensor:
    """The head on `features` (batch, dimensions): cosines times `cosine_scale`; where that is None, linear."""
    if cosine_scale is None:
        # The published softmax is part of the loss, which is the stable way to compute the same thing.
        return layers.Dense(identities, dtype="float32")(features)
    cosine_logits = SampledCosineLogits if sampled else CosineLogits
    return cosine_logits(identities, cosine_scale, dtype="float32")(features)


def embedding(features: keras.KerasTensor, dimensions: int) -> keras.KerasTensor:
    """Features (batch, any) as an embedding of `dimensions` numbers, normalised over the batch (as ArcFace's is)."""
    features = layers.Dense(dimensions, use_bias=False)(features)
    return layers.BatchNormalization(momentum=0.9)(features)


_EDGE = 1e-6  # the derivative of the angle is infinite where the cosine is 1


def cosface(cosine: keras.KerasTensor, margin: float) -> keras.KerasTensor:
    """cos(angle) - margin (Wang et al., 2018, equation 4)."""
    return cosine - margin


def arcface(cosine: keras.KerasTensor, margin: float) -> keras.KerasTensor:
    """cos(angle + margin), ArcFace (Deng et al., 2019, equation 3); beyond a half turn a line that goes on falling."""
    cosine = ops.clip(cosine, _EDGE - 1, 1 - _EDGE)
    turned = cosine * math.cos(margin) - ops.sqrt(1 - cosine**2) * math.sin(margin)
    return ops.where(cosine > -math.cos(margin), turned, cosine - margin * math.sin(margin))

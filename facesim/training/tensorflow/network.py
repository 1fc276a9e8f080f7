"""A job's network and optimiser on TensorFlow, and the state of replicas: a variable may have several copies here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from facesim.training.context import Context
from facesim.training.keras import network
from facesim.training.tensorflow.evaluation import logits_function
from facesim.training.tensorflow.forward import parameter_bytes
from facesim.training.tensorflow.optimizer import Fused, optimizer_of


def build(context: Context) -> tuple[keras.Model, Fused]:
    """The job's network and optimiser from the job's seed: the same parameters whatever strategy builds them."""
    return network.build(context, optimizer_of(context.experiment))


class KerasReplicas(network.KerasReplicas):
    """Replicas of a Keras network, as `facesim.training.protocols.Replicas` has them but for `train`."""

    def __init__(self, context: Context, model: keras.Model, optimizer: Fused):
        super().__init__(context, model, optimizer)
        self.parameter_bytes = parameter_bytes(model)
        self.devices = [device.name for device in tf.config.list_logical_devices("GPU")]

    def copies(self) -> Iterator[list[np.ndarray]]:
        variables = [variable for variable in self.current_model().variables if variable.dtype.startswith("float")]
        for copy in zip(*map(_copies, variables)):
            yield [part.numpy() for part in copy]

    def value_of(self, variable: keras.Variable) -> np.ndarray:
        return _copies(variable)[0].numpy()

    def set_value(self, variable: keras.Variable, value: np.ndarray) -> None:
        for number, copy in enumerate(_copies(variable)):
            # The replicas of one process draw other numbers, too.
            copy.assign((value + number).astype(value.dtype) if network.is_seed(variable) else value)

    def logits_function(self, model: keras.Model, mirror: bool) -> Callable[[np.ndarray], np.ndarray]:
        return logits_function(model, mirror)


def _copies(variable: keras.Variable) -> list[tf.Variable]:
    """The TensorFlow variables behind a Keras variable: one, or, of a mirrored one, each replica's here."""
    return list(getattr(variable.value, "values", (variable.value,)))

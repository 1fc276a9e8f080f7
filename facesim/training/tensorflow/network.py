"""A job's network and optimiser, and what the replicas of every strategy have in common: their state, their network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from facesim import models
from facesim.preflight.pretrained import FILE
from facesim.training.context import Context
from facesim.training.protocols import Evaluation, Evaluator
from facesim.training.tensorflow.evaluation import KerasEvaluator
from facesim.training.tensorflow.forward import parameter_bytes
from facesim.training.tensorflow.optimizer import FusedAdam, make_optimizer


def build(context: Context) -> tuple[keras.Model, FusedAdam]:
    """The job's network and optimiser from the job's seed: the same parameters whatever strategy builds them."""
    keras.utils.set_random_seed(context.seed)
    model = build_model(context)
    if context.pretrained:
        models.take_backbone(model, context.pretrained / FILE)
    updates_an_epoch = math.ceil(len(context.train_indices) / context.job.update_batch)
    optimizer = make_optimizer(context.job, updates_an_epoch)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def build_model(context: Context) -> keras.Model:
    """The job's network in the job's precision."""
    experiment = context.experiment
    # With bfloat16 parameters and updates stay float32.
    keras.config.set_dtype_policy("mixed_bfloat16" if experiment.precision == "bfloat16" else "float32")
    return models.build(
        experiment.model,
        context.data.image_shape,
        len(context.data.names),
        head=experiment.head,
        margin_scale=experiment.margin_scale,
        augment=experiment.augment,
    )


def vary_dropout(model: keras.Model, replica: int) -> None:
    """Let a replica drop other units than the others do, which have their parameters from the same seed."""
    for variable in model.non_trainable_variables:
        if _is_seed(variable):
            variable.assign(variable + replica)


class KerasReplicas:
    """Replicas of a Keras network, as `facesim.training.protocols.Replicas` has them but for `train`."""

    steps_per_exchange: int | None = None
    exchange_bytes = 0

    def __init__(self, context: Context, model: keras.Model, optimizer: FusedAdam):
        self.model, self.optimizer = model, optimizer
        self._number = context.replica
        self._state = [*model.variables, *optimizer.variables]
        self.parameters, self.parameter_bytes = model.count_params(), parameter_bytes(model)

    def variables(self) -> list[np.ndarray]:
        return [_copies(variable)[0].numpy() for variable in self._state]

    def assign(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self._state, values, strict=True):
            # The chief's: other replicas go on dropping other units than it does.
            seeded = value + self._number if _is_seed(variable) else value
            for copy in _copies(variable):
                copy.assign(seeded.astype(value.dtype))

    def evaluator(self, mirror: bool) -> Evaluator:
        evaluate = KerasEvaluator(self.current_model(), mirror)

        def evaluate_now(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Evaluation:
            self.current_model()
            return evaluate(images, labels, indices)

        return evaluate_now

    def copies(self) -> Iterator[list[np.ndarray]]:
        variables = [variable for variable in self.current_model().variables if variable.dtype.startswith("float")]
        for copy in zip(*map(_copies, variables)):
            yield [part.numpy() for part in copy]

    def save(self, file: Path) -> None:
        self.current_model().save(file)

    def current_model(self) -> keras.Model:
        """A model of this process with the parameters as they are now; always the same object."""
        return self.model


def _is_seed(variable: keras.Variable) -> bool:
    return variable.path.endswith("seed_generator_state")


def _copies(variable: keras.Variable) -> list[tf.Variable]:
    """The TensorFlow variables behind a Keras variable: one, or, of a mirrored one, each replica's here."""
    return list(getattr(variable.value, "values", (variable.value,)))

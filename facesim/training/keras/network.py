"""A job's network and optimiser, and what the replicas of every strategy and framework have in common: their state,
their network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from facesim import models
from facesim.models.framework import without
from facesim.models.sampling import ClassSampler, sample_size
from facesim.preflight.pretrained import FILE
from facesim.spec.experiment import Precision
from facesim.training.context import Context
from facesim.training.evaluation import evaluate
from facesim.training.keras.optimizer import AnyOptimizer, make_optimizer
from facesim.training.protocols import Evaluation, Evaluator


def build(context: Context, kind: Callable[..., AnyOptimizer]) -> tuple[keras.Model, AnyOptimizer]:
    """The job's network and optimiser from the job's seed: the same parameters whatever strategy and framework."""
    with without("tensorflow"):  # where another framework computes, TensorFlow would be imported to be seeded, too
        keras.utils.set_random_seed(context.seed)
    model = build_model(context)
    if context.pretrained:
        models.take_backbone(model, context.pretrained / FILE)
    optimizer = make_optimizer(context.job, context.updates_of_epoch, kind)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def build_model(context: Context) -> keras.Model:
    """The job's network in the job's precision."""
    experiment = context.experiment
    use_precision(experiment.precision)
    return models.build(
        experiment.model,
        context.data.image_shape,
        len(context.data.names),
        head=experiment.head,
        margin_scale=experiment.margin_scale,
        augment=experiment.augment,
    )


def use_precision(precision: Precision) -> None:
    """Let networks that are built from now on compute in a precision. Their parameters and updates stay float32."""
    keras.config.set_dtype_policy(precision if precision == "float32" else f"mixed_{precision}")


def vary_dropout(model: keras.Model, replica: int) -> None:
    """Let a replica drop other units than the others do, which have their parameters from the same seed."""
    for variable in model.non_trainable_variables:
        if is_seed(variable):
            variable.assign(variable + replica)


def is_seed(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a layer's random generator: its seed, and how often it was drawn from."""
    return variable.path.endswith("seed_generator_state")


def penalty(model: keras.Model, values: Sequence[Any] | None = None) -> Any:
    """What regularizers of the network's layers add to the loss, float32 (), for `values` of its trainable variables if
    they are others than these have; 0 if there are none.
    """
    variables = model.trainable_variables
    held = [variable.value for variable in variables] if values is None else values
    return sum(
        variable.regularizer(keras.ops.cast(value, "float32"))
        for variable, value in zip(variables, held, strict=True)
        if variable.regularizer
    )


def averaged_variables(model: keras.Model) -> list[keras.Variable]:
    """The moving statistics, of which each replica has seen its part of the examples only."""
    return [variable for variable in model.non_trainable_variables if variable.dtype.startswith("float")]


class KerasReplicas:
    """Replicas of a Keras network, as `facesim.training.protocols.Replicas` has them but for `train`."""

    steps_per_exchange: int | None = None
    exchange_bytes = 0

    def __init__(self, context: Context, model: keras.Model, optimizer: keras.Optimizer):
        self.model, self.optimizer = model, optimizer
        self._number = context.replica
        self._class_labels, self._sampler = context.data.labels, _sampler(context)
        self._state = [*model.variables, *optimizer.variables]
        self.parameters = model.count_params()
        self.parameter_bytes = 4 * sum(math.prod(variable.shape) for variable in model.trainable_variables)

    @property
    def samples(self) -> bool:
        """Whether the head is one of which an update computes some identities alone."""
        return self._sampler is not None

    @property
    def unsent_bytes(self) -> int:
        """Bytes of the head that an exchange of gradients leaves out, because its update is of a sample alone."""
        sampler = self._sampler
        return 4 * (sampler.identities - sampler.size) * self.model.layers[-1].kernel.shape[1] if sampler else 0

    def with_classes(self, batches: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
        """Each batch of example indices that is to make an update; with it, of a sampled head, the update's classes."""
        first = int(self.value_of(self.optimizer.iterations)) if self._sampler else 0
        for update, batch in enumerate(batches, first):
            yield batch, (self._sampler(self._class_labels[batch], update),) if self._sampler else ()

    def variables(self) -> list[np.ndarray]:
        values = [self.value_of(variable) for variable in self._state]
        # Counters and seeds have more bits on one framework than on another; kept, they are the same.
        return [value.astype(np.int64) if value.dtype.kind in "iu" else value for value in values]

    def assign(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self._state, values, strict=True):
            # The chief's: other replicas go on dropping other units than it does.
            seeded = value + self._number if is_seed(variable) else value
            self.set_value(variable, seeded.astype(value.dtype))

    def evaluator(self, mirror: bool) -> Evaluator:
        logits_of = self.logits_function(self.current_model(), mirror)

        def evaluate_now(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Evaluation:
            self.current_model()
            return evaluate(logits_of, images, labels, indices)

        return evaluate_now

    def copies(self) -> Iterator[list[np.ndarray]]:
        yield [self.value_of(each) for each in self.current_model().variables if each.dtype.startswith("float")]

    def save(self, file: Path) -> None:
        self.current_model().save(file)

    def current_model(self) -> keras.Model:
        """A model of this process with the parameters as they are now; always the same object."""
        return self.model

    def value_of(self, variable: keras.Variable) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(variable.value))

    def set_value(self, variable: keras.Variable, value: np.ndarray) -> None:
        variable.assign(value.astype(variable.dtype))

    def logits_function(self, model: keras.Model, mirror: bool) -> Callable[[np.ndarray], np.ndarray]:
        """From images, uint8 (n, height, width, channels), to logits (n, identities), not in training; with `mirror`,
        the mean over each image and its mirror image.
        """
        raise NotImplementedError


def _sampler(context: Context) -> ClassSampler | None:
    """What chooses the classes of updates, if the job's head is a sampled one."""
    experiment, identities = context.experiment, len(context.data.names)
    if not models.HEADS[experiment.head].sampled:
        return None
    size = sample_size(identities, experiment.sample_rate, context.job.update_batch)
    return ClassSampler(identities, size, context.seed)

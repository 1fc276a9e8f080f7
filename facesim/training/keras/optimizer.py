"""An optimiser at the job's rate and schedule, on any framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import keras

from facesim.spec.job import Job

#: By what the loss is multiplied for a backward pass in float16, in which little gradients would be 0: as much as
#: published trainings have used, 8 to 32,768 (Micikevicius et al., 2018, section 3.2), and exact, being a power of two.
LOSS_SCALE = 1024.0

AnyOptimizer = TypeVar("AnyOptimizer", bound=keras.optimizers.Optimizer)


def make_optimizer(job: Job, updates_an_epoch: int, kind: Callable[..., AnyOptimizer]) -> AnyOptimizer:
    """An optimiser of a kind, at the job's rate and schedule."""
    experiment = job.experiment
    return kind(
        _learning_rate(job, updates_an_epoch),
        weight_decay=experiment.weight_decay or None,
        global_clipnorm=experiment.clip_norm,
        loss_scale_factor=LOSS_SCALE if experiment.precision == "float16" else None,
    )


def decays(variable: keras.Variable) -> bool:
    """Whether weight decay is for a variable: kernels; biases, normalisation and slopes need not be near zero."""
    return variable.name == "kernel"


def _learning_rate(job: Job, updates_an_epoch: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """A cosine schedule rises from 0 in its warm-up, a constant rate that is scaled from the unscaled one."""
    experiment, rate = job.experiment, job.learning_rate
    if experiment.schedule == "cosine":
        updates = experiment.epochs * updates_an_epoch
        warmup = int(experiment.warmup * updates)
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            max(updates - warmup, 1),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    rising = experiment.warmup_epochs * updates_an_epoch
    if rate == experiment.learning_rate or rising == 0:
        return rate
    return keras.optimizers.schedules.PolynomialDecay(
        experiment.learning_rate, rising, end_learning_rate=rate, power=1.0
    )

"""The course of a training, the same for every strategy: epochs of updates, evaluations between, the outcome last."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Protocol

import keras
import numpy as np

from facesim.metrics.monitor import record_connections
from facesim.run import write_json
from facesim.training.batches import epoch_batches
from facesim.training.context import Context
from facesim.training.evaluation import Evaluation, Evaluator
from facesim.training.outcome import Counts, outcome
from facesim.training.step import StepResult

_PROGRESS_S = 0.5


class Replicas(Protocol):
    """What a strategy provides: replicas of a model that train on batches."""

    #: After how many of its steps a worker exchanges parameters or gradients with others; None if it never does.
    steps_per_exchange: int | None

    def train(self, batches: list[np.ndarray]) -> Iterator[StepResult]:
        """Make one update from each batch of example indices; yield what each worker did for it, when it is known."""

    def current_model(self) -> keras.Model:
        """A model of this process with the parameters as they are now; always the same object."""


def fit(context: Context, replicas: Replicas, *, everyone_evaluates: bool = False) -> None:
    """Train for the job's budget, or until asked to stop; leave samples, an outcome and, the chief, the model.

    Every peer of a strategy without parameter servers runs this, each on its own replica; only the chief evaluates,
    unless `everyone_evaluates`.

    Raises:
        FloatingPointError: the loss is not a finite number any more.
    """
    context.stop_when_asked()
    experiment, record = context.experiment, context.recorder
    evaluates = context.replica == 0 or everyone_evaluates
    evaluator = Evaluator(replicas.current_model(), experiment.mirror_test)
    counts, found = Counts(), {}

    def evaluate(indices: np.ndarray) -> Evaluation:
        with record.timed("evaluation_s"):
            replicas.current_model()
            return evaluator(context.data.images, context.data.labels, indices)

    for epoch in range(1, experiment.epochs + 1):
        values = _train_epoch(context, replicas, epoch, counts)
        if context.stopping or epoch == experiment.epochs:
            record_connections(context.run, context.task)  # now: they close when a peer ends
        if context.stopping:
            break
        if evaluates and (epoch % experiment.evaluate_every == 0 or epoch == experiment.epochs):
            accuracy, loss = evaluate(context.held_out_indices)
            found |= {"held_out_accuracy": accuracy, "held_out_loss": loss}
            values |= found
        record.write({"epoch": epoch, **values})

    if evaluates and not context.stopping:
        found["training_accuracy"] = evaluate(context.train_indices).accuracy
        record.write({"training_accuracy": found["training_accuracy"]})
    model = replicas.current_model()
    if context.replica == 0:
        with record.timed("save_s"):
            model.save(context.run.model_file)
    write_json(context.outcome_file, outcome(context, counts, found, model, replicas.steps_per_exchange))


def _train_epoch(context: Context, replicas: Replicas, epoch: int, counts: Counts) -> dict[str, float]:
    """Train on every example once, unless asked to stop; add to `counts`, and return the epoch's values."""
    record, of_epoch = context.recorder, Counts()
    batches = epoch_batches(context.train_indices, context.job.update_batch, context.seed, epoch)
    begin = told = time.perf_counter()
    for result in replicas.train(batches):
        if not counts.steps_by_worker:
            record.phase("first_step_s", time.perf_counter() - begin)
            record.since_launch("launch_to_first_step_s")
        counts.add(result)
        of_epoch.add(result)
        if time.perf_counter() - told > _PROGRESS_S:
            told = time.perf_counter()
            record.write({"examples": counts.examples, "updates": counts.updates})
        if context.stopping:
            break
    training_s = time.perf_counter() - begin
    record.phase("training_s", training_s)
    if not math.isfinite(of_epoch.loss_sum):
        raise FloatingPointError(
            f"the training loss became {of_epoch.loss_sum} in epoch {epoch}: lower --learning-rate, now "
            f"{context.job.learning_rate}"
        )
    return {
        "examples": counts.examples,
        "updates": counts.updates,
        "images_per_s": of_epoch.examples / training_s,
        "loss": of_epoch.loss_sum / of_epoch.examples,
        "running_accuracy": of_epoch.correct / of_epoch.examples,
        "staleness_mean": of_epoch.staleness_mean,
        "staleness_max": max(of_epoch.staleness),
    }

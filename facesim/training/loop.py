"""The course of a training, the same for every strategy: epochs of updates, evaluations between, the outcome last."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import keras
import numpy as np

from cluster.pulse import TRAINING, phase, progressed
from cluster.task import reached
from facesim.metrics.monitor import record_connections
from facesim.training.batches import epoch_batches
from facesim.training.context import Context
from facesim.training.course import Counts, Course
from facesim.training.evaluation import Evaluation, Evaluator
from facesim.training.keeper import Keeper
from facesim.training.outcome import outcome
from facesim.training.step import StepResult

_PROGRESS_S = 0.5


class Replicas(Protocol):
    """What a strategy provides: replicas of a model that train on batches."""

    #: After how many of its steps a worker exchanges parameters or gradients with others; None if it never does.
    steps_per_exchange: int | None

    #: What a worker's parameters or gradients take when they are exchanged.
    exchange_bytes: int

    #: The model's and then the optimiser's: with them any strategy can go on where another stopped.
    variables: list[keras.Variable]

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        """Make one update from each batch of example indices; yield what each worker did for it, when it is known.

        `batches` is asked for the next one only when it is wanted, and may end at any multiple of
        `steps_per_exchange`. When this is through, no update is under way.
        """

    def current_model(self) -> keras.Model:
        """A model of this process with the parameters as they are now; always the same object."""


def fit(context: Context, replicas: Replicas, *, everyone_evaluates: bool = False) -> None:
    """Train for the job's budget, or until asked to stop; leave samples, checkpoints, an outcome and, the chief, the
    model. Where there is a checkpoint, go on from it.

    Every peer of a strategy without parameter servers runs this, each on its own replica; only the chief evaluates and
    writes checkpoints, unless `everyone_evaluates`.

    Raises:
        FloatingPointError: the loss is not a finite number any more.
        FacesimError: the newest checkpoint is of another experiment.
    """
    context.stop_when_asked()
    experiment, record = context.experiment, context.recorder
    evaluates = context.replica == 0 or everyone_evaluates
    evaluator = Evaluator(replicas.current_model(), experiment.mirror_test)
    keeper = Keeper(context, replicas.variables, writes=evaluates)
    course = _begin(context, keeper)

    def evaluate(indices: np.ndarray) -> Evaluation:
        with record.timed("evaluation_s"), phase("evaluation"):
            replicas.current_model()
            return evaluator(context.data.images, context.data.labels, indices)

    while course.epoch <= experiment.epochs:
        _train_epoch(context, replicas, course, keeper)
        if context.stopping or course.epoch == experiment.epochs:
            record_connections(context.run, context.task)  # now: they close when a peer ends
        if context.stopping:  # also if it was asked to between two epochs
            with phase("checkpoint"):
                keeper.save(course)
            break
        values = _values_of(course)
        if evaluates and (course.epoch % experiment.evaluate_every == 0 or course.epoch == experiment.epochs):
            accuracy, loss = evaluate(context.held_out_indices)
            found = {"held_out_accuracy": accuracy, "held_out_loss": loss}
            course.found |= found
            values |= found
        course.history.append((record.write(values), values))
        course.epoch, course.done, course.of_epoch, course.epoch_s = course.epoch + 1, 0, Counts(), 0.0

    if evaluates and not context.stopping:
        course.found["training_accuracy"] = evaluate(context.train_indices).accuracy
        record.write({"training_accuracy": course.found["training_accuracy"]})
    model = replicas.current_model()
    if context.replica == 0:
        with record.timed("save_s"):
            save_model(model, context.run.model_file)
    exchange = (replicas.steps_per_exchange, replicas.exchange_bytes)
    outcome(context, course, model, *exchange).write(context.outcome_file)


def save_model(model: keras.Model, file: Path) -> None:
    """Write a model whole or not at all."""
    temporary = file.with_name(f".new-{file.name}")  # Keras knows the format by the name's end
    try:
        model.save(temporary)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _begin(context: Context, keeper: Keeper) -> Course:
    """The course to go on with: of the newest checkpoint, or a new one."""
    course, record = keeper.continued(), context.recorder
    course.starts += 1
    if course.workers not in (0, context.job.replicas):
        course.resized = Counts()
    course.workers = context.job.replicas
    for name, seconds in course.phases.items():
        record.phase(name, seconds)
    course.phases = record.phases
    if not context.recorded_before:  # somewhere else: what was recorded there belongs here, too
        for when, values in course.history:
            record.write(values, when)
    return course


def _train_epoch(context: Context, replicas: Replicas, course: Course, keeper: Keeper) -> None:
    """Train on the epoch's examples that are left, unless asked to stop, and write the checkpoints that are due."""
    job = context.job
    batches = deque(epoch_batches(context.train_indices, job.update_batch, context.seed, course.epoch, course.done))
    pause = replicas.steps_per_exchange or 1

    def until_pause() -> Iterator[np.ndarray]:
        step = course.counts.last_version
        for given in range(len(batches)):
            if given % pause == 0 and (context.stopping or keeper.due(step + given)):
                return
            course.done += len(batches[0])
            yield batches.popleft()

    while batches and not context.stopping:
        before = course.done // job.update_batch
        with phase(TRAINING):
            _train_some(context, course, replicas.train(until_pause()), before)
        if batches and not context.stopping:
            with phase("checkpoint"):
                keeper.save(course)
    if not math.isfinite(course.of_epoch.loss_sum):
        raise FloatingPointError(
            f"the training loss became {course.of_epoch.loss_sum} in epoch {course.epoch}: lower --learning-rate, now "
            f"{job.learning_rate}"
        )


def _train_some(context: Context, course: Course, results: Iterator[StepResult], before: int) -> None:
    """Take what workers did for the updates that are being made, from the epoch's batches after the first `before`."""
    record, first = context.recorder, context.trains_first
    begin = told = time.perf_counter()
    for result in results:
        progressed()
        now = time.perf_counter()
        if first:
            context.trains_first = first = False
            record.phase("first_step_s", now - begin)
            record.since_launch("launch_to_first_step_s")
        course.add(result)
        if result.batch is not None:
            context.order.add(course.epoch, before + result.batch, result.worker, result.version_read, result.version)
        reached(result.version + 1)
        if now - told > _PROGRESS_S:
            told = now
            record.write({"examples": course.counts.examples, "updates": course.counts.updates})
    seconds = time.perf_counter() - begin
    course.epoch_s += seconds
    record.phase("training_s", seconds)
    context.order.flush()


def _values_of(course: Course) -> dict[str, float]:
    """What is recorded of the epoch that has ended."""
    counts, epoch = course.counts, course.of_epoch
    return {
        "epoch": course.epoch,
        "examples": counts.examples,
        "updates": counts.updates,
        "images_per_s": epoch.examples / course.epoch_s,
        "loss": epoch.loss_sum / epoch.examples,
        "running_accuracy": epoch.correct / epoch.examples,
        "staleness_mean": epoch.staleness_mean,
        "staleness_max": max(epoch.staleness),
    }

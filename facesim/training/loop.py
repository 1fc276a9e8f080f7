"""The training loop, the same for every strategy: epochs of updates, evaluations between, the outcome last."""

from __future__ import annotations

import itertools
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from cluster.pulse import TRAINING, phase, progressed
from cluster.task import reached
from facesim.metrics.monitor import record_connections
from facesim.training.batches import epoch_batches
from facesim.training.checkpoint_manager import CheckpointManager
from facesim.training.context import Context
from facesim.training.outcome import outcome
from facesim.training.protocols import Evaluation, Replicas, StepResult
from facesim.training.train_state import Counts, TrainState

_PROGRESS_S = 0.5

Workers = TypeVar("Workers")


def train_alone(context: Context, build: Callable[[Context], Replicas]) -> None:
    """Train with the replicas that `build` makes."""
    with context.recorder.timed("build_s"):
        replicas = build(context)
    fit(context, replicas)


def train_joined(
    context: Context,
    joined: Callable[[int], AbstractContextManager[Workers]],
    build: Callable[[Context, Workers], Replicas],
) -> None:
    """Train as one of several workers: `joined` connects this one, by its number, to the others, and ends with it; of
    them `build` makes its replicas.
    """
    with ExitStack() as connection:
        with context.recorder.timed("connect_s"):
            workers = connection.enter_context(joined(context.replica))
        train_alone(context, lambda context: build(context, workers))


def fit(context: Context, replicas: Replicas, *, everyone_evaluates: bool = False) -> None:
    """Train for the epochs of `context`, or until asked to stop; leave samples, checkpoints, an outcome and, the chief,
    the model. Where there is a checkpoint, continue from it.

    Every peer of a strategy without parameter servers runs this, each on its own replica; only the chief evaluates and
    writes checkpoints, unless `everyone_evaluates`.

    Raises:
        FloatingPointError: the loss is not a finite number any more.
        FacesimError: the newest checkpoint is of another experiment.
    """
    context.stop_when_asked()
    experiment, record = context.experiment, context.recorder
    evaluates = context.replica == 0 or everyone_evaluates
    evaluator = replicas.evaluator(experiment.mirror_test)
    checkpoints = CheckpointManager(context, replicas, writes=evaluates)
    state = _begin(context, checkpoints)

    def evaluate(indices: np.ndarray) -> Evaluation:
        with record.timed("evaluation_s"), phase("evaluation"):
            return evaluator(context.data.images, context.data.labels, indices)

    while state.epoch <= context.epochs:
        _train_until_evaluation(context, replicas, state, checkpoints)
        if context.stopping or state.epoch == context.epochs:
            record_connections(context.run, context.task)  # now: they close when a peer ends
            if not context.stopping:
                _meet(replicas)
        if context.stopping:  # also if it was asked to between two epochs
            with phase("checkpoint"):
                checkpoints.save(state)
            break
        values = _values_of(state)
        if evaluates and (state.epoch % experiment.evaluate_every == 0 or state.epoch == context.epochs):
            accuracy, loss = evaluate(context.held_out_indices)
            held_out = {"held_out_accuracy": accuracy, "held_out_loss": loss}
            state.found |= held_out
            values |= held_out
        _end_epoch(context, state, values, Counts())

    if evaluates and not context.stopping:
        state.found["training_accuracy"] = evaluate(context.train_indices).accuracy
        record.write({"training_accuracy": state.found["training_accuracy"]})
    if context.replica == 0:
        with record.timed("save_s"):
            save_network(replicas, context.run.model_file)
    if evaluates and context.stopping and state.epoch > context.epochs:  # asked to while it was evaluated
        with phase("checkpoint"):
            checkpoints.save(state)
    outcome(context, state, replicas).write(context.outcome_file)


def _meet(replicas: Replicas) -> None:
    """Wait until the others have recorded their connections, too: those with this process close when it ends."""
    sum_of_all = getattr(replicas, "sum_of_all", None)
    if sum_of_all:
        with suppress(Exception):  # who was asked to stop just now has ended: nothing is left to wait for
            sum_of_all(np.zeros(1, np.float32))  # which nobody has before all have called it


def save_network(replicas: Replicas, file: Path) -> None:
    """Write the network whole or not at all."""
    temporary = file.with_name(f".new-{file.name}")  # Keras knows the format by the name's end
    try:
        replicas.save(temporary)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _begin(context: Context, checkpoints: CheckpointManager) -> TrainState:
    """The state to continue from: that of the newest checkpoint, or a new one."""
    state, record = checkpoints.continued(), context.recorder
    if state.workers not in (0, context.job.replicas):
        state.resized = Counts()
    state.workers = context.job.replicas
    for name, seconds in state.phases.items():
        record.phase(name, seconds)
    state.phases = record.phases
    if not context.recorded_before:  # somewhere else: what was recorded there belongs here, too
        for when, values in state.history:
            record.write(values, when)
    return state


def _train_until_evaluation(
    context: Context, replicas: Replicas, state: TrainState, checkpoints: CheckpointManager
) -> None:
    """Train on the examples that are left of the epoch, unless asked to stop, and write the checkpoints that are due.

    Asynchronous workers go on with the next epochs until an evaluation is due: who has nothing to do at the end of one
    would wait for the others.
    """
    job, last = context.job, state.epoch
    if job.strategy.asynchronous:
        every = job.experiment.evaluate_every
        last = min(context.epochs, math.ceil(state.epoch / every) * every)
    batches = _batches_of(context, state, last)
    left = (last - state.epoch + 1) * context.updates_of_epoch - math.ceil(state.done / job.update_batch)
    pause = replicas.steps_per_exchange or 1

    def until_pause() -> Iterator[np.ndarray]:
        nonlocal left
        step = state.counts.last_version
        for given in itertools.count():
            if not left or (given % pause == 0 and (context.stopping or checkpoints.due(step + given))):
                return
            batch = next(batches)
            left -= 1
            state.done += len(batch)
            yield batch

    while left and not context.stopping:
        with phase(TRAINING):
            _train_some(context, state, replicas.train(until_pause()))
        if left and not context.stopping:
            with phase("checkpoint"):
                checkpoints.save(state)
    _check_finite(context, state)


def _batches_of(context: Context, state: TrainState, last: int) -> Iterator[np.ndarray]:
    """The batches that are left of the epochs from the state's to the `last`."""
    job, done = context.job, state.done
    for epoch in range(state.epoch, last + 1):
        yield from epoch_batches(context.train_indices, job.update_batch, context.seed, epoch, done)
        done = 0


def _train_some(context: Context, state: TrainState, results: Iterator[StepResult]) -> None:
    """Take what workers did for the updates that are being made, from the batches that are left of the epoch on."""
    record, job = context.recorder, context.job
    updates = context.updates_of_epoch
    began, before = state.epoch, math.ceil(state.done / job.update_batch)
    later = defaultdict[int, Counts](Counts)  # of epochs that have begun while the state's has not ended
    first, at_once = set[int](), 0  # versions that are known when this process' first step is done, and how many
    begin = epoch_begin = recorded = time.perf_counter()
    for number, result in enumerate(results):
        progressed()
        now = time.perf_counter()
        if context.trains_first:
            context.trains_first = False
            record.phase("first_step_s", now - begin)
            record.since_launch("launch_to_first_step_s")
            at_once = job.strategy.known_at_once(math.ceil(state.done / job.update_batch) - before)
        if len(first) < at_once or result.version in first:
            state.first_updates += result.version not in first
            state.first_examples += result.examples
            first.add(result.version)
        epoch = began
        if job.strategy.asynchronous:  # a result is an update
            place = before + (number if result.batch is None else result.batch)
            epoch, batch = began + place // updates, place % updates
            context.order.add(epoch, batch, result.worker, result.version_read, result.version)
        state.add(result, later[epoch] if epoch > state.epoch else None)
        reached(result.version + 1)
        while later and state.of_epoch.updates == updates:
            _check_finite(context, state)
            state.epoch_s, epoch_begin = state.epoch_s + now - epoch_begin, now
            _end_epoch(context, state, _values_of(state), later.pop(state.epoch + 1, Counts()))
        if now - recorded > _PROGRESS_S:
            recorded = now
            record.write({"examples": state.counts.examples, "updates": state.counts.updates})
    now = time.perf_counter()
    state.epoch_s += now - epoch_begin
    record.phase("training_s", now - begin)
    context.order.flush()


def _check_finite(context: Context, state: TrainState) -> None:
    """Raise an error if the loss is not a number."""
    job = context.job
    if not math.isfinite(state.of_epoch.loss_sum):
        wider = ", or give --precision float32, whose range is larger" if job.experiment.precision == "float16" else ""
        raise FloatingPointError(
            f"the training loss became {state.of_epoch.loss_sum} in epoch {state.epoch}: lower --learning-rate, now "
            f"{job.learning_rate}{wider}"
        )


def _end_epoch(context: Context, state: TrainState, values: dict[str, float], of_next: Counts) -> None:
    """Record what was found of the epoch that has ended, and go on to the next, of which so much is counted already."""
    state.history.append((context.recorder.write(values), values))
    state.epoch, state.done = state.epoch + 1, state.done - len(context.train_indices)
    state.of_epoch, state.epoch_s = of_next, 0.0


def _values_of(state: TrainState) -> dict[str, float]:
    """What is recorded of the epoch that has ended. Its rate is of all that was done since the one before ended."""
    counts, epoch = state.counts, state.of_epoch
    examples = counts.examples - (state.history[-1][1]["examples"] if state.history else 0)
    return {
        "epoch": state.epoch,
        "examples": counts.examples,
        "updates": counts.updates,
        **({"images_per_s": examples / state.epoch_s} if examples else {}),  # two may end with the same update
        "loss": epoch.loss_sum / epoch.examples,
        "running_accuracy": epoch.correct / epoch.examples,
        "staleness_mean": epoch.staleness_mean,
        "staleness_max": max(epoch.staleness),
    }

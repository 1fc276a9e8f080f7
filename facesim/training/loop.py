"""The course of a training, the same for every strategy: epochs of updates, evaluations between, the outcome last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import keras
import numpy as np

from facesim.run import write_json
from facesim.training.batches import epoch_batches
from facesim.training.context import Context
from facesim.training.evaluation import Evaluation, Evaluator
from facesim.training.step import StepResult

_PROGRESS_S = 0.5


class Replicas(Protocol):
    """What a strategy provides: replicas of a model that train on batches."""

    def train(self, batches: list[np.ndarray]) -> Iterator[StepResult]:
        """Make one update from each batch of example indices, and yield each one's result when it is there."""

    def current_model(self) -> keras.Model:
        """A model of this process with the parameters as they are now; always the same object."""


class _Epoch:
    """Sums over the updates of one epoch."""

    def __init__(self) -> None:
        self.loss_sum, self.correct, self.examples = 0.0, 0, 0
        self.staleness: list[int] = []

    def add(self, result: StepResult) -> None:
        self.loss_sum += result.loss_sum
        self.correct += result.correct
        self.examples += result.examples
        self.staleness.append(result.staleness)


class _Counts:
    """What the sync audit asks for, over the whole run."""

    def __init__(self) -> None:
        self.examples = 0
        self.examples_by_worker: Counter[int] = Counter()
        self.updates_by_worker: Counter[int] = Counter()
        self.versions: set[int] = set()
        self.staleness: Counter[int] = Counter()

    def add(self, result: StepResult) -> None:
        self.examples += result.examples
        self.examples_by_worker[result.worker] += result.examples
        self.updates_by_worker[result.worker] += 1
        self.versions.add(result.version)
        self.staleness[result.staleness] += 1

    @property
    def updates(self) -> int:
        return sum(self.updates_by_worker.values())


def fit(context: Context, replicas: Replicas) -> None:
    """Train for the job's budget, or until asked to stop; leave samples, the model and `outcome.json` in the run."""
    experiment, record = context.experiment, context.recorder
    context.stop_when_asked()
    counts = _Counts()
    evaluator = Evaluator(replicas.current_model(), experiment.mirror_test)
    first: StepResult | None = None
    held_out: Evaluation | None = None

    def evaluate(indices: np.ndarray) -> Evaluation:
        with record.timed("evaluation_s"):
            replicas.current_model()
            return evaluator(context.data.images, context.data.labels, indices)

    for epoch in range(1, experiment.epochs + 1):
        batches = epoch_batches(context.train_indices, experiment.batch, experiment.seed, epoch)
        sums, begin = _Epoch(), time.perf_counter()
        told = begin
        for result in replicas.train(batches):
            sums.add(result)
            counts.add(result)
            now = time.perf_counter()
            if first is None:
                first = result
                record.phase("first_step_s", now - begin)
                record.since_launch("launch_to_first_step_s")
            if now - told > _PROGRESS_S:
                told = now
                record.write({"examples": counts.examples, "updates": counts.updates})
            if context.stopping:
                break
        training_s = time.perf_counter() - begin
        record.phase("training_s", training_s)
        if context.stopping:
            break
        values = {
            "epoch": epoch,
            "examples": counts.examples,
            "updates": counts.updates,
            "images_per_s": sums.examples / training_s,
            "loss": sums.loss_sum / sums.examples,
            "running_accuracy": sums.correct / sums.examples,
            "staleness_mean": float(np.mean(sums.staleness)),
            "staleness_max": max(sums.staleness),
        }
        if epoch % experiment.evaluate_every == 0 or epoch == experiment.epochs:
            held_out = evaluate(context.held_out_indices)
            values |= {"held_out_accuracy": held_out.accuracy, "held_out_loss": held_out.loss}
        record.write(values)
        record.workers(
            {
                worker: {"task_updates": updates, "task_examples": counts.examples_by_worker[worker]}
                for worker, updates in counts.updates_by_worker.items()
            }
        )

    model = replicas.current_model()
    training = None if context.stopping else evaluate(context.train_indices)
    if training:
        record.write({"training_accuracy": training.accuracy})
    with record.timed("save_s"):
        model.save(context.run.model_file)
    write_json(context.run.outcome_file, _outcome(context, counts, first, held_out, training, model))


def _outcome(
    context: Context,
    counts: _Counts,
    first: StepResult | None,
    held_out: Evaluation | None,
    training: Evaluation | None,
    model: keras.Model,
) -> dict[str, Any]:
    phases = context.recorder.phases
    steady_s = phases.get("training_s", 0.0) - phases.get("first_step_s", 0.0)
    steady_examples = counts.examples - (first.examples if first else 0)
    identities = np.bincount(context.data.labels[context.train_indices])
    return {
        "stopped": context.stopping,
        "held_out_accuracy": held_out.accuracy if held_out else None,
        "held_out_loss": held_out.loss if held_out else None,
        "training_accuracy": training.accuracy if training else None,
        "images_per_s": steady_examples / steady_s if steady_s > 0 and steady_examples else None,
        "training_s": phases.get("training_s"),
        "examples_seen": counts.examples,
        "updates": counts.updates,
        "phases": phases,
        "parameters": model.count_params(),
        "parameter_bytes": int(sum(np.prod(v.shape) * v.value.dtype.size for v in model.trainable_variables)),
        "data": {
            "name": context.data.name,
            "identities": len(context.data.names),
            "training_examples": len(context.train_indices),
            "held_out_examples": len(context.held_out_indices),
            "chance_accuracy": float(identities.max() / identities.sum()),
        },
        "counted": {
            "examples_due": _examples_due(context),
            "examples": counts.examples,
            "updates": counts.updates,
            "distinct_versions": len(counts.versions),
            "last_version": max(counts.versions, default=-1) + 1,
            "updates_by_worker": dict(sorted(counts.updates_by_worker.items())),
            "examples_by_worker": dict(sorted(counts.examples_by_worker.items())),
            "staleness": dict(sorted(counts.staleness.items())),
        },
    }


def _examples_due(context: Context) -> int:
    """Examples that the job's budget is: every training example once an epoch."""
    return context.experiment.epochs * len(context.train_indices)

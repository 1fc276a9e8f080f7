"""The core of training with a framework of its own: replicas in NumPy, which show what a framework has to provide."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from facesim.data import prepare
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.training.context import Context, open_context
from facesim.training.loop import fit
from facesim.training.protocols import Evaluation, Evaluator, Replicas, StepResult
from facesim.util.errors import FacesimError

RATE, MOMENTUM, NOISE = 0.01, 0.9, 0.01


class SoftmaxRegression:
    """One replica: logits are linear in the pixels, gradients have momentum, inputs have noise from its own state."""

    steps_per_exchange, exchange_bytes = None, 0

    def __init__(self, context: Context, stop_after: int | None = None):
        self._context, self._stop_after = context, stop_after
        pixels, people = int(np.prod(context.data.image_shape)), len(context.data.names)
        self._weights = np.zeros((pixels, people), np.float32)
        self._velocity = np.zeros_like(self._weights)
        self._updates = np.zeros((), np.int64)
        self.parameters, self.parameter_bytes = self._weights.size, self._weights.nbytes

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch in batches:
            version = int(self._updates)
            images = self._images(self._context.data.images, batch)
            images += np.random.default_rng(version).normal(0, NOISE, images.shape).astype(np.float32)
            losses, correct, errors = self._compare(images, self._context.data.labels[batch])
            self._velocity = MOMENTUM * self._velocity - RATE * images.T @ errors / len(batch)
            self._weights = self._weights + self._velocity
            self._updates = self._updates + 1
            if version + 1 == self._stop_after:
                self._context.stopping = True
            yield StepResult(float(losses.sum()), int(correct.sum()), len(batch), 0, version, version)

    def variables(self) -> list[np.ndarray]:
        return [self._weights, self._velocity, self._updates]

    def assign(self, values: list[np.ndarray]) -> None:
        self._weights, self._velocity, self._updates = values

    def evaluator(self, mirror: bool) -> Evaluator:
        def evaluate(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Evaluation:
            losses, correct, _ = self._compare(self._images(images, indices), labels[indices])
            return Evaluation(float(correct.mean()), float(losses.mean()))

        return evaluate

    def copies(self) -> Iterator[list[np.ndarray]]:
        yield [self._weights]

    def save(self, file: Path) -> None:
        with file.open("wb") as stream:
            np.save(stream, self._weights)

    def _images(self, images: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return images[indices].reshape(len(indices), -1).astype(np.float32) / 255 - 0.5

    def _compare(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses (n,), which answers are right (n,), and the loss' gradient by logit (n, people)."""
        logits = images @ self._weights
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        truth = np.eye(shares.shape[1], dtype=np.float32)[labels]
        return -np.log((shares * truth).sum(axis=1)), shares.argmax(axis=1) == labels, shares - truth


@pytest.fixture(autouse=True)
def ends_as_before():
    """`fit` answers SIGTERM, which belongs to a task's process."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def begin(faces, cache, tmp_path):
    """Begin a task of a run of the given name, which has 6 epochs of 7 updates: 7 images of each of 8 people."""
    data = prepare(str(faces), image_size=32, cache_dir=cache)

    def context_of(name: str, **options: object) -> Context:
        run = Run(tmp_path / name)
        if not run.directory.exists():
            run = Run.create(run.directory, make_job(**{"epochs": 6, "batch": 8, "held_out": 0.3, **options}))
        run.record("submitted")
        run.task_directory("chief-0")
        return open_context(run, data.directory, run.checkpoints, "chief", 0, 0)

    return context_of


def test_a_framework_is_replicas_and_nothing_else(begin):
    context = begin("run")
    replicas: Replicas = SoftmaxRegression(context)

    fit(context, replicas)

    outcome = context.run.outcome()
    assert not outcome.stopped
    assert (outcome.updates, outcome.examples_seen) == (42, 6 * len(context.train_indices))
    assert outcome.counted.examples_due == outcome.counted.examples == outcome.examples_seen
    assert outcome.held_out_accuracy > 3 / 8
    assert outcome.parameters_sha256 == [hashlib.sha256(replicas.variables()[0].tobytes()).hexdigest()]
    np.testing.assert_array_equal(np.load(context.run.model_file), replicas.variables()[0])


def test_what_was_stopped_continues_to_the_same_bits(begin):
    whole = SoftmaxRegression(begin("whole"))
    fit(whole._context, whole)
    stopped = SoftmaxRegression(begin("stopped"), stop_after=17)
    fit(stopped._context, stopped)
    assert stopped._context.run.outcome().stopped

    continued = SoftmaxRegression(begin("stopped"))
    fit(continued._context, continued)

    for one, other in zip(whole.variables(), continued.variables(), strict=True):
        np.testing.assert_array_equal(one, other)
    outcome = continued._context.run.outcome()
    assert not outcome.stopped
    assert outcome.counted.examples == outcome.counted.examples_due


def test_a_checkpoint_of_another_experiment_is_refused(begin, tmp_path):
    stopped = SoftmaxRegression(begin("one"), stop_after=3)
    fit(stopped._context, stopped)
    (tmp_path / "one" / "checkpoints").rename(tmp_path / "kept")
    context = begin("other", batch=16)
    (tmp_path / "kept").rename(context.checkpoints)

    with pytest.raises(FacesimError, match="is of another experiment: it has batch 8"):
        fit(context, SoftmaxRegression(context))


def test_a_checkpoint_that_does_not_fit_the_network_is_put_aside(begin):
    class Wider(SoftmaxRegression):
        def __init__(self, context: Context):
            super().__init__(context)
            self._weights = self._velocity = np.zeros((len(self._weights), 9), np.float32)

    stopped = SoftmaxRegression(begin("run"), stop_after=3)
    fit(stopped._context, stopped)
    context = begin("run")

    fit(context, Wider(context))

    assert [file.name for file in context.checkpoints.glob("damaged-*")] == ["damaged-checkpoint-000000003.npz"]
    assert context.run.outcome().updates == 42  # from the beginning

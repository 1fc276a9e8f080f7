"""The core of training with a framework of its own: replicas in NumPy, which show what a framework has to provide."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import signal
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster import clock, task
from facesim.data import prepare
from facesim.metrics.files import read_samples
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.training.checkpoint_manager import CheckpointManager
from facesim.training.checkpoints import Checkpoints
from facesim.training.context import Context, open_context
from facesim.training.keras import updates
from facesim.training.keras.updates import joint_updates
from facesim.training.loop import fit
from facesim.training.order import read_orders
from facesim.training.protocols import Evaluation, Evaluator, Replicas, StepResult
from facesim.training.ring import Ring
from facesim.training.train_state import TrainState
from facesim.util.errors import FacesimError
from tests.support.ring import around

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


class Supervisor:
    """Keeps what a task tells."""

    def __init__(self):
        self.told = []

    def send_bytes(self, content: bytes) -> None:
        self.told.append(json.loads(content))


@pytest.fixture
def supervisor(monkeypatch):
    monkeypatch.setattr(task, "_supervisor", supervisor := Supervisor())
    return supervisor


@pytest.fixture
def at(monkeypatch):
    """Set the clock."""

    def at(seconds: float) -> None:
        monkeypatch.setattr(clock, "time_unix_s", lambda: 1_790_000_000.0 + seconds)

    return at


class Unordered(SoftmaxRegression):
    """Three workers that hold a batch each; whoever is drawn makes the next update. Counts the times it is begun."""

    def __init__(self, context: Context, stop_after: int | None = None):
        super().__init__(context, stop_after)
        self.begun, self._draw = 0, np.random.default_rng(1)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        self.begun += 1
        given, held = enumerate(batches), dict[int, tuple[int, np.ndarray, int]]()
        while True:
            for worker in sorted({0, 1, 2} - held.keys()):
                if some := next(given, None):
                    held[worker] = (*some, int(self._updates))
            if not held:
                return
            worker = int(self._draw.choice(sorted(held)))
            place, batch, read = held.pop(worker)
            for result in super().train([batch]):
                yield result._replace(worker=worker, version_read=read, batch=place)


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


def test_what_is_recorded_of_the_data_is_of_the_split_that_was_trained(faces, cache, tmp_path):
    for number, part in enumerate(("train", "val", "test")):
        for person in faces.iterdir():
            (tmp_path / "faces" / part / person.name).mkdir(parents=True)
            for file in sorted(person.iterdir())[3 * number : 3 * number + 3]:
                shutil.copy(file, tmp_path / "faces" / part / person.name)
    data = prepare(str(tmp_path / "faces"), image_size=32, cache_dir=cache)
    run = Run.create(tmp_path / "run", make_job(epochs=1, batch=8, test_part="val"))
    run.record("submitted")
    run.task_directory("chief-0")
    context = open_context(run, data.directory, run.checkpoints, "chief", 0, 0)

    fit(context, SoftmaxRegression(context))

    recorded = run.outcome().data
    trained, tested = recorded.training_examples, recorded.held_out_examples
    told = f"{trained} images are trained on and {tested} (val) are tested, and the {tested} of test are neither"
    assert told in recorded.notes[0]


class StoppedAsItIsEvaluated(SoftmaxRegression):
    """Is asked to stop while the network is evaluated for the last time: for the held-out or the training accuracy."""

    def __init__(self, context: Context, nth: int):
        super().__init__(context)
        self._nth = nth

    def evaluator(self, mirror: bool) -> Evaluator:
        evaluate = super().evaluator(mirror)

        def evaluate_and_stop(images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> Evaluation:
            self._nth -= 1
            self._context.stopping |= not self._nth
            return evaluate(images, labels, indices)

        return evaluate_and_stop


class Trained(SoftmaxRegression):
    """Has nothing to train any more."""

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        raise AssertionError("it trains again")


@pytest.mark.parametrize("nth", [6, 7])
def test_nothing_is_trained_again_that_was_stopped_as_it_was_evaluated_at_the_end(begin, nth):
    stopped = StoppedAsItIsEvaluated(begin("run", checkpoint_s=0), nth)
    fit(stopped._context, stopped)
    assert stopped._context.run.outcome().stopped

    continued = Trained(begin("run", checkpoint_s=0))
    fit(continued._context, continued)

    outcome = continued._context.run.outcome()
    assert not outcome.stopped and outcome.updates == 42
    assert outcome.counted.examples == outcome.counted.examples_due
    assert outcome.held_out_accuracy > 3 / 8 and outcome.training_accuracy > 3 / 8
    np.testing.assert_array_equal(stopped.variables()[0], continued.variables()[0])


EPOCHS = 6
ASYNC = {"strategy": "ps-async", "workers": 3, "epochs": EPOCHS, "batch": 10}  # 6 updates an epoch, the last of 6


def epochs_of(context: Context) -> list[dict[str, float]]:
    samples = read_samples(context.run.directory)
    names = ("epoch", "examples", "images_per_s", "loss", "held_out_accuracy")
    columns = {name: samples[samples["name"] == name] for name in names}
    return [
        {
            name: row["value"]
            for name, rows in columns.items()
            for _, row in rows[rows["time_unix_s"] == when].iterrows()
        }
        for when in columns["epoch"]["time_unix_s"]
    ]


@pytest.mark.parametrize("every", [1, 2, 4, 6])
def test_asynchronous_workers_go_on_from_epoch_to_epoch_until_an_evaluation_is_due(begin, every):
    context = begin("run", **ASYNC, evaluate_every=every)
    replicas = Unordered(context)

    fit(context, replicas)

    evaluated = sorted({*range(every, EPOCHS + 1, every), EPOCHS})
    assert replicas.begun == len(evaluated)
    outcome = context.run.outcome()
    assert outcome.counted.examples == outcome.counted.examples_due == EPOCHS * 56
    epochs = epochs_of(context)
    assert [row["epoch"] for row in epochs] == list(range(1, EPOCHS + 1))
    assert [row["epoch"] for row in epochs if "held_out_accuracy" in row] == evaluated
    assert all(row["loss"] > 0 for row in epochs)
    orders = read_orders(context.run.order_file)
    assert sum(map(len, orders)) == outcome.updates == EPOCHS * 6
    assert len(orders) >= len(evaluated)
    # Nobody's work is of another epoch than was said, and where none was evaluated some began before one had ended.
    rows = np.loadtxt(context.run.order_file, delimiter=",", skiprows=1, dtype=int)
    assert sorted(map(tuple, rows[:, :2])) == [(epoch, batch) for epoch in range(1, EPOCHS + 1) for batch in range(6)]
    mixed = {epoch for epoch in range(1, EPOCHS) if np.any(rows[rows[:, 0] > epoch, 3] < 6 * epoch)}
    assert bool(mixed) == (every > 1)
    assert not mixed & set(evaluated)


@pytest.mark.parametrize(("stop_after", "steps"), [(17, 0), (18, 0), (29, 0), (29, 5), (29, 6), (23, 7)])
def test_asynchronous_workers_that_were_stopped_between_epochs_make_each_update_once(begin, stop_after, steps):
    job = ASYNC | {"evaluate_every": EPOCHS, "checkpoint_steps": steps}
    stopped = Unordered(begin("run", **job), stop_after)
    fit(stopped._context, stopped)

    context = begin("run", **job)
    fit(context, Unordered(context))

    outcome = context.run.outcome()
    assert not outcome.stopped
    assert outcome.counted.examples == outcome.counted.examples_due
    assert outcome.updates == EPOCHS * 6
    epochs = epochs_of(context)
    assert [row["epoch"] for row in epochs] == list(range(1, EPOCHS + 1))
    assert all(row.get("images_per_s", 1) > 0 for row in epochs)
    assert sum(map(len, read_orders(context.run.order_file))) == EPOCHS * 6


class InGroups(SoftmaxRegression):
    """Results become known so many at a time, or as many as there are."""

    size = 1

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        results = super().train(batches)
        while group := list(itertools.islice(results, self.size)):
            yield from group


@pytest.mark.parametrize(
    ("options", "size", "first"),
    [
        ({"strategy": "single"}, 1, 1),
        ({"strategy": "local-sgd", "local_steps": 3}, 3, 3),
        ({"strategy": "local-sgd", "local_steps": 1000}, 1000, 7),  # those of an epoch
        ({"strategy": "ps-async", "steps_per_dispatch": 4}, 4, 4),
        ({"strategy": "ps-async", "steps_per_dispatch": 64}, 1, 1),  # there are too few for a group
    ],
)
@pytest.mark.parametrize("epochs", [1, 2])
def test_the_rate_is_of_what_came_after_the_first_step_with_which_other_results_may_come(
    begin, options, size, first, epochs
):
    context = begin("run", **options, epochs=epochs)
    replicas = InGroups(context)
    replicas.size = size

    fit(context, replicas)

    outcome, left = context.run.outcome(), 7 * epochs - first
    assert (outcome.updates, outcome.counted.first_step_updates) == (7 * epochs, first)
    assert outcome.updates_after_first_step == left
    later_s = outcome.phases["training_s"] - outcome.phases["first_step_s"]
    assert outcome.images_per_s == (pytest.approx(8 * left / later_s) if left else None)


def test_of_each_process_that_trained_the_first_step_is_left_out(begin):
    for stop_after in (5, 9, None):
        replicas = SoftmaxRegression(begin("run"), stop_after)
        fit(replicas._context, replicas)

    assert replicas._context.run.outcome().counted.first_step_updates == 3


@pytest.mark.parametrize("gone", [False, True])
def test_replicas_meet_when_their_connections_are_on_record_and_not_where_they_were_stopped(begin, monkeypatch, gone):
    happened = []

    def sum_of_all(array: np.ndarray) -> np.ndarray:
        if len(array) == 1:
            happened.append("met")
            if gone:
                raise ConnectionError("the other was stopped")
        return array

    monkeypatch.setattr("facesim.training.loop.record_connections", lambda *_: happened.append("recorded"))
    for stop_after in (17, None):
        replicas = SoftmaxRegression(begin("run"), stop_after)
        replicas.sum_of_all = sum_of_all
        fit(replicas._context, replicas)

    assert happened == ["recorded", "recorded", "met"]
    assert not replicas._context.run.outcome().stopped


@pytest.mark.parametrize(("ahead", "expected"), [(False, "u0 r0 u1 r1 u2 r2"), (True, "u0 u1 r0 u2 r1 r2")])
def test_an_update_is_begun_before_the_last_one_s_results_are_read(ahead, expected):
    happened = []

    def update(indices: np.ndarray, share: float) -> int:
        happened.append(f"u{indices[0]}")
        return int(indices[0])

    def read(found: int) -> list[list[float]]:
        happened.append(f"r{found}")
        return [[1.5, 1.0, 2.0]]

    results = list(joint_updates([np.array([number]) for number in range(3)], 10, update, read, ahead=ahead))

    assert " ".join(happened) == expected
    assert [(result.version, result.loss_sum) for result in results] == [(10, 1.5), (11, 1.5), (12, 1.5)]


def test_a_checkpoint_of_another_experiment_is_refused(begin, tmp_path):
    stopped = SoftmaxRegression(begin("one"), stop_after=3)
    fit(stopped._context, stopped)
    (tmp_path / "one" / "checkpoints").rename(tmp_path / "kept")
    context = begin("other", batch=16)
    (tmp_path / "kept").rename(context.checkpoints)

    with pytest.raises(FacesimError, match="is of another experiment: it has batch 8"):
        fit(context, SoftmaxRegression(context))


@pytest.mark.parametrize("held", [(17, None), (17, 3), (3, 17), (None, 17), (17, 17), (None, None)])
def test_workers_whose_folders_are_their_own_go_on_from_what_the_first_has(begin, tmp_path, held):
    """Each host has one, to which only the first worker's writes."""
    for step in {*held} - {None}:
        trained = SoftmaxRegression(begin(f"to {step}", strategy="allreduce", workers=2), step)
        fit(trained._context, trained)
    chief = begin("run", strategy="allreduce", workers=2)

    def goes_on(rank: int, ring: Ring) -> tuple[TrainState, list[np.ndarray]]:
        folder = tmp_path / (f"to {held[rank]}/checkpoints" if held[rank] else f"host {rank}")
        role, index = (("chief", 0), ("worker", 0))[rank]
        context = open_context(chief.run, chief.data.directory, folder, role, index, rank)
        replicas = SoftmaxRegression(context)
        replicas.sum_of_all = ring.sum
        state = CheckpointManager(context, replicas, writes=rank == 0).continued()
        return state, replicas.variables()

    (first, values), (other, others_values) = around(2, goes_on)

    assert first.counts.last_version == int(values[-1]) == (held[0] or 0)
    assert first.to_json() == other.to_json()
    for one, another in zip(values, others_values, strict=True):
        np.testing.assert_array_equal(one, another)


def restored_steps(supervisor) -> list[int]:
    return [one["step"] for one in supervisor.told if one["event"] == "restored"]


def test_a_checkpoint_continues_with_the_same_data_under_another_name(begin, supervisor, tmp_path):
    """The name of a folder of the cache is also of what does not matter: unused files, times, facesim's version."""
    stopped = SoftmaxRegression(begin("run"), stop_after=17)
    fit(stopped._context, stopped)
    context = begin("run")
    context.data = replace(context.data, directory=shutil.copytree(context.data.directory, tmp_path / "another"))

    fit(context, SoftmaxRegression(context))

    assert restored_steps(supervisor) == [17]


def test_a_checkpoint_of_other_data_is_refused_whatever_their_folder_is_called(begin):
    stopped = SoftmaxRegression(begin("run"), stop_after=3)
    fit(stopped._context, stopped)
    context = begin("run")
    context.data = replace(context.data, sha256="f" * 64)

    with pytest.raises(FacesimError, match=f"is of other data: .* SHA-256 {stopped._context.data.sha256}, .* f+; put"):
        fit(context, SoftmaxRegression(context))


def test_a_checkpoint_of_an_earlier_version_is_continued(begin, supervisor):
    """It names a folder of the cache, which that version called otherwise, and lacks options that are newer."""
    stopped = SoftmaxRegression(begin("run"), stop_after=17)
    fit(stopped._context, stopped)
    kept = Checkpoints(stopped._context.checkpoints, keep=1)
    checkpoint = kept.newest(lambda _, why: pytest.fail(why))
    del checkpoint.state["job"]["experiment"]["precision"]
    kept.save(17, checkpoint.variables, checkpoint.state | {"data": "3fa9" * 6})

    context = begin("run")
    fit(context, SoftmaxRegression(context))

    assert restored_steps(supervisor) == [17]


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


def continued(begin, *counts: tuple[float, int], at, save: bool = False) -> None:
    """A process of the chief's that begins to train, saves if asked to, records so many examples at these seconds, and
    is killed.
    """
    context = begin("run")
    manager = CheckpointManager(context, SoftmaxRegression(context), writes=True)
    state = manager.continued()
    if save:
        state.add(StepResult(1.0, 4, 8, 0, 0, 0))
        manager.save(state)
    for seconds, examples in counts:
        at(seconds)
        context.recorder.write({"examples": examples})


def lost(supervisor):
    return [(one["lost_examples"], one["lost_s"]) for one in supervisor.told if one["event"] == "restored"]


def test_what_was_lost_counts_once_however_often_the_task_is_killed(begin, at, supervisor):
    at(0)
    continued(begin, (10, 16), (60, 48), at=at, save=True)
    assert lost(supervisor) == []
    at(100)
    continued(begin, at=at)
    at(101)
    continued(begin, (121, 24), at=at)
    at(200)
    continued(begin, at=at)

    assert lost(supervisor) == [(40, 60.0), (0, 0.0), (16, 20.0)]


def test_without_a_checkpoint_what_was_lost_counts_once_too(begin, at, supervisor):
    at(0)
    continued(begin, (10, 16), (60, 48), at=at)
    at(100)
    continued(begin, (130, 24), at=at)
    at(200)
    continued(begin, at=at)

    assert lost(supervisor) == [(48, 50.0), (24, 30.0)]


@pytest.mark.parametrize("got_as_far_as", ["nothing", "to record"])
def test_training_that_begins_anew_is_told_also_where_nothing_was_lost(begin, at, supervisor, got_as_far_as):
    at(0)
    if got_as_far_as == "nothing":
        run = begin("run").run
        (run.metrics / "chief-0.jsonl").unlink()
        run.record("recovering", task="chief-0", restart=1, starting=["chief-0"])
    else:
        begin("run")

    continued(begin, at=at)

    assert lost(supervisor) == [(0, 0.0)]


def test_workers_that_average_now_and_then_tell_of_each_step(monkeypatch):
    told = list[str]()
    monkeypatch.setattr(updates, "progressed", lambda: told.append("step"))

    def average(found: list[int]) -> list[list[updates.Row]]:
        told.append("average")
        return [[(0.0, 1, 2)] for _ in found]

    batches = [np.arange(2)] * 5
    results = list(updates.averaged_updates(batches, 0, lambda *_: 0, average, steps=3, rank=0, count=1))

    assert [result.version for result in results] == list(range(5))
    assert told == ["step"] * 3 + ["average"] + ["step"] * 2 + ["average"]

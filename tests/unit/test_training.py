"""Batches, optimiser, step and evaluation in one process: the parts that every strategy shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesim.data import prepare
from facesim.training.batches import epoch_batches
from facesim.util.errors import InputError


@given(examples=st.integers(1, 200), batch=st.integers(1, 64), seed=st.integers(0, 5), epoch=st.integers(1, 3))
def test_an_epoch_s_batches_are_every_example_exactly_once(examples, batch, seed, epoch):
    indices = np.arange(examples) * 7 + 3

    batches = epoch_batches(indices, batch, seed, epoch)

    assert sorted(np.concatenate(batches)) == sorted(indices)
    assert [len(some) for some in batches[:-1]] == [batch] * (len(batches) - 1)
    assert 1 <= len(batches[-1]) <= batch


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else():
    def order(seed, epoch):
        return np.concatenate(epoch_batches(np.arange(50), 8, seed, epoch)).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


@pytest.mark.parametrize("name", ["Adam", "SGD", "SGD with momentum", "Lion"])
def test_fused_optimisers_are_keras_own(tf, name):
    import keras

    from facesim.training.tensorflow import optimizer as fused

    kind, options = name.split()[0], {"momentum": 0.9} if "momentum" in name else {}

    def trained(make):
        rng = np.random.default_rng(0)
        variables = [keras.Variable(rng.normal(size=shape).astype("float32")) for shape in ((4, 3), (3,))]
        optimizer = make(0.05, **options)
        optimizer.build(variables)
        for _ in range(25):
            optimizer.apply([tf.constant(rng.normal(size=v.shape).astype("float32")) for v in variables], variables)
        return [variable.numpy() for variable in optimizer.variables[2:] + variables], int(optimizer.iterations)

    theirs, their_count = trained(getattr(keras.optimizers, kind))
    ours, our_count = trained(getattr(fused, f"Fused{kind.capitalize()}"))

    assert our_count == their_count == 25
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_fused_adam_numbers_its_updates_and_follows_a_schedule(tf):
    import keras

    from facesim.training.tensorflow.optimizer import FusedAdam

    variable = keras.Variable(np.ones(2, "float32"))
    optimizer = FusedAdam(keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.0]))
    optimizer.build([variable])

    numbers = [int(optimizer.apply([tf.ones(2)], [variable])) for _ in range(4)]

    assert numbers == [0, 1, 2, 3]
    np.testing.assert_allclose(variable.numpy(), 1 - 0.2, rtol=1e-4)  # two updates at 0.1, then none


def test_weight_decay_is_adamw_s_and_leaves_alone_what_is_no_kernel(tf):
    import keras

    from facesim.training.tensorflow.optimizer import FusedAdam

    def trained(make):
        rng = np.random.default_rng(0)
        variables = [
            keras.Variable(rng.normal(size=shape).astype("float32"), name=name)
            for name, shape in (("kernel", (4, 3)), ("bias", (3,)))
        ]
        optimizer = make(0.05, weight_decay=0.1, global_clipnorm=0.5)
        optimizer.exclude_from_weight_decay(var_list=variables[1:])
        optimizer.build(variables)
        for _ in range(25):
            optimizer.apply([tf.constant(rng.normal(size=v.shape).astype("float32")) for v in variables], variables)
        return [variable.numpy() for variable in variables]

    for ours, theirs in zip(trained(FusedAdam), trained(keras.optimizers.AdamW)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_job_names_its_optimiser():
    from facesim.spec.job import make_job
    from facesim.training.keras.optimizer import make_optimizer
    from facesim.training.tensorflow.optimizer import FusedAdam, FusedLion, FusedSgd, optimizer_of

    def made(**options):
        job = make_job(**options)
        return make_optimizer(job, 10, optimizer_of(job.experiment))

    assert {name: type(made(optimizer=name)) for name in ("adam", "sgd", "lion")} == {
        "adam": FusedAdam,
        "sgd": FusedSgd,
        "lion": FusedLion,
    }
    assert made(optimizer="sgd", momentum=0.5).momentum == 0.5
    with pytest.raises(InputError, match="--optimizer sgd is for --framework tensorflow"):
        make_job(optimizer="sgd", framework="torch")


def test_a_job_in_float16_scales_its_loss_and_is_for_tensorflow(tf):
    from facesim.spec.job import make_job
    from facesim.training.keras.optimizer import LOSS_SCALE, make_optimizer
    from facesim.training.tensorflow.optimizer import FusedAdam

    scales = {
        precision: make_optimizer(make_job(precision=precision), 10, FusedAdam).loss_scale_factor
        for precision in ("float32", "bfloat16", "float16")
    }

    assert scales == {"float32": None, "bfloat16": None, "float16": LOSS_SCALE}
    message = "--precision float16 is for --framework tensorflow; torch has float32 and bfloat16"
    with pytest.raises(InputError, match=message):
        make_job(precision="float16", framework="torch")


def test_a_cosine_schedule_rises_in_the_warm_up_and_ends_at_nothing():
    from facesim.spec.job import make_job
    from facesim.training.keras.optimizer import make_optimizer
    from facesim.training.tensorflow.optimizer import FusedAdam

    job = make_job(learning_rate=0.1, schedule="cosine", warmup=0.2, epochs=10)
    optimizer = make_optimizer(job, 10, FusedAdam)

    rates = [float(optimizer._learning_rate(number)) for number in (0, 10, 20, 60, 100)]
    np.testing.assert_allclose(rates, [0, 0.05, 0.1, 0.05, 0], atol=1e-7)


def test_mirrored_evaluation_says_the_same_of_a_mirrored_image(tf):
    from facesim import models
    from facesim.training.evaluation import evaluate
    from facesim.training.tensorflow.evaluation import logits_function

    images, labels = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), np.uint8), np.arange(6, dtype=np.int32)
    logits_of = logits_function(models.build("compact-cnn", (32, 32, 3), 6), mirror=True)

    evaluations = [evaluate(logits_of, some, labels, np.arange(6)) for some in (images, images[:, :, ::-1])]
    assert evaluations[0] == pytest.approx(evaluations[1])


def test_a_step_learns_and_tells_what_it_was(tf):
    from facesim import models
    from facesim.spec.experiment import Experiment
    from facesim.training.protocols import StepResult
    from facesim.training.tensorflow.forward import forward_of
    from facesim.training.tensorflow.objective import loss_for
    from facesim.training.tensorflow.optimizer import FusedAdam
    from facesim.training.tensorflow.step import training_step

    rng = np.random.default_rng(0)
    images, labels = (
        tf.constant(rng.integers(0, 255, (12, 32, 32, 3), np.uint8)),
        tf.constant(np.arange(12) % 3, tf.int32),
    )
    model = models.build("compact-cnn", (32, 32, 3), 3)
    optimizer = FusedAdam(0.01)
    optimizer.build(model.trainable_variables)
    loss = loss_for(Experiment())

    results = [
        StepResult.unpack(training_step(forward_of(model), optimizer, loss, images, labels, tf.constant(5)).numpy())
        for _ in range(12)
    ]

    assert results[-1].loss_sum < results[0].loss_sum / 2
    assert [(r.examples, r.worker, r.version_read, r.version, r.staleness) for r in results[:2]] == [
        (12, 5, 0, 0, 0),
        (12, 5, 1, 1, 0),
    ]
    assert all(0 <= result.correct <= 12 for result in results)


def test_evaluation_is_the_same_for_any_grouping_of_examples(tf, monkeypatch):
    from facesim import models
    from facesim.training import evaluation
    from facesim.training.tensorflow.evaluation import logits_function

    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (20, 32, 32, 3), np.uint8), (np.arange(20) % 4).astype(np.int32)
    model = models.build("paper-cnn", (32, 32, 3), 4)
    whole = evaluation.evaluate(logits_function(model), images, labels, np.arange(20))
    monkeypatch.setattr(evaluation, "_BATCH", 7)
    parts = evaluation.evaluate(logits_function(model), images, labels, np.arange(20))

    assert parts.accuracy == whole.accuracy
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert 0 <= whole.accuracy <= 1


def test_what_workers_add_to_moving_statistics_at_the_same_time_is_all_kept(tf):
    """Both have read what there was before either has pushed; in one process, one comes after the other."""
    import keras

    from facesim.training.tensorflow.forward import served_forward_of

    def network():
        keras.utils.set_random_seed(1)
        shared = keras.layers.BatchNormalization(momentum=0.8)  # called twice
        first = keras.Sequential([shared, keras.layers.Dense(3), keras.layers.BatchNormalization(momentum=0.9)])
        inputs = keras.Input((3,))
        frozen = keras.layers.BatchNormalization(name="frozen")
        return keras.Model(inputs, frozen(first(shared(inputs)), training=False))

    batches = [tf.constant(np.random.default_rng(seed).normal(seed + 1, 2, (8, 3)), tf.float32) for seed in range(2)]
    alone, served = network(), network()
    for model in (alone, served):
        model.get_layer("frozen").moving_variance.assign([4.0, 4.0, 4.0])
    expected = [alone(batch, training=True) for batch in batches]

    done = [served_forward_of(served)(batch) for batch in batches]
    before = [variable.numpy() for variable in served.non_trainable_variables]
    for _, _, _, averages in done:
        for average in averages:
            average.apply()

    for (logits, *_), other in zip(done, expected):
        np.testing.assert_allclose(logits, other, rtol=1e-5, atol=1e-6)
    for value, other in zip(served.non_trainable_variables, alone.non_trainable_variables, strict=True):
        np.testing.assert_allclose(value.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
    assert sum(not np.allclose(old, new) for old, new in zip(before, served.non_trainable_variables)) == 4


def test_a_step_that_fails_while_its_result_is_on_the_way_fails_with_its_error(tf):
    from tensorflow.python.distribute.coordinator.values import RemoteValueImpl

    from facesim.training.tensorflow.parameter_server import fetched

    class Failing(RemoteValueImpl):
        def _copy_to_local(self):
            self._set_error(tf.errors.UnavailableError(None, None, "gone"))  # which the coordinator's thread does
            return super()._copy_to_local()

    result = Failing(None, None)
    result._set_values(tf.constant(1))

    with pytest.raises(tf.errors.UnavailableError, match="gone"):
        fetched(result)


def test_a_result_whose_worker_is_lost_while_it_is_on_the_way_is_that_of_another_worker(tf):
    from tensorflow.python.distribute.coordinator.values import RemoteValueImpl

    from facesim.training.tensorflow.parameter_server import fetched

    class Lost(RemoteValueImpl):
        lost = True

        def _copy_to_local(self):
            if self.lost:
                self.lost = False
                self._set_values(tf.constant(2))  # which the coordinator's thread does, from another worker
                raise tf.errors.UnavailableError(None, None, "failed to connect to all addresses")
            return self._values

    result = Lost(None, None)
    result._set_values(tf.constant(1))

    assert fetched(result) == 2


def test_an_iterator_of_examples_has_no_thread_that_tunes_it(tf, faces, cache):
    """It sleeps longer and longer, and whoever ends the iterator, as a task at its end, waits until it is awake."""
    from facesim.training.tensorflow.pipeline import ExampleSource

    source = ExampleSource(prepare(str(faces), image_size=32, cache_dir=cache), "memory")

    assert source.dataset().options().autotune.enabled is False

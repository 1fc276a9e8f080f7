"""Dropout by few random bits, and what the workers of parameter servers draw."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="module")
def dropout(tf):
    from facesim.training.tensorflow.dropout import dropout

    return dropout


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.3, 0.01, 0.999])
def test_so_many_units_are_dropped_and_their_mean_is_kept(tf, dropout, rate):
    units = 1_000_001  # no multiple of the numbers in a word
    drawn = dropout(tf.ones((units,)), rate, seed=3).numpy()
    spread = (rate * (1 - rate) / units) ** 0.5
    assert np.mean(drawn == 0) == pytest.approx(rate, abs=4 * spread)
    assert drawn.max() == pytest.approx(1 / (1 - rate), rel=0.01)
    assert drawn.mean() == pytest.approx(1, abs=4 * spread / (1 - rate))


def test_neighbours_are_dropped_independently(tf, dropout):
    dropped = dropout(tf.ones((1_000_000,)), 0.5, seed=4).numpy() == 0
    for distance in (1, 2, 4, 7, 8, 16, 256):
        assert np.corrcoef(dropped[:-distance], dropped[distance:])[0, 1] == pytest.approx(0, abs=0.005)


def test_a_seed_decides_what_is_dropped(tf, dropout):
    first, again, other = (dropout(tf.ones((4, 5, 6, 7)), 0.5, seed=n).numpy() for n in (5, 5, 6))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
def test_the_gradient_is_dropped_alike(tf, dropout, kind):
    units = tf.cast(tf.range(1, 1001), kind)
    with tf.GradientTape() as tape:
        tape.watch(units)
        kept = dropout(units, 0.25, seed=7)
    gradient = tape.gradient(kept, units)
    assert kept.dtype == gradient.dtype == tf.as_dtype(kind)
    assert np.array_equal(gradient.numpy() == 0, kept.numpy() == 0)
    assert set(np.unique(gradient.numpy().astype(np.float32))) == {0.0, float(tf.cast(4 / 3, kind))}


def test_axes_may_share_their_fate(tf, dropout):
    drawn = dropout(tf.ones((8, 9, 10)), 0.5, noise_shape=(None, 1, 10), seed=8).numpy()
    assert np.array_equal(drawn, np.broadcast_to(drawn[:, :1], drawn.shape)) and 0 < np.mean(drawn == 0) < 1


def test_nothing_and_all_may_be_dropped(tf, dropout):
    units = tf.ones((100,))
    assert np.array_equal(dropout(units, 0.0, seed=9), units)
    assert not dropout(units, 1.0, seed=9).numpy().any()


def test_the_size_of_a_batch_may_be_unknown(tf, dropout):
    drop = tf.function(
        lambda units: dropout(units, 0.25, seed=10),
        input_signature=[tf.TensorSpec((None, 3), tf.float32)],
    )
    assert drop.get_concrete_function().structured_outputs.shape.as_list() == [None, 3]
    assert drop(tf.ones((5, 3))).shape == (5, 3)


def test_tasks_load_it_with_tensorflow(tf):
    import facesim.training.tensorflow.preload  # noqa: F401  # isort: skip  before TensorFlow imports Keras
    from keras.src.backend.tensorflow import random

    from facesim.training.tensorflow import dropout

    assert random.dropout is dropout.dropout


@pytest.fixture(scope="module")
def served(tf):
    """What a worker's forward pass makes of ones, which are dropped in two layers, one of them called twice."""
    import keras

    from facesim.training.tensorflow.forward import served_forward_of

    images = keras.Input((500,))
    dropped = keras.layers.Dropout(0.5, seed=1)
    twice = keras.layers.Concatenate()([dropped(images), dropped(images), keras.layers.Dropout(0.5, seed=2)(images)])
    model = keras.Model(images, twice)
    forward = served_forward_of(model)

    def passed(worker: int, version: int) -> np.ndarray:
        return forward(tf.ones((1, 500)), drawing=tf.constant((worker, version), tf.int64)).logits.numpy().ravel()

    return model, passed


def test_what_a_worker_draws_follows_from_its_number_and_the_version(served):
    _, passed = served
    assert np.array_equal(passed(0, 7), passed(0, 7))
    draws = [draw for each in ((0, 7), (1, 7), (0, 8), (1, 8)) for draw in np.split(passed(*each), 3)]
    alike = np.corrcoef(draws)[np.triu_indices(len(draws), 1)]
    assert np.abs(alike).max() < 0.25  # five standard deviations


def test_counters_of_random_generators_are_not_written_by_workers(served):
    model, passed = served
    before = [variable.numpy().tolist() for variable in model.non_trainable_variables]
    passed(0, 1)
    assert before == [variable.numpy().tolist() for variable in model.non_trainable_variables] == [[1, 0], [2, 0]]


def test_each_replica_of_a_process_draws_for_itself(tf):
    from facesim.training.tensorflow.network import KerasReplicas

    seeds, weights = ([tf.Variable(value) for _ in range(3)] for value in (np.array([1, 0], np.uint32), [1.0, 0.0]))
    replicas = object.__new__(KerasReplicas)
    for copies, path in ((seeds, "dropout/seed_generator_state"), (weights, "dense/kernel")):
        held = copies[0].numpy()
        variable = SimpleNamespace(path=path, value=SimpleNamespace(values=copies))
        replicas.set_value(variable, (held + 4).astype(held.dtype))

    assert [copy.numpy().tolist() for copy in seeds] == [[5, 4], [6, 5], [7, 6]]
    assert [copy.numpy().tolist() for copy in weights] == [[5, 4]] * 3

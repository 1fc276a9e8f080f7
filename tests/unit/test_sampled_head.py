"""A head of which an update computes some identities alone: which ones, and that nothing else is touched."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from facesim.models.sampling import ClassSampler, sample_size
from facesim.preflight.head import check_head
from facesim.spec.job import make_job
from facesim.spec.strategies import Single
from facesim.util.errors import InputError

IDENTITIES, BATCH = 50, 6
LABELS = np.array([3, 17, 17, 49, 0, 3], np.int32)
IMAGES = np.random.default_rng(0).integers(0, 255, (BATCH, 8, 8, 1), np.uint8)


def test_an_update_s_classes_are_those_of_its_examples_and_some_others():
    classes = ClassSampler(IDENTITIES, 20, seed=1)(LABELS, 5)

    assert len(classes) == 20
    assert np.all(np.diff(classes) > 0)
    assert set(LABELS) < set(classes)


def test_the_same_seed_and_update_have_the_same_classes_and_others_have_others():
    def of(seed, update):
        return ClassSampler(1000, 100, seed)(LABELS, update).tolist()

    assert of(1, 5) == of(1, 5)
    assert of(1, 5) != of(1, 6)
    assert of(1, 5) != of(2, 5)


def test_every_identity_comes_as_often_as_any_other():
    times = np.zeros(IDENTITIES)
    for update in range(500):
        times[ClassSampler(IDENTITIES, 10, seed=0)(LABELS[:0], update)] += 1

    assert times.min() > 60
    assert times.max() < 140


def test_there_is_room_for_everybody_in_a_batch():
    assert sample_size(100_000, 0.1, 128) == 10_000
    assert sample_size(1000, 0.01, 64) == 64
    assert sample_size(29, 0.1, 64) == 29
    assert set(range(30)) == set(ClassSampler(IDENTITIES, 8, seed=0)(np.arange(30), 0))  # a batch larger than planned


def test_what_cannot_train_a_sampled_head_is_refused_with_what_can():
    class Other(Single):
        name: Literal["other"] = "other"
        sampled_heads = False

    job = make_job(head="partial-fc")

    check_head(job)
    check_head(make_job(framework="torch", head="arcface"))
    with pytest.raises(InputError, match=r"--framework torch cannot train --head partial-fc.*use --framework tensorf"):
        check_head(make_job(framework="torch", head="partial-fc"))
    with pytest.raises(InputError, match=r"--strategy other cannot train --head partial-fc.*single, mirrored, ps-as"):
        check_head(job.model_copy(update={"strategy": Other()}))


def network(sampled: bool):
    """A network without parameters but its head's: images are their own embedding."""
    import keras

    from facesim.models.heads import logits

    images = keras.Input((8, 8, 1), dtype="uint8")
    features = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255, offset=-0.5)(images))
    return keras.Model(images, logits(features, IDENTITIES, 30.0, sampled))


def trained(model, classes_of, updates: int = 3, **options) -> list[np.ndarray]:
    """The centres, a row for each identity, before each update and after the last, and then their moments."""
    import tensorflow as tf

    from facesim.training.keras.optimizer import make_optimizer
    from facesim.training.tensorflow.forward import forward_of
    from facesim.training.tensorflow.objective import loss_for
    from facesim.training.tensorflow.optimizer import optimizer_of
    from facesim.training.tensorflow.pipeline import index_batch
    from facesim.training.tensorflow.step import compiled, training_step

    job = make_job(head="partial-fc", learning_rate=0.01, **options)
    optimizer = make_optimizer(job, 1, optimizer_of(job.experiment))
    optimizer.build(model.trainable_variables)
    forward, loss = forward_of(model), loss_for(job.experiment)

    @compiled
    def step(indices, labels, *classes):
        images = tf.gather(tf.constant(IMAGES), indices)
        return training_step(forward, optimizer, loss, images, labels, tf.constant(0), classes=classes)

    seen = [model.layers[-1].centres().numpy().T]
    for update in range(updates):
        step(*index_batch(np.arange(BATCH), LABELS, *classes_of(update)))
        seen.append(np.asarray(model.layers[-1].centres()).T)
    return [*seen, *(kept[0].numpy() for kept in optimizer.moments())]


def test_an_update_changes_the_centres_and_moments_of_its_classes_alone():
    chosen = ClassSampler(IDENTITIES, 12, seed=0)(LABELS, 0)

    before, after, momentum, velocity = trained(
        network(sampled=True), lambda _: [chosen], updates=1, weight_decay=0.1, clip_norm=0.5
    )

    for changed in (before != after, momentum != 0, velocity != 0):
        assert np.flatnonzero(changed.any(axis=1)).tolist() == chosen.tolist()


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "weight_decay": 0.1, "clip_norm": 0.5},
        {"optimizer": "sgd", "momentum": 0.9},
        {"optimizer": "sgd", "momentum": 0.0},
        {"optimizer": "lion", "weight_decay": 0.1, "label_smoothing": 0.1},
    ],
)
def test_with_everybody_in_the_sample_it_trains_as_the_whole_head_does(options):
    sampled, whole = network(sampled=True), network(sampled=False)
    whole.layers[-1].kernel.assign(sampled.layers[-1].kernel.numpy().T)
    everybody = ClassSampler(IDENTITIES, IDENTITIES, seed=0)

    by_sample = trained(sampled, lambda update: [everybody(LABELS, update)], **options)[:4]
    at_once = trained(whole, lambda _: [], **options)[:4]

    assert np.abs(at_once[-1] - at_once[0]).max() > 1e-3
    for one, other in zip(by_sample, at_once, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_what_it_says_of_images_does_not_depend_on_a_sample():
    sampled, whole = network(sampled=True), network(sampled=False)
    whole.layers[-1].kernel.assign(sampled.layers[-1].kernel.numpy().T)

    np.testing.assert_allclose(sampled(IMAGES), whole(IMAGES), atol=1e-5)


def test_rows_of_a_split_variable_are_read_from_the_pieces_that_have_them():
    import tensorflow as tf

    from facesim.training.tensorflow.partition import rows_of

    class Split:
        value = tf.__internal__.distribute.ShardedVariable(
            [tf.Variable(tf.reshape(tf.range(8.0), (4, 2))), tf.Variable(tf.reshape(tf.range(8.0, 12.0), (2, 2)))]
        )
        shape = (6, 2)

    with tf.GradientTape() as tape:
        rows = rows_of(Split, tf.constant([1, 3, 5]))
        total = tf.reduce_sum(rows)

    np.testing.assert_array_equal(rows, [[2, 3], [6, 7], [10, 11]])
    gradients = tape.gradient(total, Split.value.variables)
    assert [gradient.indices.numpy().tolist() for gradient in gradients] == [[1, 3], [1]]

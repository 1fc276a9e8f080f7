"""What a stratified split promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesim.data.parts import kept_split
from facesim.data.splits import stratified_split
from facesim.util.errors import InputError

counts = st.lists(st.integers(2, 40), min_size=1, max_size=12)
shares = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**31)


def labels_of(images_of: list[int], seed: int) -> np.ndarray:
    """Interleaved labels: identity i has images_of[i] images."""
    labels = np.repeat(np.arange(len(images_of)), images_of)
    return np.random.default_rng(seed).permutation(labels)


@given(counts, shares, seeds)
def test_every_image_is_in_one_part_and_every_identity_in_both(images_of, held_out, seed):
    labels = labels_of(images_of, seed)

    train, test = stratified_split(labels, held_out, seed)

    assert train.dtype == test.dtype == np.int64
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(labels)))
    assert np.all(np.diff(train) > 0) and np.all(np.diff(test) > 0)
    for identity, images in enumerate(images_of):
        held = np.sum(labels[test] == identity)
        assert 1 <= held <= images - 1
        assert abs(held - held_out * images) <= 0.5 or held in (1, images - 1)


@given(counts, shares, seeds)
def test_who_else_is_there_does_not_matter(images_of, held_out, seed):
    labels = labels_of(images_of, seed)
    alone = labels[labels == 0]

    _, test = stratified_split(labels, held_out, seed)
    _, test_alone = stratified_split(alone, held_out, seed)

    images = np.flatnonzero(labels == 0)
    assert np.array_equal(test[labels[test] == 0], images[test_alone])


@given(counts, shares, seeds)
def test_an_identity_draws_from_its_images_by_the_seed_and_its_label(images_of, held_out, seed):
    """Runs that were split so before have to go on with the same images."""
    labels = 3 * labels_of(images_of, seed).astype(np.int32)

    _, test = stratified_split(labels, held_out, seed)

    for label in np.unique(labels):
        images = np.random.default_rng([seed, int(label)]).permutation(np.flatnonzero(labels == label))
        held = test[labels[test] == label]
        assert np.array_equal(held, np.sort(images[: len(held)]))


@pytest.mark.timeout(20)  # looked for one by one among all images, they take several times that
def test_many_people_are_split_in_seconds():
    labels = np.tile(np.arange(60_000), 30)

    train, test = stratified_split(labels, 0.1, seed=0)

    assert (len(train), len(test)) == (27 * 60_000, 3 * 60_000)


def test_the_paper_s_size():
    train, test = stratified_split(np.repeat(np.arange(29), 15), 0.2, seed=0)

    assert (len(train), len(test)) == (29 * 12, 29 * 3)


def test_the_seed_decides():
    labels = np.repeat(np.arange(5), 10)

    first, again, other = (stratified_split(labels, 0.3, seed)[1] for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_identities_of_one_size_are_not_split_alike():
    _, test = stratified_split(np.repeat(np.arange(20), 10), 0.3, seed=0)

    assert len({tuple(images % 10) for images in test.reshape(20, 3)}) > 10


@pytest.mark.parametrize(
    ("labels", "held_out", "seed", "message"),
    [
        ([0, 0, 1, 1], 0.0, 0, "held_out"),
        ([0, 0, 1, 1], 1.0, 0, "held_out"),
        ([0, 0, 1, 1], float("nan"), 0, "held_out"),
        ([0, 0, 1], 0.5, 0, "identity 1 has one image"),
        ([0, 0], 0.5, -1, "seed"),
        ([], 0.5, 0, "labels"),
        ([0.0, 0.0], 0.5, 0, "labels"),
        ([[0, 0]], 0.5, 0, "labels"),
        ([-1, -1], 0.5, 0, "labels"),
    ],
)
def test_values_that_cannot_be_used(labels, held_out, seed, message):
    with pytest.raises(InputError, match=message):
        stratified_split(np.array(labels), held_out, seed)


@pytest.mark.parametrize(("parts", "told"), [([0, 0, 0, 0], False), ([-1] * 4, False), ([0, 0, -1, -1], True)])
def test_one_part_beside_images_of_none_is_told(parts, told):
    """A column `split` with train and holdout is no split that is known, and must not vanish."""
    kept, notes = kept_split(parts, "own", "faces")

    assert kept is None
    assert [("(train 2), and 2 images are of none" in note) for note in notes] == [True] * told

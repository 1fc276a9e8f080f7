"""The part of the training images that settings are chosen by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesim.data.splits import split_of, stratified_split
from facesim.spec.data import DataSpec
from facesim.util.errors import InputError


@given(
    counts=st.lists(st.integers(2, 9), min_size=1, max_size=6),
    held_out=st.floats(0.05, 0.6),
    validation=st.floats(0.05, 0.9),
    seed=st.integers(0, 50),
)
def test_it_is_apart_from_the_held_out_images_and_from_what_is_trained_on(counts, held_out, validation, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    would_train, reserved = stratified_split(labels, held_out, seed)
    spec = DataSpec(held_out=held_out, validation=validation, seed=seed)

    if (np.bincount(labels[would_train]) < 2).all():
        with pytest.raises(InputError, match="needs people with two images to train on"):
            split_of(labels, spec)
        return
    trained, validated = split_of(labels, spec)

    assert len(validated) and not set(trained) & set(validated)
    assert sorted([*trained, *validated]) == would_train.tolist()
    assert not {*trained, *validated} & set(reserved)
    assert set(labels[trained]) == set(labels)  # everybody is trained on
    assert (np.diff(trained) > 0).all() and (np.diff(validated) > 0).all()


def test_without_validation_nothing_changes():
    labels = np.repeat(np.arange(5), 10)

    for one, other in zip(split_of(labels, DataSpec(seed=3)), stratified_split(labels, 0.2, 3), strict=True):
        assert one.tolist() == other.tolist()

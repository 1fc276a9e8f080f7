"""A part of a data set: chosen by the seed, the smaller in the larger, prepared like any other data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesim.data import prepare
from facesim.data.subsets import choose, take_subset
from facesim.spec.job import Job, make_job
from facesim.spec.subset import Subset
from facesim.util.errors import InputError


@given(
    counts=st.lists(st.integers(2, 9), min_size=3, max_size=8),
    seed=st.integers(0, 3),
    parts=st.tuples(st.integers(2, 3), st.integers(2, 9)),
)
def test_a_larger_subset_contains_the_smaller(counts, seed, parts):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    identities, images = parts[0], min(parts[1], max(counts))

    smaller = choose(labels, Subset(identities, images), seed)
    larger = choose(labels, Subset(min(identities + 1, len(counts)), min(images + 1, max(counts))), seed)

    assert set(smaller) <= set(larger)
    assert len(np.unique(labels[smaller])) == identities
    given_by = np.bincount(labels[smaller], minlength=len(counts))
    assert all(given in (0, min(images, count)) for given, count in zip(given_by, counts))


@given(counts=st.lists(st.integers(2, 9), min_size=2, max_size=8), seed=st.integers(0, 3), own_split=st.booleans())
def test_people_and_their_images_are_drawn_by_the_seed_and_their_labels(counts, seed, own_split):
    """Subsets that were drawn so before have to be the same."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(3 * np.arange(len(counts)), counts)).astype(np.int32)
    parts = np.where(np.isin(np.arange(len(labels)), np.unique(labels, return_index=True)[1]), 2, 0).astype(np.int8)
    counted = np.full(len(labels), True) if not own_split else parts == 0

    chosen = choose(labels, Subset(2, 1), seed, parts if own_split else None)

    people = np.random.default_rng([seed, 0x5B5E7]).permutation(np.unique(labels[counted]))[:2]
    drawn = [
        np.random.default_rng([seed, 0x5B5E7, int(label)]).permutation(np.flatnonzero(counted & (labels == label)))[:1]
        for label in people
    ]
    tested = np.flatnonzero(~counted & np.isin(labels, people))
    assert chosen.dtype == np.int64
    assert chosen.tolist() == sorted(np.concatenate([*drawn, tested]).tolist())


def test_the_seed_chooses_and_nothing_else_does():
    labels = np.repeat(np.arange(20), 5)

    def chosen(seed):
        return choose(labels, Subset(4, 3), seed).tolist()

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (Subset(21, None), "identities=21 is more than there is: the data has 20 identities"),
        (Subset(None, 6), "images=6 is more than there is: the data has no identity with more than 5"),
    ],
)
def test_a_subset_larger_than_the_data_is_told_with_what_there_is(subset, message):
    with pytest.raises(InputError, match=message):
        choose(np.repeat(np.arange(20), 5), subset, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("identities=1", "identities=1 is too few: two or more"),
        ("images=1", "images=1 is too few: two or more, one to train on and one to test on"),
        ("people=5", "must be identities=N,images=M, one of the two, or all"),
        ("images=5,images=6", "must be identities=N,images=M"),
        ("", "must be identities=N,images=M"),
        ("images=-5", "must be identities=N,images=M"),
    ],
)
def test_a_text_that_is_no_subset_is_told_with_the_option(text, message):
    with pytest.raises(InputError, match=f"--subset '{text}' is not allowed: {message}"):
        make_job(subset=text)


def test_a_job_keeps_a_subset_in_one_spelling_and_everything_is_none():
    job = make_job(subset=" images=5, identities = 20 ")

    assert job.experiment.subset == "identities=20,images=5"
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert make_job(subset="all") == make_job()


def test_a_prepared_subset_is_those_images_under_their_names(faces, cache):
    whole = prepare(str(faces), image_size=32, cache_dir=cache)

    part = take_subset(whole, Subset(3, 4), seed=1)

    indices = choose(whole.labels, Subset(3, 4), 1)
    np.testing.assert_array_equal(part.images, whole.images[indices])
    assert [part.names[label] for label in part.labels] == [whole.names[label] for label in whole.labels[indices]]
    assert np.bincount(part.labels).tolist() == [4, 4, 4]
    part.verify()
    assert take_subset(whole, Subset(3, 4), seed=1).directory == part.directory
    assert take_subset(whole, Subset(3, 4), seed=2).directory != part.directory


def test_a_subset_has_the_names_and_places_that_there_are_now(photo, tmp_path):
    for name in ("Ana", "Bo", "Cy"):
        for number in range(3):
            photo(f"faces/{name}/{number}.png")

    def part():
        whole = prepare(str(tmp_path / "faces"), image_size=32, cache_dir=tmp_path / "cache")
        return take_subset(whole, Subset(None, 2), seed=1)

    before = part()
    (tmp_path / "faces/Ana").rename(tmp_path / "faces/Al")
    after = part()

    assert (before.names, after.names) == (("Ana", "Bo", "Cy"), ("Al", "Bo", "Cy"))
    assert after.sha256 == before.sha256
    assert {origin.split("/")[0] for origin in after.origins} == {"Al", "Bo", "Cy"}

"""The protocols against cases that were worked out by hand."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesim.recognition import protocols
from facesim.recognition.pairs import disjoint_pairs, find_lfw_images, read_lfw_pairs
from facesim.recognition.protocols import best_threshold, closed_set, identification, similarities, verification
from facesim.util.errors import InputError


def at(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_balanced_accuracy_counts_each_identity_the_same():
    result = closed_set(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 0]))

    assert result == (6, pytest.approx(5 / 6), pytest.approx((1 + 0.5) / 2))
    assert closed_set(np.array([7, 2, 7]), np.array([7, 7, 2])).balanced_accuracy == (0.5 + 0) / 2


def test_cmc_counts_the_ranks_at_which_probes_are_found():
    # Identity 7 at 0 and 180 degrees, 8 at 60, 9 at 100.
    gallery, labels = at(0, 60, 100, 180), np.array([7, 8, 9, 7])

    # 10 is nearest to 7; 85 to 9, though of 8; 40 to 8, though of 9, with 7 next.
    result = identification(gallery, labels, at(10, 85, 40, 175), np.array([7, 8, 9, 7]))

    assert result.rank_1 == 2 / 4
    np.testing.assert_allclose(result.cmc, [2 / 4, 3 / 4, 4 / 4])
    assert (result.gallery_identities, result.probes) == (3, 4)


def test_a_network_that_finds_all_images_alike_identifies_nobody():
    result = identification(np.zeros((4, 8)), np.array([0, 0, 1, 1]), np.zeros((2, 8)), np.array([0, 1]))

    np.testing.assert_array_equal(result.cmc, [0, 1])
    np.testing.assert_array_equal(result.ranks, [1, 1])


def test_a_large_gallery_is_looked_through_some_probes_at_a_time(monkeypatch):
    random = np.random.default_rng(0)
    labels, probe_labels = random.permutation(np.arange(60) % 20 * 3), np.arange(20) * 3
    gallery, probes = random.normal(size=(60, 8)), random.normal(size=(20, 8))
    cosines = probes @ gallery.T
    each = np.stack([cosines[:, labels == one].max(axis=1) for one in probe_labels], axis=1)
    own = np.diag(each)

    monkeypatch.setattr(protocols, "_BLOCK", 200)  # three probes
    ranked, found = identification(gallery, labels, probes, probe_labels), similarities(gallery, labels, probes)

    np.testing.assert_allclose(found, each)
    np.testing.assert_array_equal(ranked.ranks, (each > own[:, None]).sum(axis=1))
    np.testing.assert_allclose(ranked.own, own)
    np.testing.assert_allclose(ranked.closest_other, np.where(np.eye(20), -np.inf, each).max(axis=1))


def test_a_gallery_with_one_image_is_refused():
    with pytest.raises(InputError, match="1 image.* of 1 identity; identification needs two"):
        identification(at(0), np.array([1]), at(0), np.array([1]))


def test_a_probe_of_nobody_in_the_gallery_is_refused():
    with pytest.raises(InputError, match="of the probes' identities 1 is not in the gallery"):
        identification(at(0, 90), np.array([1, 2]), at(0, 5), np.array([1, 3]))


def test_verification_takes_each_fold_s_threshold_from_the_others():
    # Fold 0 is sorted by any threshold in (0.4, 0.6), fold 1 by one in (0.6, 0.8).
    similarity = np.array([0.6, 0.4, 0.8, 0.6])
    same = np.array([True, False, True, False])

    result = verification(similarity, same, np.array([0, 0, 1, 1]))

    # Fold 0 with fold 1's threshold, 0.7: its genuine pair is lost; fold 1 with fold 0's, 0.5: an impostor is accepted.
    assert result.accuracy == 0.5
    assert result.accuracy_se == 0
    assert (result.genuine_pairs, result.impostor_pairs) == (2, 2)
    assert result.auc == pytest.approx((1 + 1 + 1 + 0.5) / 4)  # of four comparisons three are right, one is a tie


def test_equal_error_rate_of_a_known_roc():
    # 20 impostors at 0.00 ... 0.95; genuine ones above all but 2, 4, ... of them.
    impostors = np.arange(20) / 20
    genuine = np.array([0.975, 0.975, 0.875, 0.775])
    similarity, same = np.concatenate([impostors, genuine]), np.arange(24) >= 20

    result = verification(similarity, same, np.arange(24) % 2)

    np.testing.assert_allclose(np.interp([0.0, 0.1, 0.2], result.far, result.tar), [0.5, 0.75, 1.0])
    # 3 of 4 genuine pairs are accepted at far 0.1 up to just before 0.2, where the fourth is: far meets 1 - tar there.
    assert result.eer == pytest.approx(0.2)
    assert result.auc == pytest.approx((20 + 20 + 18 + 16) / 80)


def test_pairs_of_one_kind_are_refused():
    with pytest.raises(InputError, match="got 4 and 0 in 2"):
        verification(np.ones(4), np.ones(4, bool), np.arange(4) % 2)


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30))
def test_no_threshold_sorts_more_pairs_rightly_than_the_best(pairs):
    similarity, same = np.array([s / 7 for s, _ in pairs]), np.array([s for _, s in pairs])

    def right(threshold):
        return np.sum((similarity >= threshold) == same)

    assert right(best_threshold(similarity, same)) == max(right(t) for t in [*similarity, 2.0])


@given(identities=st.integers(4, 30), images=st.integers(2, 6), seed=st.integers(0, 3))
def test_folds_share_no_identity_and_pairs_are_what_they_say(identities, images, seed):
    labels = np.repeat(np.arange(identities) * 3, images)

    pairs = disjoint_pairs(labels, seed, most=20)

    assert len(np.unique(pairs.fold)) == min(10, identities // 2)
    assert (pairs.same == (labels[pairs.first] == labels[pairs.second])).all()
    assert (pairs.first != pairs.second).all()
    assert len(set(zip(pairs.first.tolist(), pairs.second.tolist()))) == len(pairs.first)
    people = [set(labels[np.r_[pairs.first, pairs.second][np.r_[pairs.fold, pairs.fold] == f]]) for f in range(10)]
    assert sum(map(len, people)) == len(set().union(*people))
    for fold in np.unique(pairs.fold):
        inside = pairs.same[pairs.fold == fold]
        assert 0 < inside.sum() == (~inside).sum() <= 20


@given(labels=st.lists(st.integers(0, 5), min_size=8, max_size=40), seed=st.integers(0, 3))
def test_pairs_are_drawn_as_from_a_list_of_all(labels, seed):
    labels = np.array([*range(6), *range(6), *labels])
    random = np.random.default_rng(seed)
    drawn = []
    for members in np.array_split(random.permutation(6), 3):
        images = np.flatnonzero(np.isin(labels, members))
        first, second = (images[side] for side in np.triu_indices(len(images), 1))
        same = labels[first] == labels[second]
        count = min(20, same.sum(), (~same).sum())
        for kind in (same, ~same):
            at = random.choice(np.flatnonzero(kind), count, replace=False)
            drawn += zip(first[at].tolist(), second[at].tolist(), same[at].tolist())

    pairs = disjoint_pairs(labels, seed, most=20)

    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist())) == drawn


def test_pairs_of_many_images_are_drawn_without_a_list_of_all():
    tracemalloc.start()
    pairs = disjoint_pairs(np.arange(20_000) % 40, 0)  # 2 million pairs a fold
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(pairs.same) == 10 * 2 * 300
    assert most_bytes < 10e6


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 1, 1, 2, 2], "there are 3"),
        ([0, 1, 2, 3], "two images or more of some identities, .* 0 of the 4 identities here have two"),
        ([0, 0, 1, 2, 3], "1 of the 4 identities here has two"),
    ],
)
def test_too_few_people_or_images_to_verify_are_told(labels, message):
    with pytest.raises(InputError, match=message):
        disjoint_pairs(np.array(labels), 0)


PAIRS = "2\t1\nAda_B\t1\t2\nAda_B\t1\tCy\t3\nCy\t1\t3\nCy\t1\tAda_B\t2\n"


def test_a_pairs_file_is_read_as_lfw_publishes_it(tmp_path, photo):
    (tmp_path / "pairs.txt").write_text(PAIRS)
    for name, number in (("Ada_B", 1), ("Ada_B", 2), ("Cy", 1), ("Cy", 3)):
        photo(f"lfw/lfw/{name}/{name}_{number:04}.png")

    files, pairs = find_lfw_images(read_lfw_pairs(tmp_path / "pairs.txt"), tmp_path / "lfw")

    named = [(files[one].stem, files[two].stem) for one, two in zip(pairs.first, pairs.second)]
    assert named == [
        ("Ada_B_0001", "Ada_B_0002"),
        ("Ada_B_0001", "Cy_0003"),
        ("Cy_0001", "Cy_0003"),
        ("Cy_0001", "Ada_B_0002"),
    ]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.fold.tolist() == [0, 0, 1, 1]


def test_a_pairs_file_of_one_fold_says_only_how_many(tmp_path):
    (tmp_path / "pairsDevTest.txt").write_text("1\nAda\t1\t2\nAda\t1\tBo\t1\n")

    assert [(pair.same, pair.fold) for pair in read_lfw_pairs(tmp_path / "pairsDevTest.txt")] == [(True, 0), (False, 0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a pairs file"),
        ("people\n", "is not a pairs file"),
        (PAIRS + "Cy\t1\t2\n", "says 2 x 2 x 1 pair and 5 follow"),
        (PAIRS.replace("Cy\t1\t3", "Cy\t1"), "line 4: 2 columns instead of 3"),
        (PAIRS.replace("Cy\t1\t3", "Cy\tone\t3"), "line 4: .*'one'"),
        (PAIRS.replace("2\t1\n", "-2\t-1\n", 1), "-2 folds of -1 pairs"),
        ("1\nAda\t1\t2\nAda\t1\tAda\t3\n", "line 3: Ada twice, among the pairs of different people"),
    ],
)
def test_a_damaged_pairs_file_is_told_with_the_line(tmp_path, content, message):
    (tmp_path / "pairs.txt").write_text(content)

    with pytest.raises(InputError, match=message):
        read_lfw_pairs(tmp_path / "pairs.txt")


def test_pairs_that_name_missing_images_are_told(tmp_path, photo):
    (tmp_path / "pairs.txt").write_text(PAIRS)
    photo("lfw/Cy/Cy_0001.png")

    with pytest.raises(InputError, match="lacks 3 of the 4 images that the pairs name, among them Ada_B_0001"):
        find_lfw_images(read_lfw_pairs(tmp_path / "pairs.txt"), tmp_path / "lfw")

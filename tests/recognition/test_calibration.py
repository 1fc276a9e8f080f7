"""Thresholds for a false accept rate, against cases that were worked out by hand and against people drawn at random."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from facesim.recognition.calibration import Trials, all_pairs, calibrated, check_told, open_set
from facesim.recognition.protocols import identification
from facesim.util.errors import InputError

#: 20 impostors at 0.00 ... 0.95, and four genuine ones.
KNOWN = Trials(np.concatenate([np.arange(20) / 20, [0.975, 0.97, 0.875, 0.775]]), np.arange(24) >= 20, None)


def people(count: int, images: int, seed: int, spread: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings and labels of so many people."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), images)
    vectors = random.normal(size=(count, 12))[labels] + spread * random.normal(size=(len(labels), 12))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def test_a_threshold_accepts_as_many_impostors_as_allowed_and_lies_midway_to_what_comes_next():
    points = {point.far: point for point in calibrated(KNOWN, [0.5, 1]).points}
    half, everything = points[0.5], points[1]

    assert (half.false_accept_rate, half.true_accept_rate) == (0.5, 1.0)
    assert half.threshold == pytest.approx((0.45 + 0.5) / 2)
    assert (everything.threshold, everything.false_accept_rate) == (0.0, 1.0)


def test_equal_similarities_are_all_refused_where_not_all_are_allowed():
    equal = Trials(np.array([0.5] * 30 + [0.1] * 10 + [0.9]), np.arange(41) == 40, None)

    point, *_ = calibrated(equal, [0.5]).points

    assert (point.threshold, point.false_accept_rate) == (pytest.approx(0.7), 0.0)
    assert point.far_low == pytest.approx(0, abs=1e-9) and point.far_high == pytest.approx(0.0876, abs=1e-3)


def test_a_false_accept_rate_that_the_trials_cannot_tell_is_refused():
    trials = Trials(np.linspace(0, 1, 400), np.arange(400) >= 200, None)
    thresholds = calibrated(trials, [0.05, 0.049])

    assert [point.far for point in thresholds.points] == [0.1, 0.05]
    check_told(0.05, thresholds)
    with pytest.raises(InputError, match=r"0.049 cannot be told from 200 impostor pairs: allowed is 0.05"):
        check_told(0.049, thresholds)


def test_every_pair_of_images_is_a_trial_and_of_too_many_images_some_are_drawn():
    embeddings, labels = people(5, 4, 0)

    trials = all_pairs(embeddings, labels * 7, 0)

    assert (len(trials.similarity), trials.genuine.sum()) == (190, 5 * 6)
    assert (trials.people[trials.genuine, 0] == trials.people[trials.genuine, 1]).all()
    many, of_whom = people(100, 4, 0)
    drawn = all_pairs(many, of_whom, 1, most=40)
    assert (len(drawn.similarity), drawn.genuine.sum()) == (40 * 39 // 2, 10 * 6)
    np.testing.assert_array_equal(drawn.similarity, all_pairs(many, of_whom, 1, most=40).similarity)
    one_person_more = all_pairs(np.tile(many, (2, 1)), np.concatenate([of_whom, np.zeros(400, int)]), 1, most=40)
    assert not one_person_more.genuine.all()


def test_a_stranger_is_as_alike_as_the_closest_of_the_others_and_a_wrong_name_is_never_right():
    # The second probe is taken for another person, and the third cannot be told from one.
    trials = open_set(np.array([0.9, 0.7, 0.5]), np.array([0.4, 0.8, 0.5]), np.array([0, 1, 2]))

    np.testing.assert_array_equal(trials.similarity, [0.9, -np.inf, -np.inf, 0.4, 0.8, 0.5])
    assert trials.genuine.tolist() == [True] * 3 + [False] * 3


@functools.cache
def impostors_of_others(strangers: bool) -> np.ndarray:
    """How alike pairs of many other people are; or, of `strangers`, 60 people at a time, as `trials_of` has them."""
    if not strangers:
        trials = [all_pairs(*people(300, 4, seed=99), 0)]
    else:
        trials = [trials_of(seed, strangers) for seed in range(100, 110)]
    return np.concatenate([one.similarity[~one.genuine] for one in trials])


def trials_of(seed: int, strangers: bool) -> Trials:
    embeddings, labels = people(60, 4, seed)
    if not strangers:
        return all_pairs(embeddings, labels, 0)
    known = np.arange(len(labels)) % 4 < 2
    ranked = identification(embeddings[known], labels[known], embeddings[~known], labels[~known])
    return open_set(ranked.own, ranked.closest_other, labels[~known])


@pytest.mark.parametrize("strangers", [False, True])
def test_the_rate_of_other_people_lies_within_the_interval_for_most_draws(strangers):
    within = 0
    for seed in range(40):
        point = calibrated(trials_of(seed, strangers)).points[0 if strangers else 1]
        rate = np.mean(impostors_of_others(strangers) >= point.threshold)
        within += point.far_low <= rate <= point.far_high

    assert within >= 34  # 95 % of 40 are 38


def test_the_interval_by_people_is_wider_than_that_of_independent_pairs():
    embeddings, labels = people(30, 6, 3)
    trials = all_pairs(embeddings, labels, 0)

    by_people, independent = (calibrated(one).points[1] for one in (trials, trials._replace(people=None)))

    assert by_people.threshold == independent.threshold
    assert by_people.far_low < independent.far_low and by_people.far_high > independent.far_high

"""Thresholds for a stated false accept rate: what passes them, of how many trials, and how sure that rate is.

Of verification a trial is a pair of images, and of open-set identification a look for one image in the whole gallery,
where whoever it shows may be nobody of it (Phillips, Grother and Micheals, 2011, "Evaluation methods in face
recognition": detection and identification rate at a false alarm rate; ISO/IEC 19795-1 calls the latter false positive
identification rate).

Trials of one person are alike. So the interval of a rate is by the jackknife over people: of a rate that leaves out
every trial in which a person takes part, for each person in turn (Arvesen, 1969, "Jackknifing U-statistics"), on a
logarithmic scale. It is never narrower than Wilson's for as many independent trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from facesim.recognition.protocols import MIN_ERRORS
from facesim.runs.evaluations import Calibration, OperatingPoint
from facesim.util.errors import InputError

#: Always asked for; those that the trials cannot tell are left out.
FARS = (0.1, 0.01, 0.001, 0.0001)

#: Of more images so many are compared, each with each: 4.5 million pairs. Of one person there are at most a tenth.
MOST_IMAGES = 3_000


class Trials(NamedTuple):
    """similarity: float (n,). genuine: whether acceptance is right, bool (n,). people: who takes part in each, numbers
    from 0 (n, any); None where that is not known.
    """

    similarity: np.ndarray
    genuine: np.ndarray
    people: np.ndarray | None


def all_pairs(embeddings: np.ndarray, labels: np.ndarray, seed: int, most: int = MOST_IMAGES) -> Trials:
    """Each image with each other one: unit embeddings, float (n, dimensions), with integer labels (n,).

    Of more than `most` images those of some people are drawn by `seed`.
    """
    if len(labels) > most:
        drawn = _of_some_people(labels, seed, most)
        embeddings, labels = embeddings[drawn], labels[drawn]
    _, person = np.unique(labels, return_inverse=True)
    first, second = np.triu_indices(len(labels), 1)
    similarity = (embeddings @ embeddings.T)[first, second]
    return Trials(similarity, person[first] == person[second], np.stack([person[first], person[second]], axis=1))


def _of_some_people(labels: np.ndarray, seed: int, most: int) -> np.ndarray:
    """Indices of `most` images, person by person, so that there are pairs of the same person, too."""
    random = np.random.default_rng(seed)
    people, person = np.unique(labels, return_inverse=True)
    turn = random.permutation(len(people))[person]
    order = random.permutation(len(labels))
    order = order[np.argsort(turn[order], kind="stable")]
    turns = turn[order]
    nth = np.arange(len(turns)) - np.searchsorted(turns, turns)  # of its person's images
    return order[nth < most // 10][:most]


def open_set(own: np.ndarray, closest_other: np.ndarray, truth: np.ndarray) -> Trials:
    """Two looks for each probe: in the whole gallery, and in one that lacks the person whom the probe shows.

    The second is of somebody who is nobody of the gallery. The first is right where the person is found and is the most
    similar one; where another is as similar, no threshold makes it right.

    own, closest_other: how alike each probe is to its own identity and to the most similar other one, float (probes,).
    truth: the identity of each probe, a number from 0.
    """
    mated = np.where(own > closest_other, own, -np.inf)
    genuine = np.repeat([True, False], len(truth))
    return Trials(np.concatenate([mated, closest_other]), genuine, np.concatenate([truth, truth])[:, None])


def calibrated(trials: Trials, fars: Sequence[float] | None = None) -> Calibration:
    """The thresholds for those of `FARS` and `fars` that the trials can tell."""
    genuine = trials.similarity[trials.genuine].astype(np.float64)
    impostors = trials.similarity[~trials.genuine].astype(np.float64)
    order = np.argsort(-impostors)
    impostors = impostors[order]
    people = None if trials.people is None else trials.people[~trials.genuine][order]
    own_trials = None if people is None else np.bincount(people.ravel())
    lowest_far, wanted = MIN_ERRORS / len(impostors), sorted({*FARS, *(fars or ())}, reverse=True)
    points = []
    for far in wanted:
        if not lowest_far <= far <= 1:
            continue
        threshold = _threshold(genuine, impostors, far)
        accepted = int(np.searchsorted(-impostors, -threshold, side="right"))
        by_person = None
        if people is not None and own_trials is not None:
            own_errors = np.bincount(people[:accepted].ravel(), minlength=len(own_trials))
            by_person = own_errors[own_trials > 0], own_trials[own_trials > 0]
        low, high = _interval(accepted, len(impostors), by_person)
        points.append(
            OperatingPoint(
                far=far,
                threshold=threshold,
                false_accept_rate=accepted / len(impostors),
                far_low=low,
                far_high=high,
                true_accept_rate=float((genuine >= threshold).mean()),
            )
        )
    return Calibration(
        people=None if own_trials is None else int(np.count_nonzero(own_trials)),
        genuine_trials=len(genuine),
        impostor_trials=len(impostors),
        lowest_far=lowest_far,
        points=points,
    )


def check_told(far: float, calibration: Calibration, trials: str = "impostor pairs") -> None:
    """Raise InputError if so many trials, called `trials`, do not tell a false accept rate."""
    if not calibration.lowest_far <= far <= 1:
        raise InputError(
            f"a false accept rate of {far:g} cannot be told from {calibration.impostor_trials:,} {trials}: allowed is "
            f"{calibration.lowest_far:.2g} ({MIN_ERRORS} errors) to 1; ask for a higher rate or bring more people",
            field="far",
            value=far,
            allowed=f"{calibration.lowest_far:.2g} to 1",
        )


def _threshold(genuine: np.ndarray, impostors: np.ndarray, far: float) -> float:
    """The lowest threshold that accepts at most `far` of the impostors, whose similarities fall: midway between the
    first that is refused and what comes next above it, of whatever kind.
    """
    allowed = int(far * len(impostors) + 1e-9)
    if allowed == len(impostors):
        return float(impostors[-1])
    refused = impostors[allowed]
    above = np.concatenate([impostors[:allowed], genuine])
    above = above[above > refused]
    return float((refused + above.min()) / 2 if len(above) else np.nextafter(refused, np.inf))


def _interval(errors: int, trials: int, by_person: tuple[np.ndarray, np.ndarray] | None) -> tuple[float, float]:
    """The 95 % interval of a rate, by the errors and trials in which each person takes part, integers (people,)."""
    from scipy.stats import binomtest

    wilson = binomtest(errors, trials).proportion_ci(method="wilson")
    low, high = float(wilson.low), float(wilson.high)
    if by_person is None or errors == 0:
        return low, high
    own_errors, own_trials = by_person
    if (own_trials == trials).any():  # without some person nothing is left, so nothing is known about other people
        return 0.0, 1.0
    without = (errors - own_errors) / (trials - own_trials)
    deviation = float(np.sqrt((len(without) - 1) * np.var(without)))
    rate = errors / trials
    factor = float(np.exp(1.96 * deviation / rate))
    return min(low, rate / factor), max(high, min(1.0, rate * factor))

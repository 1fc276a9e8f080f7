"""The three questions one can ask of face recognition, each with its measure. All rates are shares, 0-1.

Closed set: which of the people in training is this? Identification: who in the gallery is this? Verification: are these
two the same person?
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from facesim.util.errors import InputError
from facesim.util.words import count_text

#: So many cosines are held at a time, however many images are compared: 64 MiB of float32.
_BLOCK = 1 << 24

#: An error rate takes at least so many errors to be told; with fewer the next data set would give quite another.
MIN_ERRORS = 10


class ClosedSet(NamedTuple):
    """`accuracy` of all examples, `balanced_accuracy` the mean of the identities' own: each counts the same."""

    examples: int
    accuracy: float
    balanced_accuracy: float


def closed_set(truth: np.ndarray, predicted: np.ndarray) -> ClosedSet:
    """Compare true and predicted identities, each integers (n,)."""
    right = truth == predicted
    _, identity = np.unique(truth, return_inverse=True)
    per_identity = np.bincount(identity, weights=right) / np.bincount(identity)
    return ClosedSet(len(truth), float(right.mean()), float(np.mean(per_identity)))


class Identification(NamedTuple):
    """`cmc[k - 1]`: the share of probes whose identity is among the k closest of the gallery (Phillips et al., 2000).

    `ranks`: by probe how many other identities of the gallery are at least as like as its own, int (probes,): what
    cannot be told apart is not found. `own`, `closest_other`: how alike it is to its own identity and to the most
    similar other one, float (probes,).
    """

    gallery_identities: int
    probes: int
    cmc: np.ndarray
    ranks: np.ndarray
    own: np.ndarray
    closest_other: np.ndarray

    @property
    def rank_1(self) -> float:
        return float(self.cmc[0])


def identification(
    gallery: np.ndarray, gallery_labels: np.ndarray, probes: np.ndarray, probe_labels: np.ndarray
) -> Identification:
    """Look for each probe in the gallery; both are unit embeddings, float (n, dimensions), with integer labels (n,).

    A probe is as similar to an identity as to the closest of its images, by cosine.

    Raises:
        InputError: the gallery holds fewer than two identities, or a probe's identity is not in it.
    """
    identities = np.unique(gallery_labels)
    if len(identities) < 2:
        raise InputError(
            f"the gallery holds {count_text(len(gallery), 'image')} of {count_text(len(identities), 'identity')}; "
            "identification needs two identities or more to choose from"
        )
    unknown = np.setdiff1d(probe_labels, identities)
    if len(unknown):
        raise InputError(
            f"of the probes' identities {count_text(len(unknown), 'is', 'are')} not in the gallery, so no rank can be "
            "right"
        )
    truth = np.searchsorted(identities, probe_labels)
    ranks, own, closest_other = (np.empty(len(probes), kind) for kind in (int, float, float))
    for block, similarity in _similarity_blocks(gallery, gallery_labels, probes):
        at = (np.arange(len(similarity)), truth[block])
        genuine = similarity[at]
        similarity[at] = -np.inf
        ranks[block] = (similarity >= genuine[:, None]).sum(axis=1)
        own[block], closest_other[block] = genuine, similarity.max(axis=1)
    cmc = np.bincount(ranks, minlength=len(identities)).cumsum() / len(probes)
    return Identification(len(identities), len(probes), cmc, ranks, own, closest_other)


def similarities(gallery: np.ndarray, gallery_labels: np.ndarray, probes: np.ndarray) -> np.ndarray:
    """The largest cosine between each probe and each identity's images, (probes, identities in ascending order)."""
    return np.concatenate([similarity for _, similarity in _similarity_blocks(gallery, gallery_labels, probes)])


def _similarity_blocks(
    gallery: np.ndarray, gallery_labels: np.ndarray, probes: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """`similarities` of some probes at a time, with which these are."""
    order = np.argsort(gallery_labels, kind="stable")
    by_identity = gallery[order].T
    _, first = np.unique(gallery_labels[order], return_index=True)
    step = max(1, _BLOCK // len(gallery))
    for at in range(0, len(probes), step):
        block = slice(at, at + step)
        yield block, np.maximum.reduceat(probes[block] @ by_identity, first, axis=1)


class Verification(NamedTuple):
    """Verification over folds of pairs.

    accuracy, accuracy_se: mean over the folds and its standard error, each fold with the threshold that was best on the
        other folds (LFW's protocol, Huang et al., 2007). threshold: the best on all pairs, for use.
    false_accept_rate, false_reject_rate: of these thresholds, each on its own fold, which it was not chosen on.
    far, tar: the ROC, false and true accept rates by falling threshold. auc: its area; auc_low, auc_high: its 95 %
        interval, auc +- t(k-1) s / sqrt(k) with s over the areas of the k folds, whose people are different ones.
    eer: where false accepts are as frequent as false rejects.
    accepted: by pair, whether it was taken for one person by the threshold of its fold, bool (pairs,).
    """

    genuine_pairs: int
    impostor_pairs: int
    accuracy: float
    accuracy_se: float
    threshold: float
    false_accept_rate: float
    false_reject_rate: float
    auc: float
    auc_low: float
    auc_high: float
    eer: float
    far: np.ndarray
    tar: np.ndarray
    accepted: np.ndarray

    @property
    def lowest_far(self) -> float:
        """The lowest false accept rate that so many impostor pairs can tell."""
        return MIN_ERRORS / self.impostor_pairs


def verification(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> Verification:
    """Measure verification on pairs: similarity float (n,), whether of the same person, bool (n,), fold, int (n,).

    Raises:
        InputError: there are fewer than two folds, or pairs of one kind only.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    folds = np.unique(fold)
    if len(folds) < 2 or same.all() or not same.any():
        raise InputError(
            f"verification needs pairs of the same and of different people in two folds or more; got {int(same.sum())} "
            f"and {int((~same).sum())} in {len(folds)}"
        )
    accuracies, areas, accepted = [], [], np.zeros(len(same), bool)
    for one in folds:
        inside = fold == one
        accepted[inside] = similarity[inside] >= best_threshold(similarity[~inside], same[~inside])
        accuracies.append(np.mean(accepted[inside] == same[inside]))
        if 0 < same[inside].mean() < 1:
            areas.append(float(roc_auc_score(same[inside], similarity[inside])))
    far, tar, _ = roc_curve(same, similarity, drop_intermediate=False)
    auc = float(roc_auc_score(same, similarity))
    auc_low, auc_high = _auc_interval(auc, areas, min(int(same.sum()), int((~same).sum())))
    return Verification(
        genuine_pairs=int(same.sum()),
        impostor_pairs=int((~same).sum()),
        accuracy=float(np.mean(accuracies)),
        accuracy_se=float(np.std(accuracies, ddof=1) / np.sqrt(len(folds))),
        threshold=best_threshold(similarity, same),
        false_accept_rate=float(accepted[~same].mean()),
        false_reject_rate=float(1 - accepted[same].mean()),
        auc=auc,
        auc_low=auc_low,
        auc_high=auc_high,
        eer=_equal_error_rate(far, tar),
        far=far,
        tar=tar,
        accepted=accepted,
    )


def best_threshold(similarity: np.ndarray, same: np.ndarray) -> float:
    """The threshold that sorts most pairs rightly (same person: similarity >= threshold), midway between two pairs."""
    order = np.argsort(-similarity, kind="stable")
    falling, genuine = similarity[order], same[order]
    right = np.concatenate([[0], np.where(genuine, 1, -1).cumsum()])  # with the k closest accepted, up to a constant
    between = np.concatenate([[True], falling[:-1] > falling[1:], [True]])  # equal similarities cannot be told apart
    accepted = int(np.argmax(np.where(between, right, -len(same))))
    if accepted == 0:
        return float(np.nextafter(falling[0], np.inf))
    if accepted == len(falling):
        return float(falling[-1])
    return float((falling[accepted - 1] + falling[accepted]) / 2)


def _auc_interval(auc: float, areas: Sequence[float], pairs: int) -> tuple[float, float]:
    """The 95 % interval of an area, 0-1: the t-interval of the folds' `areas`. Of fewer than two nothing is known. All
    alike, they say nothing of others: then it is Wilson's, of the `pairs` of the kind of which there are fewer.
    """
    from scipy.stats import binomtest, ttest_1samp

    if len(areas) < 2:
        return 0.0, 1.0
    if np.ptp(areas) == 0:
        wilson = binomtest(round(auc * pairs), pairs).proportion_ci(method="wilson")
        return min(auc, float(wilson.low)), max(auc, float(wilson.high))
    interval = ttest_1samp(areas, 0.0).confidence_interval(0.95)
    half = float(interval.high - interval.low) / 2
    return max(0.0, auc - half), min(1.0, auc + half)


def _equal_error_rate(far: np.ndarray, tar: np.ndarray) -> float:
    """Where the ROC, its points joined by lines, meets far = 1 - tar."""
    excess = far - (1 - tar)
    after = int(np.argmax(excess >= 0))
    if after == 0:
        return float(far[0])
    share = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(far[after - 1] + share * (far[after] - far[after - 1]))

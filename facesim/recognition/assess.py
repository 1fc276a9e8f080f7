"""A run's model on data, by every protocol that the data allows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facesim.data.identity import digests_of, image_digests
from facesim.data.prepared import PreparedData
from facesim.data.splits import stratified_split
from facesim.recognition.calibration import Trials, all_pairs, calibrated, check_told, open_set
from facesim.recognition.embedding import Embedder
from facesim.recognition.groups import error_rates, warning
from facesim.recognition.pair_lists import find_pairs
from facesim.recognition.pairs import Pairs, disjoint_pairs
from facesim.recognition.protocols import Verification, closed_set, identification, verification
from facesim.recognition.verification_set import read_verification_set
from facesim.util.errors import InputError
from facesim.util.unused import printable
from facesim.util.words import count_text

#: Whether images, by their digests, or people, by their names, were trained on (`facesim.recognition.seen`).
Seen = Callable[[Iterable[bytes], Sequence[str] | None], bool | None]

_CURVE_POINTS = 400

_OWN_REMEDY = "give other people's images as DATA, or train with more of each person's held out (--held-out)"

#: So many images are held at a time.
_CHUNK = 4096


def assess_own(
    embedder: Embedder, data: PreparedData, fars: Sequence[float] | None = None, *, as_trained: bool = True
) -> dict[str, Any]:
    """On the held-out images of the people that the model was trained on; `data` is the run's own.

    Closed set; identification with the training images as gallery; verification. Where the data is not `as_trained` any
    more, there is no closed set: whom each output of the model stands for follows from the data as it was.

    Raises:
        InputError: the data is not what the model was trained on, or cannot tell one of `fars`.
    """
    if len(data.names) != embedder.identities:
        raise InputError(
            f"the model was trained on {count_text(embedder.identities, 'identity')} and {data.name} now has "
            f"{len(data.names)}; name other people's images as DATA to recognise them by their embeddings"
        )
    gallery, probes = data.split(embedder.experiment.data_spec)
    embeddings, labels = embedder.embed(data.images), data.labels
    results = {
        "data": data.name,
        "tested": embedder.experiment.data_spec.tested_in_words,
        "identities_seen_in_training": True,
        **_by_embedding(embeddings, data, gallery, probes, probes, embedder.experiment.seed, fars, _OWN_REMEDY),
    }
    if not as_trained:
        why = f"{data.name} is not what it was in training, which alone says whom each output of the model stands for"
        results["left_out"] = {"closed set": why, **results.get("left_out", {})}
        return results
    some_probes = (probes[at : at + _CHUNK] for at in range(0, len(probes), _CHUNK))
    predicted = np.concatenate([embedder.predict(data.images[indices]) for indices in some_probes])
    results["closed_set"] = closed_set(labels[probes], predicted)._asdict()
    if "groups" in results:
        rates = error_rates(data.groups, labels[probes], predicted != labels[probes])
        results["groups"]["rates"] = {"closed set": [rate._asdict() for rate in rates], **results["groups"]["rates"]}
    return results


def assess_others(
    embedder: Embedder, data: PreparedData, place: str, fars: Sequence[float] | None, seen: Seen
) -> dict[str, Any]:
    """On other data, of `place`: identification and verification by the embeddings alone.

    The gallery is half of each identity's images.

    Raises:
        InputError: the data is of another image size, or cannot tell one of `fars`.
    """
    gallery, probes = stratified_split(data.labels, 0.5, embedder.experiment.seed)
    embeddings = embedder.embed(data.images)
    everything = np.arange(len(data.labels))
    seed, remedy = embedder.experiment.seed, "give data of more people, or with more images of each"
    return {
        "data": data.name,
        "source": (place,),
        **_by_embedding(embeddings, data, gallery, probes, everything, seed, fars, remedy),
        "identities_seen_in_training": seen(image_digests(data, everything), data.names),
    }


def assess_pairs(
    embedder: Embedder, path: Path, folder: Path, fars: Sequence[float] | None, seen: Seen
) -> dict[str, Any]:
    """Verification on the pairs of a list, with images below `folder` (`facesim.recognition.pair_lists`).

    Raises:
        InputError: it is no such list, an image is missing or cannot be read, or the pairs cannot tell one of `fars`.
    """
    listed = find_pairs(path, folder)
    images = embedder.read(listed.files)
    embeddings = embedder.embed(images)
    notes = [*(["cut into folds in which a person can be in several"] if listed.cut else []), *listed.left_out]
    return {
        "data": printable(str(folder if folder.name not in ("", "..") else folder.resolve())),  # `.` says not which
        "source": tuple(printable(os.path.realpath(each)) for each in (folder, path)),
        "pairs": printable(", ".join([path.name, *notes])),
        **({} if listed.people is None else {"people": listed.people}),
        "verification": _verification(embeddings, listed.trials, fars),
        "identities_seen_in_training": seen(digests_of(images), None),
    }


def assess_verification_set(embedder: Embedder, file: Path, fars: Sequence[float] | None, seen: Seen) -> dict[str, Any]:
    """Verification on the pairs of a file of InsightFace's (`facesim.recognition.verification_set`).

    Raises:
        InputError: the file is not that, an image cannot be read, or the pairs cannot tell one of `fars`.
    """
    verification_set = read_verification_set(file)
    images = embedder.decoded(verification_set.images, file.name)
    embeddings = embedder.embed(images)
    return {
        "data": printable(str(file)),
        "source": (printable(os.path.realpath(file)),),
        "pairs": printable(file.name),
        "verification": _verification(embeddings, verification_set.pairs, fars),
        "identities_seen_in_training": seen(digests_of(images), None),
    }


def _by_embedding(
    embeddings: np.ndarray,
    data: PreparedData,
    gallery: np.ndarray,
    probes: np.ndarray,
    compared: np.ndarray,
    seed: int,
    fars: Sequence[float] | None,
    remedy: str,
) -> dict[str, Any]:
    """`remedy`: what to do where `compared` cannot be verified, which takes more images than the rest."""
    labels = data.labels
    ranked = identification(embeddings[gallery], labels[gallery], embeddings[probes], labels[probes])
    strangers = open_set(ranked.own, ranked.closest_other, labels[probes])
    assessed: dict[str, Any] = {
        "people": len(np.unique(labels[compared])),
        "identification": {
            "gallery_identities": ranked.gallery_identities,
            "gallery_images": len(gallery),
            "probes": ranked.probes,
            "rank_1": ranked.rank_1,
            "cmc": ranked.cmc.tolist(),
            "open_set": calibrated(strangers, fars).model_dump(),
        },
    }
    rates = {"identification, rank 1": error_rates(data.groups, labels[probes], ranked.ranks > 0)}
    threshold = None
    try:
        pairs = disjoint_pairs(labels[compared], seed)
    except InputError as error:
        if fars:
            raise InputError(f"no false accept rate can be told: {error}; {remedy}", field="far") from None
        assessed["left_out"] = {"verification": f"{error}; {remedy}"}
    else:
        verified, accepted = _verified(
            embeddings[compared], pairs, fars, all_pairs(embeddings[compared], labels[compared], seed)
        )
        assessed["verification"], threshold = verified, verified["threshold"]
        people = labels[compared][np.stack([pairs.first, pairs.second], axis=1)]
        rates["false non-match"] = error_rates(data.groups, people[pairs.same], ~accepted[pairs.same])
        rates["false match within the group"] = error_rates(data.groups, people[~pairs.same], accepted[~pairs.same])
    if any(data.groups):
        plain = {name: [rate._asdict() for rate in of_groups] for name, of_groups in rates.items()}
        told = warning([rate for of_groups in rates.values() for rate in of_groups])
        assessed["groups"] = {"rates": plain, "threshold": threshold, "warning": told}
    return assessed


def _verification(embeddings: np.ndarray, pairs: Pairs, fars: Sequence[float] | None) -> dict[str, Any]:
    return _verified(embeddings, pairs, fars)[0]


def _verified(
    embeddings: np.ndarray, pairs: Pairs, fars: Sequence[float] | None, trials: Trials | None = None
) -> tuple[dict[str, Any], np.ndarray]:
    """On `pairs`, and which of them were taken for one person, bool (pairs,), each by the threshold of the other folds;
    thresholds by false accept rate are from `trials`, which are the same pairs unless given.
    """
    alike = similarity(embeddings, pairs)
    verified = verification(alike, pairs.same, pairs.fold)
    calibration = calibrated(trials or Trials(alike, pairs.same, None), fars)
    for far in fars or ():
        check_told(far, calibration)
    told = {
        "folds": len(np.unique(pairs.fold)),
        **{name: value for name, value in verified._asdict().items() if name not in ("far", "tar", "accepted")},
        "lowest_far": verified.lowest_far,
        "tar_at_far": {
            f"{point.far:g}": point.true_accept_rate for point in calibration.points if not fars or point.far in fars
        },
        "calibration": calibration.model_dump(),
        "roc": _curve(verified),
    }
    return told, verified.accepted


def similarity(embeddings: np.ndarray, pairs: Pairs) -> np.ndarray:
    """The cosine of each pair of unit embeddings."""
    return np.einsum("nd,nd->n", embeddings[pairs.first], embeddings[pairs.second])


def _curve(verified: Verification) -> dict[str, list[float]]:
    """The ROC, thinned to what a plot can show."""
    at = np.unique(np.linspace(0, len(verified.far) - 1, _CURVE_POINTS).round().astype(int))
    return {"far": verified.far[at].tolist(), "tar": verified.tar[at].tolist()}

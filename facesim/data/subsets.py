"""A part of a prepared data set, chosen by a seed, as a prepared data set of its own.

So whatever reads prepared data (every strategy's tasks, the baselines, the evaluation) reads a part of it as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from facesim.data.parts import PARTS, TEST, TRAIN, VAL
from facesim.data.prepare import keep_prepared
from facesim.data.prepared import PreparedData
from facesim.data.splits import images_of_each
from facesim.spec.subset import Subset
from facesim.util.errors import InputError
from facesim.util.words import count_text

#: Keeps these random numbers apart from those of the split, which has the same seeds.
_STREAM = 0x5B5E7

_CHUNK = 4096


def choose(labels: np.ndarray, subset: Subset, seed: int, parts: np.ndarray | None = None) -> np.ndarray:
    """The images of `subset`, ascending indices, int64, of labels, integers (n,).

    Where the data has a split of its own, `parts` (`facesim.data.parts`), a subset counts and chooses the images to
    train on, and keeps all others of its identities: all sizes are tested on the same images of a person.

    With the same seed a larger subset contains every smaller one: identities have one random order, and so has each
    identity's images, by the seed, and a subset takes the first of each. An identity with fewer images gives them all.

    Raises:
        InputError: the data set has not so many identities, or no identity so many images.
    """
    counted = np.arange(len(labels)) if parts is None else np.flatnonzero(parts == TRAIN)
    identities, images_of = images_of_each(labels[counted])
    most = {"identities": len(identities), "images": max(map(len, images_of))}
    for name, wanted in subset._asdict().items():
        if wanted is not None and wanted > most[name]:
            limit = (
                count_text(most[name], "identity")
                if name == "identities"
                else f"no identity with more than {most[name]}"
            )
            raise InputError(f"--subset {name}={wanted} is more than there is: the data has {limit}")
    chosen = np.random.default_rng([seed, _STREAM]).permutation(identities)[: subset.identities]
    orders = [
        np.random.default_rng([seed, _STREAM, int(identities[place])]).permutation(counted[images_of[place]])
        for place in np.searchsorted(identities, chosen)
    ]
    others = np.setdiff1d(np.flatnonzero(np.isin(labels, chosen)), counted, assume_unique=True)
    return np.sort(np.concatenate([*(order[: subset.images] for order in orders), others])).astype(np.int64)


def take_subset(data: PreparedData, subset: Subset, seed: int, tested: int | None = TEST) -> PreparedData:
    """The part of `data` that `subset` and `seed` choose, beside it in its cache folder; made once. `tested` is the
    part of a split of its own that is to be tested on; None: none of them is.

    Raises:
        InputError: `data` is smaller than that, or nobody who is chosen has an image to test on.
    """
    if subset == (None, None):
        return data
    indices = choose(data.labels, subset, seed, data.parts)
    parts = None
    if data.parts is not None:
        parts = data.parts[indices]
        if tested == TEST and TEST not in data.parts:
            tested = VAL  # which is tested on in its place
        # All sizes are tested on the same part.
        if tested is not None and tested in data.parts and tested not in parts:
            raise InputError(
                f"--subset {subset} has no image to test on: its identities have none in the part {PARTS[tested]}; "
                f"take more of them"
            )
    identities, labels = np.unique(data.labels[indices], return_inverse=True)

    origins = data.origins

    def pixels() -> Iterator[np.ndarray]:
        images = data.images
        for start in range(0, len(indices), _CHUNK):
            yield images[indices[start : start + _CHUNK]]

    part = keep_prepared(
        data.directory.parent,
        # The SHA-256 is of images and labels alone; the folder's name is also of people's names and of files' places.
        ["subset", data.directory.name, data.sha256, list(subset), seed],
        name=data.name,
        image_shape=data.image_shape,
        pixels=pixels(),
        labels=labels.astype(np.int32),
        names=[data.names[label] for label in identities],
        groups=[data.groups[label] for label in identities],
        bad_files=data.bad_files,
        unused=data.unused,
        source_notes=data.source_notes,
        origins=[origins[index] for index in indices],
        parts=parts,
    )
    return replace(part, repairs=(*data.repairs, *part.repairs))

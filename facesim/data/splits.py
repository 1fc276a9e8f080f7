"""Which images are trained on and which are held out."""

from __future__ import annotations

import numpy as np

from facesim.data.parts import TEST, TRAIN, VAL
from facesim.spec.data import DataSpec
from facesim.util.errors import InputError
from facesim.util.words import count_text


def images_of_each(labels: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The identities there are, ascending, and the images of each, ascending indices int64, of labels, integers (n,).

    It sorts once: to look for every identity among all images takes minutes for 85,000 people with six million.
    """
    order = np.argsort(labels, kind="stable")
    identities, first = np.unique(labels[order], return_index=True)
    return identities, np.split(order, first[1:])


def split_of(labels: np.ndarray, spec: DataSpec, parts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The images that are trained on and those that are tested, as `spec` says: indices as `stratified_split` has them.

    parts: int (n,), the part of each image of the data's own split (`facesim.data.parts`), if that is kept.

    With `validation` the images that are held out are in neither: what would be trained on is split in their place.

    Raises InputError for values that `stratified_split` does not allow, for a part that the data does not have, and
    where nobody has two images to train on.
    """
    labels = np.asarray(labels)
    if parts is None:
        train, held_out = stratified_split(labels, spec.held_out, spec.seed)
    else:
        train, held_out = np.flatnonzero(parts == TRAIN), np.flatnonzero(parts == TEST)
    if spec.test_part == "val" or (parts is not None and not len(held_out) and not spec.validation):
        held_out = np.flatnonzero(parts == VAL) if parts is not None else held_out[:0]
        if not len(held_out):
            raise InputError(
                "--test-part val: the data has no split of its own with a part val that is kept: leave it out",
                field="test_part",
                value="val",
                allowed=["test"],
            )
    if not spec.validation:
        return train, held_out
    several = train[np.bincount(labels[train])[labels[train]] > 1]
    if not len(several):
        raise InputError(
            f"--validation {spec.validation:g} needs people with two images to train on, and everybody has one: hold "
            f"out fewer, or add images",
            field="validation",
            value=spec.validation,
        )
    _, validated = stratified_split(labels[several], spec.validation, spec.seed)
    return np.setdiff1d(train, several[validated], assume_unique=True), several[validated]


def split_note(labels: np.ndarray, spec: DataSpec, parts: np.ndarray) -> str:
    """What a user should know of a split that is kept, and of what `spec` makes of it. labels and parts: integers (n,).

    Raises InputError as `split_of` does.
    """
    trained, tested = split_of(labels, spec, parts)
    left = np.delete(parts, np.concatenate([trained, tested]))
    called = {TRAIN: "--validation", VAL: "val", TEST: "--test" if spec.test else "test"}
    tested_part = int(parts[tested[0]])
    beside = [f"the {count:,} of {called[part]}" for part in (VAL, TEST) if (count := int(np.sum(left == part)))]
    aside = f", and {' and '.join(beside)} are neither trained on nor tested" if beside else ""
    if beside and tested_part == TEST:
        aside += " (--test-part val tests on them)"
    head, pool = "its own split is kept", "; --split random pools all images"
    if spec.test:
        head, pool = "--test names the images to test on", ""
    return (
        f"{head}: {count_text(len(trained), 'image is', 'images are')} trained on and "
        f"{len(tested):,} ({called[tested_part]}) {'is' if len(tested) == 1 else 'are'} tested{aside}. "
        f"--held-out does not apply{pool}."
    )


def stratified_split(labels: np.ndarray, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split every identity's images into training and test, at random but repeatably.

    labels: (n,) integers >= 0, the identity of each image; every identity has two images or more.
    held_out: the share of each identity's images to test on, between 0 and 1; an identity with m images gives
        held_out * m of them, rounded half up, but never none and never all.
    seed: an integer >= 0.

    Returns the indices (train, test), each int64 and ascending; together they are 0..n-1. Each identity is drawn from
    its own stream, so which of its images are held out depends on seed, on its label and on how many images it has, not
    on who else is there or on how the identities are interleaved.

    Raises InputError for values outside these.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise InputError(
            f"labels must be integers >= 0, one an image, and not empty; got {labels.dtype} of shape {labels.shape}."
        )
    if not 0 < held_out < 1:
        raise InputError(f"held_out is the share of images to test on and lies between 0 and 1; got {held_out}.")
    if seed < 0:
        raise InputError(f"seed must be an integer >= 0; got {seed}.")

    test = []
    for label, images in zip(*images_of_each(labels), strict=True):
        if len(images) < 2:
            raise InputError(f"identity {label} has one image; two are needed, one to train on and one to test on.")
        test_count = int(np.clip(int(held_out * len(images) + 0.5), 1, len(images) - 1))
        stream = np.random.default_rng([seed, int(label)])
        test.append(stream.permutation(images)[:test_count])
    test_indices = np.sort(np.concatenate(test)).astype(np.int64)
    train_indices = np.setdiff1d(np.arange(len(labels), dtype=np.int64), test_indices, assume_unique=True)
    return train_indices, test_indices

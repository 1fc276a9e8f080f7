"""Which two images to compare, and in which fold: made identity-disjoint, or read from a file of LFW's."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facesim.data.walk import list_images
from facesim.util.errors import InputError
from facesim.util.files import open_regular
from facesim.util.unused import printable
from facesim.util.words import count_text

FOLDS = 10


class Pairs(NamedTuple):
    """Indices of the `first` and the `second` image, int (n,), whether of the `same` person, and the `fold`, int."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    fold: np.ndarray


def disjoint_pairs(labels: np.ndarray, seed: int, folds: int = FOLDS, most: int = 300) -> Pairs:
    """Pairs among images with identities `labels`, integers (n,), in folds that share no identity.

    So a threshold is tested on people whom it was not chosen on. Each fold has as many genuine as impostor pairs,
    at most `most` of each, drawn by `seed`; with few identities there are fewer folds, of two or more.

    Raises:
        InputError: there are too few identities for two folds, or no identity has two images.
    """
    random = np.random.default_rng(seed)
    identities = random.permutation(np.unique(labels))
    folds = min(folds, len(identities) // 2)
    if folds < 2:
        raise InputError(
            f"verification needs 4 identities or more for folds that share none; there are {len(identities)}"
        )
    parts = []
    for fold, members in enumerate(np.array_split(identities, folds)):
        images = np.flatnonzero(np.isin(labels, members))
        genuine = _later_of_same(labels[images])
        impostors = np.arange(len(images))[::-1] - genuine
        count = min(most, int(genuine.sum()), int(impostors.sum()))
        for same, partners in ((True, genuine), (False, impostors)):
            first, second = images[_drawn(labels[images], partners, same, count, random)]
            parts.append(Pairs(first, second, np.full(count, same), np.full(count, fold)))
    pairs = Pairs(*(np.concatenate(columns) for columns in zip(*parts)))
    if len(np.unique(pairs.fold)) < 2:
        several = int(np.sum(np.unique(labels, return_counts=True)[1] > 1))
        raise InputError(
            f"verification needs two images or more of some identities, in two folds that share none; {several} of the "
            f"{count_text(len(identities), 'identity')} here {'has' if several == 1 else 'have'} two"
        )
    return pairs


def _later_of_same(labels: np.ndarray) -> np.ndarray:
    """How many images of the same identity come after each image, int (n,)."""
    order = np.argsort(labels, kind="stable")
    later = np.empty(len(labels), int)
    later[order] = np.searchsorted(labels[order], labels[order], side="right") - np.arange(len(labels)) - 1
    return later


def _drawn(labels: np.ndarray, partners: np.ndarray, same: bool, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` different pairs of images, int (2, count), of the `same` identity or of different ones.

    partners: with how many later images each image makes such a pair. The pairs are numbered by it and not listed: of
    50,000 images there are a thousand million.
    """
    last = partners.cumsum()
    numbers = random.choice(int(last[-1]), count, replace=False)
    first = np.searchsorted(last, numbers, side="right")
    nth = numbers - (last - partners)[first]
    second = [one + 1 + np.flatnonzero((labels[one + 1 :] == labels[one]) == same)[at] for one, at in zip(first, nth)]
    return np.array([first, second], int).reshape(2, count)


class LfwPair(NamedTuple):
    """One line of a pairs file: two images, each a name and a number from 1."""

    line: int
    first: tuple[str, int]
    second: tuple[str, int]
    fold: int

    @property
    def same(self) -> bool:
        return self.first[0] == self.second[0]


def read_lfw_pairs(path: Path) -> list[LfwPair]:
    """Read `pairs.txt` or `pairsDev*.txt` as LFW publishes them (Huang et al., 2007; README of the views).

    The first line has the number of folds (left out: one) and n; each fold is n lines `name number number`, of the same
    person, then n lines `name number name number`, of different ones; columns are separated by tabs.

    Raises:
        InputError: the file is missing or is not that.
    """
    try:
        with open_regular(path) as file:
            lines = [line.split("\t") for line in map(str.strip, file.read().decode("utf-8-sig").splitlines()) if line]
        *folds, count = (int(part) for part in lines[0])
        folds = folds[0] if folds else 1
        if min(folds, count) < 1:
            raise ValueError(f"{count_text(folds, 'fold')} of {count_text(count, 'pair')}")
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path} is not a pairs file of LFW's: {error}; its first line is folds and pairs") from None
    if len(lines) - 1 != 2 * folds * count:
        raise InputError(
            f"{path}: its first line says {folds} x 2 x {count_text(count, 'pair')} and {len(lines) - 1} follow; get "
            "the file again"
        )
    pairs = []
    for number, parts in enumerate(lines[1:], 2):
        fold, place = divmod(number - 2, 2 * count)
        columns = 3 if place < count else 4
        try:
            if len(parts) != columns:
                raise ValueError(f"{count_text(len(parts), 'column')} instead of {columns}, with tabs between them")
            name, one, *other_name, other = parts
            if name in other_name:
                raise ValueError(f"{name} twice, among the pairs of different people")
            pair = LfwPair(number, (name, int(one)), ((other_name or [name])[0], int(other)), fold)
        except ValueError as error:
            raise InputError(f"{path} line {number}: {error}; get the file again") from None
        pairs.append(pair)
    return pairs


def find_lfw_images(pairs: list[LfwPair], folder: Path) -> tuple[list[Path], Pairs]:
    """The image files that the pairs name, each once, and the pairs as indices of them.

    Files are `folder/Name/Name_0001.jpg`, or the same with another suffix, also one folder deeper (`lfw/lfw`).

    Raises:
        InputError: an image is missing; the message names the first and counts the others. Or it is there twice.
    """
    wanted = list(dict.fromkeys(image for pair in pairs for image in (pair.first, pair.second)))
    file_of = files_called({f"{name}_{number:04}" for name, number in wanted}, folder, lambda file: file.stem)
    missing = [f"{name}_{number:04}" for name, number in wanted if f"{name}_{number:04}" not in file_of]
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing):,} of the {count_text(len(wanted), 'image')} that the pairs name, among "
            f"them {missing[0]}; give the folder of LFW that the pairs were made for"
        )
    index = {image: place for place, image in enumerate(wanted)}
    return [file_of[f"{name}_{number:04}"] for name, number in wanted], Pairs(
        np.array([index[pair.first] for pair in pairs]),
        np.array([index[pair.second] for pair in pairs]),
        np.array([pair.same for pair in pairs]),
        np.array([pair.fold for pair in pairs]),
    )


def files_called(names: Collection[str], folder: Path, name_of: Callable[[Path], str]) -> dict[str, Path]:
    """The image files below `folder` that have one of `names`, by it, in whichever form of Unicode either is stored.

    Raises:
        InputError: several have the same one, so that it is unclear which is meant.
    """
    file_of: dict[str, Path] = {}
    wanted = {unicodedata.normalize("NFC", name): name for name in names}
    for file in list_images(folder):
        name = wanted.get(unicodedata.normalize("NFC", name_of(file)))
        if name is not None and file_of.setdefault(name, file) != file:
            places = " and ".join(printable(str(one)) for one in (file_of[name], file))
            raise InputError(f"an image that the pairs name is there twice, {places}; give the folder of one copy")
    return file_of

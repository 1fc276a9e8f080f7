"""Images that look the same: the same photograph twice, perhaps scaled, lightened, compressed anew or cropped.

Found by perceptual hash: the signs of an image's lowest frequencies (discrete cosine transform) about their median, as
in Zauner (2010), "Implementation and benchmarking of perceptual image hash functions"; 16 x 16 frequencies in place of
8 x 8, because faces that are all cut alike differ in finer things than whole photographs do.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from facesim.data.identity import digests_of
from facesim.data.parts import TRAIN
from facesim.data.splits import images_of_each
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.data.stored import StoredImages

    Images = np.ndarray | StoredImages

#: Frequencies in each direction, the mean brightness left out.
_FREQUENCIES = 16
_BITS = _FREQUENCIES**2

HASH_BYTES = _BITS // 8

#: Pairs whose hashes differ in at most this share of their bits are suspected. Of photographs of 40 people (ORL) and of
#: rendered faces, 99 % of copies at half the size, 25 % lighter, or as JPEG of quality 30 are that close; no images of
#: two people are, and 0.5 % of the pairs of one person.
NEAR = 0.09

#: The same for a crop of one image and the other image. Of crops of ORL's photographs to 80 % and more of each side,
#: 94 % are that close to a crop of the original that is looked at, and 1 % of the pairs of one person.
NEAR_CROP = 0.11

#: The shares of each side to which images are cropped for a comparison, at every place.
_CROPS = tuple(1 - step / 40 for step in range(9))

#: Crops are looked for in pictures of at most so many pixels a side.
_SIDE = 64

#: Widths in heights that are distinguished: from 2:1 upright to 2:1 across, 6 % between neighbours.
_SHAPES = tuple(2 ** (step / 12) for step in range(-12, 13))

#: Up to so many images every pair is looked at. Of more, those pairs that agree in one of `_BANDS` parts of their hash:
#: all that differ in fewer bits than there are parts, and 97 % of those that differ in the share NEAR.
_ALL_PAIRS, _BANDS = 20_000, 16

_CHUNK = 2048

#: How many bits of a number of 16 are 1.
_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(axis=1, dtype=np.uint16)


class Pair(NamedTuple):
    """Two images, indices in ascending order, the share of hash bits that differ, whether all pixels are the same, and
    whether one of them looks like a crop of the other.
    """

    first: int
    second: int
    distance: float
    identical: bool
    cropped: bool = False


class Alike(NamedTuple):
    """Pairs that are alike in all but their place: each of the images `one` with each of `other`, indices in ascending
    order, or where these are the same images, with each other. `pair` is the first of them.
    """

    pair: Pair
    one: Sequence[int]
    other: Sequence[int]

    @property
    def count(self) -> int:
        """How many pairs they are."""
        copies = len(self.one)
        return copies * (copies - 1) // 2 if self.one is self.other else copies * len(self.other)

    def pairs(self) -> Iterator[Pair]:
        """Each of them, in order of its images."""
        sides = [(first, self.other) for first in self.one]
        if self.one is not self.other:
            sides += [(first, self.one) for first in self.other]
        for first, partners in sorted(sides):
            for second in partners[bisect_right(partners, first) :]:
                yield self.pair._replace(first=first, second=second)


def alike_pairs(
    images: Images,
    labels: np.ndarray,
    part: np.ndarray,
    near: float = NEAR,
    comparing: Callable[[int, int], None] = lambda *_: None,
    cropping: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Alike]:
    """Pairs of images that look the same: `near_pairs` and, beside these, `cropped_pairs`, each pair once.

    Copies of one picture, to the last pixel, that are of one person and on one side of the split are compared as one,
    so many pictures alike take no longer than few. `comparing` and `cropping` are called with the work done and due.
    """
    copies = _copies(images, labels, part)
    for same in copies.values():
        if len(same) > 1:
            yield Alike(Pair(same[0], same[1], 0.0, True), same, same)
    firsts = np.array(list(copies))
    found = set()
    for pair in near_pairs(images, near, comparing, firsts):
        if labels[pair.first] == labels[pair.second] and part[pair.first] * part[pair.second] < 0:
            found.add(pair[:2])  # which may be found as a crop, too
        yield Alike(pair, copies[pair.first], copies[pair.second])
    part_of_firsts = np.zeros_like(part)
    part_of_firsts[firsts] = part[firsts]
    for pair in cropped_pairs(images, labels, part_of_firsts, progress=cropping):
        if pair[:2] not in found:
            yield Alike(pair, copies[pair.first], copies[pair.second])


def _copies(images: Images, labels: np.ndarray, part: np.ndarray) -> dict[int, list[int]]:
    """Which images are copies of one picture, to the last pixel, of one person, on one side of the split: by the first
    of them, ascending.
    """
    copies: dict[Hashable, list[int]] = {}
    for start in range(0, len(images), _CHUNK):
        for index, digest in enumerate(digests_of(images[start : start + _CHUNK]), start):
            copies.setdefault((digest, int(labels[index]), int(part[index])), []).append(index)
    return {same[0]: same for same in copies.values()}


def near_pairs(
    images: Images,
    near: float = NEAR,
    progress: Callable[[int, int], None] = lambda *_: None,
    among: np.ndarray | None = None,
) -> Iterator[Pair]:
    """Pairs of images, uint8 (n, height, width, channels), whose hashes differ in at most the share `near`, each once;
    `among`: of those at these indices alone, ascending.

    Up to 20,000 images these are all; of more nearly all, in time that grows little faster than their number.
    `progress` is called with the work done and due.
    """
    among = np.arange(len(images)) if among is None else among
    for one, other, distance in _near(hashes_of(images, among), near, progress):
        first, second = int(among[one]), int(among[other])
        identical = distance == 0 and bool(np.array_equal(images[first], images[second]))
        yield Pair(first, second, distance, identical)


def near_across(hashes: np.ndarray, others: np.ndarray, near: float = NEAR) -> np.ndarray:
    """Which of `hashes`, (n, 32) of `hashes_of`, differ from one of `others` in at most the share `near`: bool (n,)."""
    # Each different one once: of many pictures alike there would be very many pairs.
    (different, place), others = np.unique(hashes, axis=0, return_inverse=True), np.unique(others, axis=0)
    close = np.zeros(len(different), bool)
    for first, second, _ in _near(np.concatenate([different, others]), near, lambda *_: None):
        if first < len(different) <= second:
            close[first] = True
    return close[place.reshape(-1)]


def cropped_pairs(
    images: Images,
    labels: np.ndarray,
    part: np.ndarray,
    near: float = NEAR_CROP,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Iterator[Pair]:
    """Pairs of images of one person, `labels` (n,), on two sides of a split, of which one looks like a crop of the
    other, each once; `part` (n,) is 1 for images on the one side, -1 on the other, and 0 for what is left aside.

    It takes some 6 ms an image on one core, whatever its size.
    """
    from threadpoolctl import threadpool_limits

    compared = np.flatnonzero(part)
    groups = [compared[group] for group in images_of_each(labels[compared])[1]]
    groups = [group for group in groups if len(np.unique(part[group])) > 1]
    done, due = 0, sum(map(len, groups))
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor() as pool:
        for group in groups:
            pictures = [_at_most(_content(picture), _SIDE) for picture in _grey(images[group])]
            whole = np.concatenate([_signs(picture[None]) for picture in pictures])
            # Crops have the shapes of the pictures that they are compared with.
            shapes = {min(_SHAPES, key=partial(_unlike, picture)) for picture in pictures}
            # How close each image comes to each of the other side, by a crop of either.
            sides = [np.flatnonzero(part[group] == side) for side in (1, -1)]
            closest = np.full([len(side) for side in sides], 1.0)
            crops = pool.map(partial(_nearest_crop, whole=whole, shapes=shapes), pictures)
            for place, distances in enumerate(crops):
                side = 0 if part[group[place]] > 0 else 1
                of_one = np.moveaxis(closest, side, 0)[np.searchsorted(sides[side], place)]
                np.minimum(of_one, distances[sides[1 - side]], out=of_one)
                done += 1
                progress(done, due)
            rows, columns = np.nonzero(closest <= near)
            pairs = np.sort(np.stack([group[sides[0][rows]], group[sides[1][columns]]], axis=1), axis=1)
            distances = closest[rows, columns]
            for place in np.lexsort((pairs[:, 1], pairs[:, 0])):
                yield Pair(*pairs[place].tolist(), float(distances[place]), False, True)


def notes_across(
    images: Images,
    labels: np.ndarray,
    parts: np.ndarray,
    origins: Sequence[str],
    progress: Callable[[str, int, int], None],
) -> list[str]:
    """Notes for the user on a data set's own split, `parts` (n,) of `facesim.data.parts`: images of other parts that
    look like images to train on.
    """
    part = np.where(parts == TRAIN, 1, -1)
    compared = partial(progress, "comparing images")
    twins: dict[int, int] = {}  # copies of each picture that is not to train on
    every, crops, of_two = _Told(origins), _Told(origins), _Told(origins)
    for alike in alike_pairs(images, labels, part, comparing=compared, cropping=compared):
        first, second = alike.pair[:2]
        if part[first] * part[second] > 0:
            continue
        twin, copies = (first, alike.one) if part[first] < 0 else (second, alike.other)
        twins[twin] = len(copies)
        every.add(alike)
        if alike.pair.cropped:
            crops.add(alike)
        if labels[first] != labels[second]:
            of_two.add(alike)
    if not twins:
        return []
    copied = sum(twins.values())
    notes = [
        f"{copied:,} of the {int(np.sum(part < 0)):,} images that are not to train on "
        f"{'looks' if copied == 1 else 'look'} the same as "
        f"images to train on ({count_text(every.count, 'pair')}, {crops.count:,} of them crops; such as "
        f"{every.shown}): what is reached on them flatters. facesim data describe lists them.",
    ]
    if of_two.count:
        notes.append(
            f"of these pairs {count_text(of_two.count, 'is', 'are')} of two people ({of_two.shown}): of each, one name "
            "may be wrong."
        )
    return notes


class _Told:
    """How many pairs there are of some kind, and the places of the first ones."""

    def __init__(self, origins: Sequence[str]):
        self._origins, self._first = origins, list[Pair]()
        self.count = 0

    def add(self, alike: Alike) -> None:
        self.count += alike.count
        self._first += islice(alike.pairs(), 3 - len(self._first))

    @property
    def shown(self) -> str:
        return "; ".join(f"{self._origins[pair.first]} and {self._origins[pair.second]}" for pair in self._first)


def hashes_of(images: Images, indices: np.ndarray) -> np.ndarray:
    """The hash of each of the images at `indices`, uint8 (n, 32), a bit a frequency."""
    hashes = np.empty((len(indices), HASH_BYTES), np.uint8)
    for start in range(0, len(indices), _CHUNK):
        some = images[indices[start : start + _CHUNK]]
        hashes[start : start + _CHUNK] = np.packbits(_signs(_grey(some)) > 0, axis=1)
    return hashes


def _near(hashes: np.ndarray, near: float, progress: Callable[[int, int], None]) -> Iterator[tuple[int, int, float]]:
    """Two indices, the smaller one first, and the share of bits that differ, of hashes (n, 32) that are that close."""
    if len(hashes) <= _ALL_PAIRS:
        yield from _all_near(hashes, near, progress)
        return
    # Neighbouring frequencies are alike in faces, so a part takes them from all over: else parts would seldom differ.
    scattered = np.unpackbits(hashes, axis=1).reshape(-1, _BITS // _BANDS, _BANDS).transpose(0, 2, 1)
    keys = np.packbits(scattered, axis=2).reshape(len(hashes), _BANDS, -1).view(np.uint16)[:, :, 0]
    for band in range(_BANDS):
        order = np.argsort(keys[:, band], kind="stable")
        in_order = keys[order, band]
        # Each with the next of the same key, then with the one after that, for as long as any has one.
        places, ahead = np.arange(len(order)), 1
        while len(places := places[: np.searchsorted(places, len(order) - ahead)]):
            places = places[in_order[places] == in_order[places + ahead]]
            first, second = order[places], order[places + ahead]
            differing = np.zeros(len(places), np.uint16)
            for other in range(_BANDS):
                differing += _ONES[keys[first, other] ^ keys[second, other]]
            close = np.flatnonzero(differing <= near * _BITS)
            earlier = (keys[first[close], :band] == keys[second[close], :band]).any(axis=1)  # found by then
            for one in close[~earlier]:
                yield int(first[one]), int(second[one]), float(differing[one]) / _BITS
            ahead += 1
        progress((band + 1) * len(hashes) // _BANDS, len(hashes))


def _all_near(
    hashes: np.ndarray, near: float, progress: Callable[[int, int], None]
) -> Iterator[tuple[int, int, float]]:
    """The same of all pairs, as matrix products."""
    count = len(hashes)
    for start in range(0, count, _CHUNK):
        bits = _plus_minus(hashes[start : start + _CHUNK])
        for other in range(start, count, _CHUNK):
            other_bits = bits if other == start else _plus_minus(hashes[other : other + _CHUNK])
            # The product counts the bits that agree less those that differ.
            agreement = bits @ other_bits.T
            close = agreement >= _BITS * (1 - 2 * near)
            for row, column in np.argwhere(np.triu(close, k=1) if other == start else close):
                distance = (_BITS - float(agreement[row, column])) / (2 * _BITS)
                yield start + int(row), other + int(column), distance
        progress(min(start + _CHUNK, count), count)


def _plus_minus(hashes: np.ndarray) -> np.ndarray:
    """The bits of hashes (n, 32) as -1 and 1, float32 (n, 256)."""
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1


def _grey(images: np.ndarray) -> np.ndarray:
    return images @ np.full(images.shape[-1], 1 / images.shape[-1], np.float32)


def _signs(pictures: np.ndarray) -> np.ndarray:
    """The signs of the lowest frequencies of grey pictures (n, height, width), float32 (n, 256), -1 or 1."""
    return _signs_of(_waves(pictures.shape[1]) @ pictures @ _waves(pictures.shape[2]).T)


def _signs_of(frequencies: np.ndarray) -> np.ndarray:
    flat = frequencies.reshape(-1, _BITS)
    # The median by partition: NumPy's own copies and checks, which takes as long again.
    middle = np.partition(flat, (_BITS // 2 - 1, _BITS // 2), axis=1)[:, _BITS // 2 - 1 : _BITS // 2 + 1]
    return np.where(flat > middle.mean(axis=1, keepdims=True), np.float32(1), np.float32(-1))


@lru_cache(maxsize=512)
def _waves(size: int) -> np.ndarray:
    """The lowest cosines over `size` pixels, float32 (16, size); those that so few pixels do not have are 0."""
    from scipy.fft import dct

    waves = np.zeros((_FREQUENCIES, size), np.float32)
    cosines = dct(np.eye(size, dtype=np.float32), axis=0, norm="ortho")[1 : _FREQUENCIES + 1]
    waves[: len(cosines)] = cosines
    return waves


def _content(picture: np.ndarray) -> np.ndarray:
    """A grey picture without the black that it was padded with."""
    rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else picture


def _at_most(picture: np.ndarray, side: int) -> np.ndarray:
    """A grey picture, scaled so that no side of it is longer."""
    from PIL import Image

    scale = side / max(picture.shape)
    if scale >= 1:
        return picture
    height, width = (max(1, round(length * scale)) for length in picture.shape)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _unlike(picture: np.ndarray, shape: float) -> float:
    """How far a picture's width, in heights, is from `shape`, as a ratio's logarithm."""
    height, width = picture.shape
    return abs(math.log(width / height / shape))


def _nearest_crop(picture: np.ndarray, whole: np.ndarray, shapes: Iterable[float]) -> np.ndarray:
    """How close a crop of a grey picture (height, width) comes to each of the hashes `whole`, -1 or 1 (n, 256): the
    smallest share of bits that differ, (n,). `shapes` are the crops' widths in heights.
    """
    height, width = picture.shape
    sizes = {
        (max(1, round(share * min(height, width / shape))), max(1, round(share * min(width, height * shape))))
        for shape in shapes
        for share in _CROPS
    }
    nearest = np.full(len(whole), 1.0)
    for rows, columns in sizes - {(height, width)}:
        frequencies = _places(height, rows) @ picture @ _places(width, columns).T
        frequencies = frequencies.reshape(height - rows + 1, _FREQUENCIES, width - columns + 1, _FREQUENCIES)
        agreement = (_signs_of(frequencies.transpose(0, 2, 1, 3)) @ whole.T).max(axis=0)
        nearest = np.minimum(nearest, (_BITS - agreement) / (2 * _BITS))
    return nearest


@lru_cache(maxsize=512)
def _places(size: int, window: int) -> np.ndarray:
    """`_waves` of a window at each of its places in `size` pixels: float32 (places * 16, size)."""
    places = np.zeros((size - window + 1, _FREQUENCIES, size), np.float32)
    for place, waves in enumerate(places):
        waves[:, place : place + window] = _waves(window)
    return places.reshape(-1, size)

"""A prepared data set in a few numbers, and what in it would make a comparison say more than it knows."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from facesim.data.decode import BadFile
from facesim.data.duplicates import NEAR, Alike, Pair, alike_pairs
from facesim.data.identity import digests_of
from facesim.data.opening import opened
from facesim.data.prepare import too_many_unreadable
from facesim.data.prepared import PreparedData
from facesim.data.sources import listing_of, resolve
from facesim.data.tables import read_table
from facesim.spec.data import DataSpec
from facesim.util.unused import Unused

_DEFAULT = DataSpec()

#: So many suspected pairs are listed, the closest first; all are counted.
LISTED = 1000


@dataclass(frozen=True)
class Suspect:
    """Two images that look the same: where they are found, whom they are said to show, and what that does.

    `distance` is the share of their perceptual hashes that differs. `cropped`: one looks like a crop of the other,
    which is looked for across the split alone. `across_split`: one is trained on and the other one tested.
    `across_identities`: they are said to show two people, so one of the labels may be wrong.
    """

    first: str
    second: str
    first_identity: str
    second_identity: str
    distance: float
    identical: bool
    cropped: bool
    across_split: bool
    across_identities: bool


@dataclass(frozen=True)
class Sizes:
    """The image files' own widths and heights in pixels: smallest, median, largest; and how many are scaled up.

    Of files that are images; what is turned as its EXIF says counts as it is stored.
    """

    files: int
    width: tuple[int, float, int]
    height: tuple[int, float, int]
    scaled_up: int


def original_sizes(
    source: str, image_size: int, image_feature: str | None = None, label_feature: str | None = None
) -> Sizes | None:
    """The sizes of the image files that `source` names, by their headers alone; None where it is not files of images.
    `image_feature` and `label_feature` are as `prepare` takes them.

    Raises:
        InputError: `source` cannot be used.
    """
    kind, location = resolve(source)
    read = {"folder": listing_of, "csv": read_table}.get(kind)
    if read is None or location is None:
        return None
    sizes = []
    for example in read(location, image_feature, label_feature).examples:
        try:
            with opened(example.path) as image:
                sizes.append(image.size)
        except Exception:  # noqa: BLE001  a file that is no image is reported elsewhere
            continue
    if not sizes:
        return None
    width, height = ((int(min(lengths)), float(np.median(lengths)), int(max(lengths))) for lengths in zip(*sizes))
    return Sizes(len(sizes), width, height, sum(max(size) < image_size for size in sizes))


@dataclass(frozen=True)
class Description:
    """What `facesim data describe` shows; counts are of usable images.

    identities_of_group: how many identities each group has; identities without a group are not counted.
    duplicate_images: images whose pixels are exactly those of an earlier image.
    near_duplicate_pairs: pairs of images that look the same, exact duplicates included; such a pair that the split of
        the training divides (`across_split`) flatters the accuracy. `suspects` are the closest `LISTED` of them.
    unused: what of the source is not used, by reason, unreadable files included. notes: how the source was read and is
    split. refused: why a training refuses it, None if it does not.
    """

    name: str
    identities: int
    images: int
    images_per_identity_min: int
    images_per_identity_median: float
    images_per_identity_max: int
    image_shape: tuple[int, int, int]
    identities_of_group: dict[str, int]
    duplicate_images: int
    near_duplicate_pairs: int
    near_duplicate_pairs_across_split: int
    near_duplicate_pairs_across_identities: int
    suspects: tuple[Suspect, ...]
    bad_files: tuple[BadFile, ...]
    unused: tuple[Unused, ...]
    notes: tuple[str, ...]
    sha256: str
    refused: str | None = None


def describe(
    data: PreparedData,
    spec: DataSpec = _DEFAULT,
    near: float = NEAR,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Description:
    """Count what a prepared data set holds, with the split that `spec` gives a training.

    `near` is the share of a perceptual hash in which images that look the same may differ.

    Raises:
        InputError: there is no such split.
    """
    images = np.asarray(data.images)
    per_identity = np.bincount(data.labels, minlength=len(data.names))
    groups = [group for group in data.groups if group is not None]
    distinct = set(digests_of(images))
    part = np.zeros(len(images), np.int8)  # 1: trained on, -1: tested, 0: neither
    trained, tested = data.split(spec)
    part[trained], part[tested] = 1, -1

    counts = {"all": 0, "across_split": 0, "across_identities": 0}

    def counted() -> Iterator[Alike]:
        for alike in alike_pairs(images, data.labels, part, near, cropping=progress):
            first, second = alike.pair[:2]
            counts["all"] += alike.count
            counts["across_split"] += alike.count if part[first] * part[second] < 0 else 0
            counts["across_identities"] += alike.count if data.labels[first] != data.labels[second] else 0
            yield alike

    def likeness(pair: Pair) -> tuple[bool, float, int, int]:
        return not pair.identical, pair.distance, pair.first, pair.second

    alike = heapq.nsmallest(LISTED, counted(), key=lambda alike: likeness(alike.pair))
    closest = heapq.nsmallest(LISTED, chain.from_iterable(islice(one.pairs(), LISTED) for one in alike), key=likeness)
    origins = data.origins if closest else []
    suspects = tuple(
        Suspect(
            first=origins[pair.first],
            second=origins[pair.second],
            first_identity=data.names[data.labels[pair.first]],
            second_identity=data.names[data.labels[pair.second]],
            distance=pair.distance,
            identical=pair.identical,
            cropped=pair.cropped,
            across_split=bool(part[pair.first] * part[pair.second] < 0),
            across_identities=bool(data.labels[pair.first] != data.labels[pair.second]),
        )
        for pair in closest
    )
    return Description(
        name=data.name,
        identities=len(data.names),
        images=len(data.labels),
        images_per_identity_min=int(per_identity.min()),
        images_per_identity_median=float(np.median(per_identity)),
        images_per_identity_max=int(per_identity.max()),
        image_shape=data.image_shape,
        identities_of_group={group: groups.count(group) for group in dict.fromkeys(groups)},
        duplicate_images=len(data.labels) - len(distinct),
        near_duplicate_pairs=counts["all"],
        near_duplicate_pairs_across_split=counts["across_split"],
        near_duplicate_pairs_across_identities=counts["across_identities"],
        suspects=suspects,
        bad_files=data.bad_files,
        unused=data.unused,
        notes=data.notes_for(spec),
        sha256=data.sha256,
        refused=too_many_unreadable(data.bad_files, len(data.labels), spec.max_bad_files),
    )

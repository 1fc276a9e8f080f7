"""What a source gives: images, whom they show, where each is found; and how sources decode them.

A source says at once what determines its content, and opens it only when that is not prepared yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from facesim.data.decode import BadFile, Wanted, fit
from facesim.data.labels import People
from facesim.data.parts import TEST, TRAIN, VAL
from facesim.util.errors import InputError
from facesim.util.unused import Unused

#: So many images are decoded at a time.
_WINDOW = 256


@dataclass(frozen=True)
class Content:
    """Images that are available, and of whom. `pictures(indices)` yields those images, or why one cannot be read.

    `origin(index)` says where an image is found in the source: the file's path, or its place. `files` are what they are
    read from, None where an image has no file of its own. `parts` are those of a split that the source makes, one an
    image (`facesim.data.parts`); None where it makes none. `tested` is what another source is called whose images are
    those to test on (`tested_with`). `unused` is what of the source these images leave out, and `notes` what a user
    should know of how the source was read, a sentence each.
    """

    labels: np.ndarray
    names: Sequence[str]
    groups: Sequence[str | None]
    pictures: Callable[[np.ndarray], Iterator[np.ndarray | BadFile]]
    origin: Callable[[int], str] = "image {}".format
    files: Sequence[Path] | None = None
    parts: Sequence[int] | None = None
    unused: Sequence[Unused] = ()
    notes: Sequence[str] = ()
    tested: str | None = None

    @classmethod
    def of(
        cls,
        people: People,
        pictures: Callable[[np.ndarray], Iterator[np.ndarray | BadFile]],
        origin: Callable[[int], str],
        *,
        parts: Sequence[int],
        unused: Sequence[Unused],
        notes: Sequence[str],
    ) -> Content:
        """That of files of many images, whose people are in no groups; notes on people come last."""
        labels, groups = np.array(people.labels, np.int32), [None] * len(people.names)
        all_notes = [*notes, *people.notes]
        return cls(labels, people.names, groups, pictures, origin, parts=parts, unused=unused, notes=all_notes)


@dataclass(frozen=True)
class Source:
    """A name, what determines the content (as JSON-able data, cheap to have) and how to open it (maybe slow).

    `within`: it is a folder, and all of it lies there, so that it is the same while `walk.snapshot` of the folder is.
    `nameless`: in it nothing is called as `Wanted.image_feature` and `label_feature` could say.
    """

    name: str
    fingerprint: Any
    open: Callable[[], Content]
    within: bool = False
    nameless: bool = False


def tested_with(trained: Source, tested: Source, split: str) -> Source:
    """One source of two: all of `trained` is trained on, `tested` is tested on, and people are known by their names.

    Opening it raises InputError if `trained` has a part to test on itself, unless that is pooled (`split` "random").
    """

    def open_content() -> Content:
        first, second = trained.open(), tested.open()
        trained_parts = set(first.parts or ())
        if split == "own" and TRAIN in trained_parts and trained_parts & {VAL, TEST}:
            raise InputError(
                f"{trained.name} has a split of its own, and --test names other images to test on: give the folder or "
                f"file of its training images alone as --data, leave out --test, or train on all with --split random"
            )
        offset = len(first.labels)
        names = list(dict.fromkeys([*first.names, *second.names]))
        group_of = dict(zip((*second.names, *first.names), (*second.groups, *first.groups)))
        label_of = {name: label for label, name in enumerate(names)}
        labels = np.array([label_of[name] for name in second.names], np.int32)[second.labels]

        def pictures(indices: np.ndarray) -> Iterator[np.ndarray | BadFile]:
            yield from first.pictures(indices[indices < offset])
            yield from second.pictures(indices[indices >= offset] - offset)

        def origin(index: int) -> str:
            return first.origin(index) if index < offset else f"{tested.name}: {second.origin(index - offset)}"

        in_files = first.files is not None and second.files is not None
        return Content(
            np.concatenate([first.labels, labels]),
            names,
            [group_of[name] for name in names],
            pictures,
            origin,
            [*first.files, *second.files] if in_files else None,  # type: ignore[misc]
            [TRAIN] * offset + [TEST] * len(second.labels),
            [*first.unused, *second.unused],
            [*first.notes, *(f"{tested.name} (--test): {note}" for note in second.notes)],
            tested.name,
        )

    within = trained.within and tested.within
    return Source(trained.name, [trained.fingerprint, tested.fingerprint], open_content, within)


def in_parallel(
    picture_of: Callable[[int], np.ndarray | BadFile], wanted: Wanted
) -> Callable[[np.ndarray], Iterator[np.ndarray | BadFile]]:
    """Decode on every core: `Content.pictures` of a source that has its images one by one."""

    return lambda indices: each_in_parallel(picture_of, indices, len(indices), wanted)


def each_in_parallel(
    picture_of: Callable[[Any], np.ndarray | BadFile], sources: Iterable[Any], count: int, wanted: Wanted
) -> Iterator[np.ndarray | BadFile]:
    """The picture of each of `sources`, of which there are `count`, in their order, decoded on every core."""
    sources, done = iter(sources), 0
    with ThreadPoolExecutor() as pool:
        # A window at a time: millions of files must not become millions of pending results.
        while window := list(islice(sources, _WINDOW)):
            for picture in pool.map(picture_of, window):
                done += 1
                wanted.progress("decoding", done, count)
                yield picture


def from_arrays(
    image: Callable[[int], np.ndarray],
    labels: np.ndarray,
    names: Sequence[str],
    wanted: Wanted,
    notes: Sequence[str] = (),
    unused: Sequence[Unused] = (),
) -> Content:
    """`image` gives an image by its number: uint8 (h, w), or (h, w, channels) with 1, 3 or 4 of them."""
    from PIL import Image

    fitting = (wanted.image_size, wanted.image_size, wanted.channels)

    def pictures(indices: np.ndarray) -> Iterator[np.ndarray]:
        for done, index in enumerate(indices, 1):
            picture = image(int(index))
            if picture.shape != fitting:  # Pillow would copy what fits several times, and leave it as it is
                shown = Image.fromarray(picture[:, :, 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture)
                picture = fit(shown, wanted)
            wanted.progress("decoding", done, len(indices))
            yield picture

    labels = np.asarray(labels, np.int32).reshape(-1)
    return Content(labels, names, [None] * len(names), pictures, unused=unused, notes=notes)


def fingerprint(root: Path, paths: Sequence[Path]) -> list:
    """Where the files are and their sizes and times: what must differ when the images differ, or more can be read.

    Both times of change: of the content, which files keep that change places, and of the rest, such as permissions.
    """

    def facts(path: Path) -> list:
        try:
            stat = path.stat()
        except (OSError, ValueError):  # listed in a CSV but no such file, which decoding reports
            return [os.path.relpath(path, root), None]
        return [os.path.relpath(path, root), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]

    return [os.path.realpath(root), [facts(path) for path in paths]]

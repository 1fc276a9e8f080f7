"""Faces cut out alike: found by five landmarks, and turned, scaled and shifted so that these come to lie on a template.

The template is ArcFace's, for 112 x 112 pixels (Deng et al., 2019, and InsightFace's `face_align`), as most published
networks and verification sets are cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facesim.data.decode import BadFile, whole_picture
from facesim.data.detectors import Detector, Face
from facesim.data.layouts import Listing, look_through
from facesim.data.rendering import Progress
from facesim.data.sources import listing_of
from facesim.data.tables import lists_of
from facesim.util.errors import InputError
from facesim.util.files import check_outside
from facesim.util.unused import Unused, printable

if TYPE_CHECKING:
    from PIL import Image

#: x and y of the left eye, the right eye, the nose, and the left and right corner of the mouth.
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
TEMPLATE_SIZE = 112

#: Faces are looked for in a picture of at most so many pixels a side, around which there is so much of a margin: a face
#: that fills its picture is hardly found without.
_DETECTED, _MARGIN = 640, 0.25


@dataclass(frozen=True)
class Faces:
    """How many images of a folder show one face, and which of them several or none, or cannot be read, by their paths
    in the folder.
    """

    one: int
    several: tuple[str, ...]
    without: tuple[str, ...]
    unreadable: tuple[BadFile, ...]


@dataclass(frozen=True)
class Aligned:
    """What became of a folder's images: how many were written, and which of them had several faces, of which the
    largest was taken; those without a face, and those that cannot be read, were not. Each by its path in the folder.
    """

    written: int
    several: tuple[str, ...]
    without: tuple[str, ...]
    unreadable: tuple[BadFile, ...]
    unused: tuple[Unused, ...]


def similarity(landmarks: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """The turn and scale `a` and the shift `b` that bring points (n, 2) closest to others, as `a (x + iy) + b`: least
    squares without a reflection (Umeyama, 1991, in two dimensions).
    """
    points, others = (x + 1j * y for x, y in (landmarks.T, target.T))
    centred = points - points.mean()
    a = np.vdot(centred, others - others.mean()) / np.vdot(centred, centred)
    return complex(a), complex(others.mean() - a * points.mean())


def cut(picture: Image.Image, landmarks: np.ndarray, size: int = TEMPLATE_SIZE) -> Image.Image:
    """The face with these landmarks, float (5, 2), aligned: a picture of `size` x `size` pixels."""
    from PIL import Image

    turn, _ = similarity(landmarks, TEMPLATE * size / TEMPLATE_SIZE)
    if (shrink := int(1 / abs(turn))) > 1:  # what follows looks at few pixels of a large picture
        picture, landmarks = picture.reduce(shrink), landmarks / shrink
    turn, shift = similarity(landmarks, TEMPLATE * size / TEMPLATE_SIZE)
    back, from_there = 1 / turn, -shift / turn
    rows = (back.real, -back.imag, from_there.real, back.imag, back.real, from_there.imag)
    return picture.transform((size, size), Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC)


def find_faces(picture: Image.Image, detector: Detector) -> list[Face]:
    """The faces of a picture, RGB, the largest first, in its own pixels."""
    from PIL import Image

    scale = min(1.0, _DETECTED / max(picture.size))
    small = picture.resize(tuple(max(1, round(side * scale)) for side in picture.size)) if scale < 1 else picture
    margin = round(_MARGIN * max(small.size))
    framed = Image.new("RGB", (small.width + 2 * margin, small.height + 2 * margin), (128, 128, 128))
    framed.paste(small, (margin, margin))
    # Landmarks that are all in one pixel are no face's, and could not be turned and scaled.
    found = [face for face in detector(np.asarray(framed)) if np.ptp(face.landmarks, axis=0).max() >= 1]
    faces = [Face((face.landmarks - margin) / scale, face.area / scale**2) for face in found]
    return sorted(faces, key=lambda face: -face.area)


def align_folder(
    source: Path, out: Path, detector: Detector, size: int = TEMPLATE_SIZE, progress: Progress = lambda *_: None
) -> Aligned:
    """Write the faces of the folder `source`, aligned, to the new folder `out`: as PNG, in the same folders.

    Raises:
        InputError: `source` is no folder of people, or `out` is there already, or cannot be written.
    """
    if lists := lists_of(source):
        raise InputError(
            f"{printable(str(source))} has a {lists[0].name} that says whom its images show, which folders of aligned "
            f"faces cannot keep. Sort the images into a folder for each person first, or move that file away."
        )
    listing = look_through(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{printable(str(out))} already exists and is not an empty folder. Name a new folder.")
    check_outside(out, source)
    root = source.resolve()
    written, several, without, unreadable = 0, list[str](), list[str](), list[BadFile]()
    for path, picture, faces in _looked_at(listing, root, detector, "aligning", progress):
        if isinstance(picture, BadFile):
            unreadable.append(picture)
        elif faces:
            several += [printable(path.as_posix())] if len(faces) > 1 else []
            file = out / path.with_name(f"{path.name}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            cut(picture, faces[0].landmarks, size).save(file)
            written += 1
        else:
            without.append(printable(path.as_posix()))
    return Aligned(written, *map(tuple, (several, without, unreadable)), listing.unused)


def count_faces(
    source: Path,
    detector: Detector,
    progress: Progress = lambda *_: None,
    image_feature: str | None = None,
    label_feature: str | None = None,
) -> Faces:
    """How many faces the images of the folder `source` show. `image_feature` and `label_feature` are as `prepare` takes
    them.

    Raises:
        InputError: it is no folder of people.
    """
    one, several, without, unreadable = 0, list[str](), list[str](), list[BadFile]()
    listing = listing_of(source, image_feature, label_feature)
    for path, picture, faces in _looked_at(listing, source.resolve(), detector, "looking", progress):
        if isinstance(picture, BadFile):
            unreadable.append(picture)
        elif len(faces) == 1:
            one += 1
        else:
            (several if faces else without).append(printable(path.as_posix()))
    return Faces(one, tuple(several), tuple(without), tuple(unreadable))


def _looked_at(
    listing: Listing, root: Path, detector: Detector, phase: str, progress: Progress
) -> Iterator[tuple[Path, Image.Image | BadFile, list[Face]]]:
    """Each image's path, in the folder `root` if it lies there, its picture, and the faces there, the largest first."""
    for done, example in enumerate(listing.examples, 1):
        picture = whole_picture(example.path, root)
        faces = [] if isinstance(picture, BadFile) else find_faces(picture, detector)
        inside = example.path.is_relative_to(root)  # a list may name images that lie elsewhere
        yield example.path.relative_to(root) if inside else example.path, picture, faces
        progress(phase, done, len(listing.examples))


def in_lines(aligned: Aligned, shown: int = 20) -> Sequence[str]:
    """What became of a folder's images, in lines."""
    counts = {
        f"several faces, of which the largest is taken: {len(aligned.several):,}": aligned.several,
        f"no face that was found, left out: {len(aligned.without):,}": aligned.without,
        f"cannot be read, left out: {len(aligned.unreadable):,}": [
            f"{bad.path}: {bad.reason}" for bad in aligned.unreadable
        ],
    }
    lines = [f"faces written: {aligned.written:,}"]
    for what, paths in counts.items():
        lines += [what, *(f"  {path}" for path in paths[:shown])] if paths else []
        lines += [f"  and {len(paths) - shown:,} more, with --json"] if len(paths) > shown else []
    return [*lines, *(f"not used: {one}" for one in aligned.unused)]

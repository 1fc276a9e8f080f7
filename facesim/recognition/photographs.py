"""Which images the users of a model name: galleries of people who are known, and other photographs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from facesim.data.labels import notes_on_alike
from facesim.data.layouts import Example, people_further_down, people_like_splits
from facesim.data.sources import listing_of
from facesim.data.walk import walk
from facesim.util.errors import InputError
from facesim.util.folders import local_path
from facesim.util.unused import Unused, printable
from facesim.util.unused import in_words as unused_in_words


class NoticeWarning(UserWarning):
    """Something that the user should know: images that are not used, say."""


def warn(text: str) -> None:
    warnings.warn(text, NoticeWarning, stacklevel=4)


@dataclass(frozen=True)
class Gallery:
    """Images of people whose names are known."""

    examples: tuple[Example, ...]
    names: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path | str, notice: Callable[[str], None] = warn, least: int = 2) -> Gallery:
        """A folder for each person, or with a `metadata.csv` that says whom its images show. `notice` is called with
        what of it is not used.

        Raises:
            InputError: the folder cannot be used, or shows fewer than `least` people.
        """
        folder = local_path(folder)
        listing = listing_of(folder)
        names = sorted({example.identity for example in listing.examples})
        if not names:
            left_out = f"; not used: {unused_in_words(listing.unused)}" if listing.unused else ""
            raise InputError(
                f"the list of the gallery {printable(str(folder))} names nobody{left_out}; write a line for each "
                "image, with its path and whom it shows, or remove the list and give a folder for each person",
                field="gallery",
                value=str(folder),
            )
        notes = [*people_like_splits(listing.examples), *people_further_down(folder, listing.examples)]
        _tell(folder, listing.unused, [*listing.notes, *notes, *notes_on_alike(names)], notice)
        if len(names) < least:
            raise InputError(
                f"the gallery {folder} shows only {names[0]}; it takes two people to tell one from the other",
                field="gallery",
                value=str(folder),
            )
        return cls(tuple(listing.examples), tuple(names))


def image_files(paths: Path | str | Iterable[Path | str], notice: Callable[[str], None] = warn) -> list[Path]:
    """The image files that `paths` name, folders searched through, in order; `notice` is called with what is not used.

    Raises:
        InputError: there are none.
    """
    given = [local_path(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    files = [file for path in given for file in (_images_below(path, notice) if os.path.isdir(path) else [path])]
    if not files:
        named = printable(", ".join(map(str, given)))
        raise InputError(f"no images in {named}; name image files or folders of them", field="images", value=named)
    return files


def _images_below(folder: Path, notice: Callable[[str], None]) -> Sequence[Path]:
    walked = walk(folder)
    _tell(folder, walked.unused, (), notice)
    return walked.images


def _tell(folder: Path, left_out: Sequence[Unused], notes: Sequence[str], notice: Callable[[str], None]) -> None:
    for text in (*([f"not used: {unused_in_words(left_out)}"] if left_out else []), *notes):
        notice(f"{printable(str(folder))}: {text}")

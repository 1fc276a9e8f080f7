"""The split that a data set itself makes: which images are to train on, to choose settings with, and to test on.

Every kind of source says it in its own way (folders, a column, names of files or of arrays). Each tells the part of
each image, and `kept_split` decides, for all alike, whether that is a split and which notes a user gets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from facesim.util.errors import InputError
from facesim.util.words import count_text

#: Parts of a split, as `Content.parts` and `PreparedData.parts` number them; NO_PART: the source names none.
TRAIN, VAL, TEST = 0, 1, 2
NO_PART = -1

PARTS = ("train", "val", "test")

_WORDS = {
    TRAIN: ("train", "training"),
    VAL: ("val", "valid", "validation", "dev", "publictest"),  # FER2013's Usage has PublicTest and PrivateTest
    TEST: ("test", "testing", "eval", "evaluation", "held-out", "held_out", "holdout", "privatetest"),
}
_ENDS = ("", *(between + end for between in ("", " ", "_", "-") for end in ("set", "data", "images")))
_PART_OF_WORD = {word + end: part for part, words in _WORDS.items() for word in words for end in _ENDS}

#: A regular expression of the words that parts are called by, the longest first.
PART_WORD = "|".join(sorted((re.escape(word) for words in _WORDS.values() for word in words), key=len, reverse=True))


def part_called(name: str) -> int:
    """The part that is called `name`, in any case, such as `Training` or `Test Set`; NO_PART if none is."""
    return _PART_OF_WORD.get(name.strip().lower(), NO_PART)


def parts_of_places(places: Sequence[Sequence[str]]) -> list[int]:
    """The part that each of some places is by the first of its names that is called as one; NO_PART where none is.

    A place is the names of its folders, from the outermost on. Those that all of several places begin with are not
    asked: they are around the whole data set, which may well be called `training_data`.
    """
    around = len(os.path.commonprefix(places)) if len(set(map(tuple, places))) > 1 else 0  # type: ignore[type-var]
    called = (map(part_called, place[around:]) for place in places)
    return [next((part for part in parts if part != NO_PART), NO_PART) for parts in called]


def words_of(name: str) -> list[str]:
    """What of a file's name may be called as a part, such as `train` of `faces-train-00001-of-00004`: its words, each
    with the next one, joined by a dash, where only both together are called as one, as `held-out` is.
    """
    words = re.split(r"[^a-z]+", name.lower())
    pairs = (f"{one}-{other}" for one, other in zip(words, [*words[1:], ""]))
    return [pair if part_called(word) == NO_PART != part_called(pair) else word for word, pair in zip(words, pairs)]


def kept_split(
    parts: Sequence[int] | np.ndarray | None, split: Literal["own", "random"], source: str, notes: Sequence[str] = ()
) -> tuple[np.ndarray | None, list[str]]:
    """The part of each image, int8 (n,), if `parts` make a split that is to be kept, and notes for the user.

    They make one where there are images to train on and others. With `split` "random" it is not kept. `notes` are those
    on how the source was read.

    Raises:
        InputError: only some of the images have a part, so that it is unclear where the others belong.
    """
    image_parts = np.array([] if parts is None else parts, np.int8)
    counts = {part: int(np.sum(image_parts == part)) for part in (TRAIN, VAL, TEST)}
    named = {PARTS[part]: count for part, count in counts.items() if count}
    sizes = ", ".join(f"{name} {count:,}" for name, count in named.items())
    without = int(np.sum(image_parts == NO_PART))
    if split == "random":
        return None, [f"its own split ({sizes}) is not kept: all images are pooled."] if len(named) > 1 else []
    if len(named) < 2:
        images = count_text(without, "image is", "images are")
        alone = f"it names one part of a split ({sizes}), and {images} of none that is called as one is"
        return None, [f"{alone}: all images are pooled and split anew."] if named and without else []
    if not counts[TRAIN]:
        return None, [f"its own split ({sizes}) has no part to train on: all images are pooled and split anew."]
    if without:
        raise InputError(
            f"{source} has a split of its own ({sizes}), and "
            f"{count_text(without, 'image that belongs', 'images that belong')} to none of its parts. Put each image "
            f"into one of {', '.join(PARTS)}, or pool all of them with --split random. "
            f"{' '.join(notes)}".rstrip(),
            field="split",
            value="own",
            allowed=["own", "random"],
        )
    return image_parts, []

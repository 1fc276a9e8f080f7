"""Files that are one data set together: which part of a split each is by its name, and whether all are there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from facesim.data.parts import parts_of_places, words_of
from facesim.data.walk import system_name
from facesim.util.errors import InputError
from facesim.util.words import count_text

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


def of_a_user(folder: Path, found: Iterable[Path]) -> Iterator[Path]:
    """Those of the files found below `folder` that are no system's, as macOS' `._train.tar` beside `train.tar` is."""
    return (file for file in found if not any(map(system_name, file.relative_to(folder).parts)))


def complete_set(folder: Path, found: Iterable[Path]) -> list[Path]:
    """The files that are one data set, in order, of those found below `folder`.

    Raises:
        InputError: files are called `name-00001-of-00004`, and some of the four are missing; the message names the
            first.
    """
    files = sorted(of_a_user(folder, found))
    _check_complete(folder, files)
    return files


def _check_complete(folder: Path, files: Iterable[Path]) -> None:
    sets: dict[tuple[Path, str, int], set[int]] = {}
    for file in files:
        if numbered := _SHARD.search(file.name):
            key = (file.parent, file.name[: numbered.start()], int(numbered[2]))
            sets.setdefault(key, set()).add(int(numbered[1]))
    for (_, name, count), numbers in sets.items():
        if missing := sorted(set(range(count)) - numbers):
            raise InputError(
                f"{folder}: {name} has {count_text(count, 'file')} and {count_text(len(missing), 'is', 'are')} "
                f"missing, among them number {missing[0]}. Copy or download them."
            )


def parts_of(files: Sequence[Path], root: Path) -> list[int]:
    """The part of a split that each file is, by the folders between it and `root`, or by its own name."""
    return parts_of_places([[*file.relative_to(root).parts[:-1], *words_of(file.name)] for file in files])

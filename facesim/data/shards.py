"""Files that are one data set together: which part of a split each is by its name, and whether all are there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from facesim.data.parts import NO_PART, part_called, part_of_file
from facesim.util.errors import InputError

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")


def check_complete(folder: Path, files: Iterable[Path]) -> None:
    """Refuse files of `folder` that are called `name-00001-of-00004` where some of the four are missing.

    Raises:
        InputError: some are; the message names the first.
    """
    sets: dict[tuple[Path, str, int], set[int]] = {}
    for file in files:
        if numbered := _SHARD.search(file.name):
            key = (file.parent, file.name[: numbered.start()], int(numbered[2]))
            sets.setdefault(key, set()).add(int(numbered[1]))
    for (_, name, count), numbers in sets.items():
        if missing := sorted(set(range(count)) - numbers):
            raise InputError(
                f"{folder}: {name} has {count} files and {len(missing)} are missing, among them number {missing[0]}. "
                f"Copy or download them."
            )


def part_of(file: Path, root: Path) -> int:
    """The part of a split that a file is by the folders between it and `root`, or by its own name; NO_PART if none."""
    folders = (part_called(folder) for folder in file.relative_to(root).parts[:-1])
    return next((part for part in folders if part != NO_PART), part_of_file(file.name))

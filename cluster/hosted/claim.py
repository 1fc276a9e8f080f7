"""What is done in a pod that has a persistent volume claim mounted: folders go into it, come out of it, are removed.

python -m cluster.hosted.claim has FOLDER        ends with 0 if there is such a folder, with 1 if not
python -m cluster.hosted.claim receive FOLDER    makes it of the tar archive on its input, all of it or nothing
python -m cluster.hosted.claim send FOLDER       writes the newest of its numbered folders, as tar.gz, to its output
python -m cluster.hosted.claim remove FOLDER
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path


def has(folder: Path) -> int:
    return 0 if folder.is_dir() else 1


def receive(folder: Path) -> int:
    """The input need not end: an archive says itself where it does."""
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    part.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            for member in archive:
                archive.extract(member, part, set_attrs=False)
        if not folder.exists():  # another has brought the same meanwhile
            part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return 0


def send(folder: Path) -> int:
    attempts = [path for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    with (
        gzip.open(sys.stdout.buffer, "wb", compresslevel=1) as compressed,
        tarfile.open(fileobj=compressed, mode="w|") as archive,
    ):
        if attempts:
            archive.add(max(attempts, key=lambda path: int(path.name)), ".")
    return 0


def remove(folder: Path) -> int:
    if folder.exists():
        shutil.rmtree(folder)
    return 0


_COMMANDS: dict[str, Callable[[Path], int]] = {"has": has, "receive": receive, "send": send, "remove": remove}

if __name__ == "__main__":
    sys.exit(_COMMANDS[sys.argv[1]](Path(sys.argv[2])))

"""What a pod does itself where the storage is in S3: folders come from there before its host starts, and go there while
it runs and once it has ended.

python -m facesim.backends.kubernetes.in_pod fetch ADDRESS PLACE FOLDER...
python -m facesim.backends.kubernetes.in_pod keep ADDRESS PLACE CHECKPOINTS NUMBER RESULTS

A FOLDER is below ADDRESS there, and below PLACE here. The newest NUMBER of checkpoints stay there. Credentials are
those of the pod's service account, or of its environment.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from facesim.backends.hosted import KEPT
from facesim.backends.sagemaker.storage import prune_checkpoints, split

#: The file in PLACE that says that what is written from now on will be kept.
READY = ".ready"

_EVERY_S = 3.0


def fetch(s3: Any, address: str, place: Path, folders: list[str]) -> None:
    """Bring folders, which need not be there; of checkpoints not what each host has recorded, a folder of its own."""
    for folder in folders:
        (place / folder).mkdir(parents=True, exist_ok=True)
        for key, file in objects(s3, f"{address}{folder}/", place / folder):
            if file.relative_to(place / folder).parts[0] != KEPT:
                file.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(split(address)[0], key, str(file))
                os.utime(file, (0, 0))  # which tells it from what is written here


def objects(s3: Any, uri: str, place: Path) -> Iterator[tuple[str, Path]]:
    """(key, file below `place`) of all that is at an address."""
    bucket, prefix = split(uri)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            name = PurePosixPath(entry["Key"][len(prefix) :])
            if name.parts and not name.is_absolute() and ".." not in name.parts:
                yield entry["Key"], place / name


def keep(s3: Any, address: str, place: Path, checkpoints: str, number: int, results: str) -> None:
    """Upload checkpoints as they are written; after SIGTERM the rest, and the results. What fails is tried again."""
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    (place / READY).touch()
    sent: dict[Path, tuple[int, int]] = {}
    last = complete = False
    while not complete:
        last = last or ended.wait(_EVERY_S)
        try:
            if _send(s3, address, place, checkpoints, sent):
                prune_checkpoints(s3, f"{address}{checkpoints}/", number)
            if last:
                _send(s3, address, place, results, sent)
            complete = last
        except Exception as error:  # whatever it is, the pod's end is the only limit
            print(f"{type(error).__name__}: {error}", flush=True)
            threading.Event().wait(_EVERY_S)


def _send(s3: Any, address: str, place: Path, folder: str, sent: dict[Path, tuple[int, int]]) -> bool:
    """Upload the files of a folder that have been written since; whether there were any."""
    any_sent = False
    for file in sorted(path for path in (place / folder).rglob("*") if path.is_file()):
        try:
            status = file.stat()
            state = (status.st_mtime_ns, status.st_size)
            if status.st_mtime_ns and sent.get(file) != state:
                bucket, prefix = split(address)
                s3.upload_file(str(file), bucket, prefix + file.relative_to(place).as_posix())
                sent[file], any_sent = state, True
        except FileNotFoundError:
            continue  # renamed or removed by its writer: the next time finds it
    return any_sent


def main(command: str, address: str, place: str, *arguments: str) -> None:
    import boto3

    s3 = boto3.client("s3")
    if command == "fetch":
        try:
            fetch(s3, address, Path(place), list(arguments))
        except Exception as error:  # whatever it is, it becomes the reason of the pod's failure
            sys.exit(f"{address} cannot be read: {type(error).__name__}: {error}")
    else:
        checkpoints, number, results = arguments
        keep(s3, address, Path(place), checkpoints, int(number), results)


if __name__ == "__main__":
    main(*sys.argv[1:])

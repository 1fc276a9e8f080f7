"""S3: folders uploaded unless they are there already, objects downloaded, archives unpacked safely."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from facesim.backends.sagemaker.advice import AwsError
from facesim.util.disk import MAKE_ROOM, is_full, no_room
from facesim.util.errors import DiskFull, InputError
from facesim.util.words import count_text


def split(uri: str) -> tuple[str, str]:
    """`s3://bucket/some/folder/` -> (`bucket`, `some/folder/`)."""
    address = urlsplit(uri)
    return address.netloc, address.path.lstrip("/")


def have_bucket(s3: Any, name: str, region: str, owner: str | None) -> None:
    """Make the bucket unless it is there.

    Raises:
        InputError: it belongs to somebody else than `owner`, an account's number, or may not be used.
    """
    if not has_bucket(s3, name, owner):
        create_bucket(s3, name, region)


def has_bucket(s3: Any, name: str, owner: str | None, anywhere: bool = False) -> bool:
    """Whether there is the bucket, in the region of `s3` or `anywhere`.

    Raises:
        InputError: it belongs to somebody else than `owner`, an account's number, is in another region than `s3`, or
            may not be used.
    """
    from botocore.exceptions import ClientError

    try:
        answer = s3.head_bucket(Bucket=name, **_expected(owner))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "403":
            raise InputError(
                f"the S3 bucket {name} does not belong to the account {owner}, or you may not use it: give another "
                "--bucket, or --bucket-owner if you mean to use that of another account; `facesim policy` prints what "
                "has to be allowed"
            ) from None
        if code not in ("404", "NoSuchBucket"):
            raise
        return False
    # boto3 follows to the region of a bucket; training jobs take one of their own region alone.
    region = answer.get("BucketRegion", s3.meta.region_name)
    if region != s3.meta.region_name and not anywhere:
        raise InputError(
            f"the S3 bucket {name} is in {region} and the job would run in {s3.meta.region_name}: give --region "
            f"{region}, or another --bucket"
        )
    return True


def create_bucket(s3: Any, name: str, region: str) -> None:
    # us-east-1 is where a bucket is without a constraint, and may not be named as one.
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with suppress(s3.exceptions.BucketAlreadyOwnedByYou):  # another job has made it meanwhile
        s3.create_bucket(Bucket=name, **place)


class Sent(NamedTuple):
    """How much of a file has been uploaded."""

    file: Path
    sent_bytes: int
    bytes: int
    done: bool


def upload(s3: Any, folder: Path, uri: str, kms_key: str | None = None, owner: str | None = None) -> Iterator[Sent]:
    """Put every file of `folder` under `uri`, an address that belongs to this very content; tell how far it is. The
    bucket must be `owner`'s, an account's number.

    A file that is present with the same size is the same file, so an upload that broke off continues where it was. To
    end the upload early, close the iterator.
    """
    from boto3.s3.transfer import TransferConfig, create_transfer_manager

    bucket, prefix = split(uri)
    present = {
        entry["Key"]: entry["Size"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **_expected(owner))
        for entry in page.get("Contents", [])
    }
    extra = {**_expected(owner), **encryption(kms_key)}
    with create_transfer_manager(s3, TransferConfig()) as manager:  # left early, it cancels what it does
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            key, size = prefix + file.relative_to(folder).as_posix(), file.stat().st_size
            if present.get(key) == size:
                continue
            counter = _Counter()
            future = manager.upload(str(file), bucket, key, extra_args=extra, subscribers=[counter])
            while not future.done():
                yield Sent(file, counter.bytes, size, False)
                time.sleep(_TELL_EVERY_S)
            future.result()
            yield Sent(file, size, size, True)


def encryption(kms_key: str | None) -> dict[str, str]:
    """What has S3 encrypt an object that is uploaded with a key of the user's, if there is one."""
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}


_TELL_EVERY_S = 0.1


class _Counter:
    """Counts what a transfer sends: what s3transfer calls a subscriber."""

    def __init__(self) -> None:
        self.bytes = 0

    def on_queued(self, **_: Any) -> None:
        pass

    def on_progress(self, bytes_transferred: int, **_: Any) -> None:
        self.bytes += bytes_transferred

    def on_done(self, **_: Any) -> None:
        pass


def download(s3: Any, uri: str, file: Path, owner: str | None = None) -> bool:
    """Bring one object of a bucket that is `owner`'s home; False if there is none."""
    from botocore.exceptions import ClientError

    bucket, key = split(uri)
    try:
        s3.download_file(bucket, key, str(file), ExtraArgs=_expected(owner))
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return False
        raise
    return True


#: A checkpoint; and one that was being written when SageMaker copied it, which is whole under its own name by now.
_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.npz")
_UNFINISHED = re.compile(r"\.checkpoint-(\d+)\.npz\.\d+")


def prune_checkpoints(s3: Any, uri: str, keep: int, owner: str | None = None) -> int:
    """Leave the newest `keep` of the checkpoints in each folder below `uri`, and say how many went. What a host removes
    from its disk SageMaker leaves in S3, so a day of checkpoints would be kept, and paid for.

    Raises:
        AwsError: one may not be removed.
    """
    bucket, prefix = split(uri)
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **_expected(owner))
    folders: dict[str, list[str]] = {}  # tasks that train on their own have one each
    for entry in (entry for page in pages for entry in page.get("Contents", [])):
        folders.setdefault(entry["Key"].rpartition("/")[0], []).append(entry["Key"])
    old = [key for keys in folders.values() for key in _not_needed(keys, keep)]
    for begin in range(0, len(old), _MOST_AT_ONCE):
        removal = {"Objects": [{"Key": key} for key in old[begin : begin + _MOST_AT_ONCE]], "Quiet": True}
        answer = s3.delete_objects(Bucket=bucket, Delete=removal, **_expected(owner))
        for error in answer.get("Errors", []):
            raise AwsError(f"cannot remove {error.get('Key')} from S3: {error.get('Code')}: {error.get('Message')}")
    return len(old)


def _not_needed(keys: Iterable[str], keep: int) -> list[str]:
    """Of the objects of one folder the checkpoints that are older than its newest `keep`, or are whole elsewhere."""
    numbered, unfinished = (
        {key: int(name[1]) for key in keys if (name := pattern.fullmatch(key.rpartition("/")[2]))}
        for pattern in (_CHECKPOINT, _UNFINISHED)
    )
    newest = max(numbered.values(), default=-1)
    return [
        *sorted(numbered, key=numbered.__getitem__, reverse=True)[keep:],
        *(key for key, number in unfinished.items() if number <= newest),
    ]


#: Objects that S3 deletes at once.
_MOST_AT_ONCE = 1000


def _expected(owner: str | None) -> dict[str, str]:
    """What lets S3 refuse a bucket that is not `owner`'s: somebody else may have made one of that name."""
    return {"ExpectedBucketOwner": owner} if owner else {}


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar.gz: regular files and folders below `folder`, nothing else, and no more than there is room for.

    A link, a device, or a name that leads elsewhere is refused: what is in an archive was written by a container, and
    must not write anywhere else on this machine, nor read, nor fill its disk or memory.

    Raises:
        AwsError: the archive is damaged, or holds what it may not.
        DiskFull: there is no room for it now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    room = int(_DISK_SHARE * shutil.disk_usage(folder).free)
    try:
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=_Bounded(unzipped), mode="r:") as tar:
            size = 0
            for number, member in enumerate(tar, 1):
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
                    raise AwsError(
                        f"{archive.name} holds {member.name!r}, which is no file below it; it is not unpacked"
                    )
                size += member.size
                if number > _MOST_FILES or size > _MOST_BYTES:
                    raise AwsError(
                        f"{archive.name} holds more than can be unpacked: {count_text(number, 'file')} (at most "
                        f"{_MOST_FILES:,}), {size:,} bytes (at most {_MOST_BYTES:,}); the rest is not unpacked"
                    )
                if size > room:
                    raise DiskFull(no_room(folder, MAKE_ROOM))
                place = folder / name
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                content = tar.extractfile(member)
                assert content is not None, "a regular file has content"
                with content, place.open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and is_full(error):
            raise DiskFull(no_room(folder, MAKE_ROOM)) from None
        raise AwsError(f"{archive.name} cannot be unpacked: {error}") from None


#: A job's model, logs and metrics are far below these.
_MOST_FILES = 100_000
_MOST_BYTES = 1 << 36

#: The share of the free disk that one archive may fill.
_DISK_SHARE = 0.9


class _Bounded:
    """A file of which no more is read at a time than a name can take: a tar's header may promise gigabytes of one."""

    _MOST = 1 << 24

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > self._MOST:
            raise ValueError(f"a header of {size:,} bytes")
        return self._file.read(size)

"""Data that is not on this machine: an address in S3, or on a file system at AWS, that a job's hosts read themselves.

s3://BUCKET/FOLDER, efs://FILE-SYSTEM/FOLDER (Amazon EFS) and fsx://FILE-SYSTEM/FOLDER (Amazon FSx for Lustre, whose
folders begin with the name of its mount).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from facesim.spec import aws_names
from facesim.util.errors import InputError

_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<place>[^/]*)/?(?P<path>.*)", re.DOTALL)
_FILE_SYSTEM = re.compile(r"fs-[0-9a-f]{8,40}")

#: Ends of names of files that are a data set by themselves.
_FILES = (".npz", ".csv", ".tsv", ".zip", ".rec", ".tfrecord", ".tfrecords")

SCHEMES = ("s3", "efs", "fsx")


class Remote(NamedTuple):
    """An address: a bucket, or a file system's id, and a folder or file there, without a slash before it."""

    scheme: str
    place: str
    path: str

    @property
    def prefix(self) -> str:
        """What keys begin with: without its slash that of faces/ would be that of faces-of-others/ as well."""
        is_file = self.path.lower().endswith(_FILES)
        return self.path if is_file or self.path.endswith("/") else f"{self.path}/"


def remote(data: str) -> Remote | None:
    """The address that --data is; None where it is no address.

    Raises:
        ValueError: it is one that nothing can be read from.
    """
    match = _ADDRESS.fullmatch(data)
    if match is None:
        return None
    address = Remote(match["scheme"], match["place"], match["path"])
    if address.scheme not in SCHEMES:
        raise ValueError(f"{address.scheme}:// is not read; copy it to a folder, or to s3://BUCKET/FOLDER")
    if address.scheme == "s3":
        aws_names.bucket(address.place)
    elif not _FILE_SYSTEM.fullmatch(address.place):
        raise ValueError(f"a file system is given by its id, {address.scheme}://fs-0123456789abcdef0/FOLDER")
    if not address.path.strip("/"):
        raise ValueError(f"name the folder or file, too: {address.scheme}://{address.place}/FOLDER")
    return address


def refuse_remote(data: str, why: str) -> None:
    """See that --data is on this machine; `why` it has to be, and what to do, in words.

    Raises:
        InputError: hosts read it themselves.
    """
    if remote(data):
        raise InputError(f"--data {data} is read by hosts alone{why}", field="data", value=data)

"""The S3 addresses of a job's request: `cluster.containers.transfer.Store` over a boto3 client."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class S3Store:
    """Copies between folders and S3 prefixes."""

    def __init__(self, s3: Any):
        self._s3 = s3
        self._uploaded: dict[tuple[str, str], tuple[int, int]] = {}  # address -> modification time, size

    def download(self, uri: str, directory: Path) -> None:
        bucket, prefix = _split(uri)
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                file = directory / entry["Key"][len(prefix) :]
                if not file.resolve().is_relative_to(directory.resolve()):
                    raise ValueError(f"{entry['Key']} leads out of its folder")
                file.parent.mkdir(parents=True, exist_ok=True)
                self._s3.download_file(bucket, entry["Key"], str(file))

    def upload(self, directory: Path, uri: str) -> None:
        bucket, prefix = _split(uri)
        for file in sorted(path for path in directory.rglob("*") if path.is_file()):
            key = prefix + str(file.relative_to(directory))
            try:
                about = file.stat()
                state = (about.st_mtime_ns, about.st_size)
                if self._uploaded.get((bucket, key)) != state:
                    self._s3.put_object(Bucket=bucket, Key=key, Body=file.read_bytes())
                    self._uploaded[bucket, key] = state
            except FileNotFoundError:
                continue  # renamed or removed by its writer: the next time finds it


def _split(uri: str) -> tuple[str, str]:
    """`s3://bucket/some/folder` -> (`bucket`, `some/folder/`)."""
    address = urlsplit(uri)
    return address.netloc, address.path.strip("/") + "/"

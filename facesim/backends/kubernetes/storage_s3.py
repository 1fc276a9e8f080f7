"""S3 in place of the claim: folders go there, and come from there, without a pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from facesim.backends.kubernetes.in_pod import objects
from facesim.backends.kubernetes.storage import StoppedError
from facesim.backends.sagemaker.session import Account, NoAccount, asking
from facesim.backends.sagemaker.storage import has_bucket, split, upload
from facesim.runs.events import Event, Uploaded
from facesim.util.errors import InputError

#: Asked where no region is configured: S3 answers with the one of the bucket.
_REGION = "us-east-1"


class S3Storage:
    """What `facesim.backends.kubernetes.storage.Storage` is for a claim.

    Raises:
        InputError: S3 cannot be used from here.
    """

    def __init__(self, address: str):
        self.address = address
        try:
            account = Account()
        except NoAccount:
            account = Account(_REGION)
        self._s3 = account.client("s3")

    def start(self) -> Iterator[Event | None]:
        with asking(f"use {self.address}"):
            if not has_bucket(self._s3, split(self.address)[0], owner=None, anywhere=True):
                raise InputError(f"there is no bucket for --storage {self.address}; make it, or name another")
        yield None

    def has(self, folder: str) -> bool:
        return False  # `upload` looks file by file

    def upload(self, source: Path, folder: str, stopped: Callable[[], bool]) -> Iterator[Event]:
        with asking(f"upload to {self.address}{folder}"):
            for sent in upload(self._s3, source, f"{self.address}{folder}/"):
                if stopped():
                    raise StoppedError
                if sent.done:
                    yield Uploaded(file=sent.file.name, to=folder, bytes=sent.bytes)

    def fetch(self, folder: str, place: Path) -> list[str]:
        with asking(f"download {self.address}{folder}"):
            entries = list(objects(self._s3, f"{self.address}{folder}/", Path()))
            attempts = {int(file.parts[0]) for _, file in entries if file.parts[0].isdigit()}
            for key, file in entries:
                if file.parts[0] == str(max(attempts, default="")):
                    there = place.joinpath(*file.parts[1:])
                    there.parent.mkdir(parents=True, exist_ok=True)
                    self._s3.download_file(split(self.address)[0], key, str(there))
        return []

    def remove(self, folder: str) -> None:
        bucket = split(self.address)[0]
        with asking(f"remove {self.address}{folder}"):
            for key, _ in objects(self._s3, f"{self.address}{folder}/", Path()):
                self._s3.delete_object(Bucket=bucket, Key=key)

    def close(self) -> None:
        pass

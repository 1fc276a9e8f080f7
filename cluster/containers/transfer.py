"""What a job copies between its store and the folders of its hosts: channels, checkpoints and results."""

from __future__ import annotations

import contextlib
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from cluster.containers.engine import EngineError
from cluster.containers.opt_ml import Host

_SYNC_S = 2.0


class Store(Protocol):
    """Where the URIs of a request lead. Its methods may be called by several threads."""

    def download(self, uri: str, directory: Path) -> None:
        """Put every file below `uri` into `directory`, which exists. Nothing below `uri` is no error."""

    def upload(self, directory: Path, uri: str) -> None:
        """Put every file below `directory` under `uri`, over what is there; what else is there stays.

        Called again and again for checkpoints, so it should pass over a file that it has already put there unchanged.
        """


class Transfer:
    """Copies what a CreateTrainingJob request names, for its `hosts`, whose folders lie in `directory`."""

    def __init__(self, request: dict[str, Any], store: Store, directory: Path, hosts: Sequence[Host]):
        self._request, self._store, self._directory, self._hosts = request, store, directory, hosts
        self._kept: dict[str, Any] = {}  # of each host's checkpoint folder, what the store has
        self._failures: dict[str, Exception] = {}  # by host, why the store has not what its folder has

    @property
    def has_checkpoints(self) -> bool:
        """Whether the request names a place for checkpoints."""
        return "CheckpointConfig" in self._request

    def download_channels(self) -> dict[str, Path]:
        """The folder of each input channel, downloaded by the first attempt."""
        folders = {}
        for channel in self._request.get("InputDataConfig", []):
            folders[channel["ChannelName"]] = folder = self._directory / "channels" / channel["ChannelName"]
            if not folder.exists():
                folder.mkdir(parents=True)
                self._store.download(channel["DataSource"]["S3DataSource"]["S3Uri"], folder)
        return folders

    def restore_checkpoints(self, host: Host) -> None:
        """Put the checkpoints that the store has into a host's folder, before it starts."""
        self._store.download(self._request["CheckpointConfig"]["S3Uri"], host.place / "checkpoints")
        self._kept[host.name] = _snapshot(host.place / "checkpoints")

    def keep_checkpoints(self, ended: threading.Event, failed: Callable[[str, str], None]) -> None:
        """Upload what the hosts put into their checkpoint folders while they run, and once more at the end.

        `failed` is told the host, and why, when what it has cannot be stored: once until that goes well again.
        """
        uri = self._request["CheckpointConfig"]["S3Uri"]
        while True:
            last = ended.wait(_SYNC_S)
            for host in self._hosts:
                folder = host.place / "checkpoints"
                now = _snapshot(folder)
                if now != self._kept[host.name]:
                    try:
                        self._store.upload(folder, uri)
                    except FileNotFoundError:
                        continue  # renamed or removed meanwhile: next time
                    except Exception as error:  # such as a full disk, which may have room next time
                        if host.name not in self._failures:
                            failed(host.name, f"{type(error).__name__}: {error}")
                        self._failures[host.name] = error
                        continue
                    self._kept[host.name] = now
                    self._failures.pop(host.name, None)
            if last:
                return

    def check_kept(self) -> None:
        """Raise EngineError if the store has not the last checkpoints: `keep_checkpoints` has returned."""
        for host, error in self._failures.items():
            raise EngineError(f"the checkpoints of {host} could not be stored: {type(error).__name__}: {error}")

    def upload_results(self) -> None:
        """Put `model.tar.gz` and `output.tar.gz`, of all hosts, where SageMaker puts them."""
        results = self._directory / "results"
        results.mkdir(exist_ok=True)
        for name, part in (("model", "model"), ("output", "output/data")):
            with tarfile.open(results / f"{name}.tar.gz", "w:gz", compresslevel=1) as archive:
                for host in self._hosts:
                    for path in sorted((host.place / part).iterdir()):
                        archive.add(path, path.name)
        address = f"{self._request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self._request['TrainingJobName']}"
        self._store.upload(results, f"{address}/output")
        if shown := self._request.get("TensorBoardOutputConfig"):  # which SageMaker uploads while the job runs, too
            address = f"{shown['S3OutputPath'].rstrip('/')}/{self._request['TrainingJobName']}/tensorboard-output"
            for host in self._hosts:
                self._store.upload(host.place / "output" / "tensorboard", address)


def _snapshot(folder: Path) -> list[tuple[str, int, int]]:
    """What tells whether anything in a folder has changed."""
    states = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            states.append((str(path), status.st_size, status.st_mtime_ns))
    return states

"""Checkpoints that cannot be stored are tried again, and told; no attempt begins without them."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from cluster.containers import transfer
from cluster.containers.engine import EngineError
from cluster.containers.opt_ml import Host


class Store:
    """A folder of names, with room for what is put there after so many tries."""

    def __init__(self, failing: int):
        self.failing, self.tried, self.names = failing, threading.Semaphore(0), set()

    def download(self, uri: str, directory: Path) -> None:
        assert uri == "s3://checkpoints"

    def upload(self, directory: Path, uri: str) -> None:
        self.failing -= 1
        self.tried.release()
        if self.failing >= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.names |= {path.name for path in directory.iterdir()}


def kept(
    store: Store, place: Path, monkeypatch: pytest.MonkeyPatch, tries: int
) -> tuple[transfer.Transfer, list[tuple[str, str]]]:
    """What has kept a host's checkpoint, with so many tries before the host ended, and the failures that it told."""
    monkeypatch.setattr(transfer, "_SYNC_S", 0.01)
    host = Host("algo-1", "ml.m5.large", "", place)
    (place / "checkpoints").mkdir()
    keeper = transfer.Transfer({"CheckpointConfig": {"S3Uri": "s3://checkpoints"}}, store, place, [host])
    keeper.restore_checkpoints(host)
    (place / "checkpoints" / "checkpoint-1.npz").write_bytes(b"all of it")
    ended, told = threading.Event(), []
    thread = threading.Thread(target=keeper.keep_checkpoints, args=(ended, lambda host, why: told.append((host, why))))
    thread.start()
    for _ in range(tries):
        assert store.tried.acquire(timeout=60)
    ended.set()
    thread.join(10)
    assert not thread.is_alive()
    return keeper, told


def test_a_checkpoint_that_cannot_be_stored_is_tried_again(tmp_path, monkeypatch):
    store = Store(failing=2)

    keeper, told = kept(store, tmp_path, monkeypatch, tries=3)

    keeper.check_kept()
    assert store.names == {"checkpoint-1.npz"}
    assert told == [("algo-1", "OSError: [Errno 28] No space left on device")]


def test_a_checkpoint_that_was_never_stored_is_an_error(tmp_path, monkeypatch):
    keeper, _ = kept(Store(failing=1_000_000), tmp_path, monkeypatch, tries=1)

    with pytest.raises(EngineError, match="checkpoints of algo-1 could not be stored: OSError.*No space left"):
        keeper.check_kept()

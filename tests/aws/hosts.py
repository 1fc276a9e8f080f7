"""Hosts that do what a test says in place of training: everything around them is real, and no container is needed."""

from __future__ import annotations

import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.containers.opt_ml import hosts_of
from facesim.metrics.announced import announcement
from facesim.metrics.files import SampleWriter
from facesim.testing.emulator.storage import S3Store
from facesim.util.files import write_json

#: Of a single process that saw eight batches of eight.
OUTCOME = {
    "stopped": False,
    "held_out_accuracy": 0.75,
    "examples_seen": 64,
    "training_s": 1.0,
    "counted": {
        "examples_due": 64,
        "examples": 64,
        "updates": 8,
        "last_version": 8,
        "steps_by_worker": {"0": 8},
        "examples_by_worker": {"0": 64},
    },
}


@dataclass
class Script:
    """What the hosts do. With `until` they train until it is set, the job is stopped, or its capacity goes. Once as
    many jobs train as are due, `all_training` is set.
    """

    fails_with: str | None = None
    given_data: bool = False  # as a user has it, for hosts to prepare
    cpu_percent: float = 50.0
    until: threading.Event | None = None
    training: threading.Event = field(default_factory=threading.Event)
    training_jobs_due: int = 1
    all_training: threading.Event = field(default_factory=threading.Event)
    started: list[str] = field(default_factory=list)
    prints: tuple[str, ...] = ()
    resumed_from: list[bytes] = field(default_factory=list)
    accuracy: Callable[[dict[str, str]], float] = lambda hyperparameters: 0.75  # held-out, by what a job is given

    def start(self, request: dict[str, Any], store: S3Store, directory: Path) -> ScriptedHosts:
        return ScriptedHosts(self, request, store, directory)


class ScriptedHosts:
    def __init__(self, script: Script, request: dict[str, Any], store: S3Store, directory: Path):
        self._script, self._request, self._store, self._directory = script, request, store, directory
        hosts = hosts_of(request["ResourceConfig"], directory)
        self._hosts = [host.name for host in hosts]
        self._resources = {
            "instance_groups": [
                {"instance_type": kind, "hosts": [host.name for host in hosts if host.instance_type == kind]}
                for kind in {host.instance_type for host in hosts}
            ]
        }
        self._accuracy = script.accuracy(request["HyperParameters"])
        self._stop, self._interrupt = threading.Event(), threading.Event()

    def events(self, tick_s: float) -> Iterator[dict[str, Any] | None]:
        attempt, ended = 0, None
        while ended is None:
            attempt += 1
            yield _state("Starting")
            yield _state("Downloading")
            data = self._directory / f"data-{attempt}"
            data.mkdir(parents=True)
            self._store.download(self._request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"], data)
            prepared = self._script.given_data or (data / "dataset.json").exists()
            assert prepared and any(data.iterdir()), "the data is there"
            yield _state("Training")
            yield from self._train(attempt)
            self._script.training.set()
            self._script.started.append(self._request["TrainingJobName"])
            if len(self._script.started) >= self._script.training_jobs_due:
                self._script.all_training.set()
            while self._script.until and not (
                self._script.until.is_set() or self._stop.is_set() or self._interrupt.is_set()
            ):
                self._script.until.wait(tick_s)
                yield None
            if self._interrupt.is_set():
                self._interrupt.clear()
                yield _state("Interrupted")
                continue
            ended = "stopped" if self._stop.is_set() else "failed" if self._script.fails_with else "completed"
        yield from self._end(ended)

    def stop(self) -> None:
        self._stop.set()

    def interrupt(self, notice_s: float | None = None, again_after_s: float = 0.0) -> None:
        self._interrupt.set()

    def close(self) -> None:
        self._stop.set()

    def _train(self, attempt: int) -> Iterator[dict[str, Any]]:
        """One epoch: a checkpoint, a line of each host, what each uses, and on every host the files of its run."""
        checkpoints = self._directory / f"checkpoints-{attempt}"
        checkpoints.mkdir()
        uri = self._request.get("CheckpointConfig", {}).get("S3Uri")
        if uri:
            self._store.download(uri, checkpoints)
        self._script.resumed_from += [file.read_bytes() for file in sorted(checkpoints.glob("checkpoint"))]
        (checkpoints / "checkpoint").write_bytes(b"after attempt %d" % attempt)
        for step in (9, 100, 20):
            (checkpoints / f"checkpoint-{step:09d}.npz").write_bytes(b"")
        if uri:
            self._store.upload(checkpoints, uri)
        for host in self._hosts:
            yield _event("log", host=host, line=f"hello from {host}, attempt {attempt}")
            for _ in range(2):
                yield _event("stats", host=host, cpu_percent=self._script.cpu_percent, memory_percent=25.0)
            metrics = self._directory / "output" / host / "metrics"
            writer = SampleWriter(metrics / "psutil.jsonl", run_id="there", host="a-container", source="psutil")
            writer.write(time.time(), "host", 0, {"cpu_percent": 12.5, "cpu_count": 4})
            write_json(metrics.parent / "resourceconfig.json", self._resources)
            (metrics.parent / "logs").mkdir(exist_ok=True)
            (metrics.parent / "logs" / "monitor-0.log").write_text(f"monitor of {host}\n")
        for line in self._script.prints:
            yield _event("log", host="algo-1", line=line)
        values = {"epoch": 1, "loss": 0.5, "held_out_accuracy": self._accuracy}
        yield _event("log", host="algo-1", line=announcement(values))
        chief = SampleWriter(
            self._directory / "output" / "algo-1" / "metrics" / "chief-0.jsonl",
            run_id="there",
            host="a-container",
            source="training",
        )
        chief.write(time.time(), "chief", 0, values)

    def _end(self, outcome: str) -> Iterator[dict[str, Any]]:
        if outcome == "stopped":
            yield _state("Stopping")
        write_json(
            self._directory / "output" / "algo-1" / "outcome.json", OUTCOME | {"held_out_accuracy": self._accuracy}
        )
        (self._directory / "model").mkdir()
        (self._directory / "model" / "model.keras").write_bytes(b"a model")
        yield _state("Uploading")
        archives = self._directory / "archives"
        archives.mkdir()
        for name in ("output", "model"):
            with tarfile.open(archives / f"{name}.tar.gz", "w:gz") as tar:
                tar.add(self._directory / name, arcname=".")
        home = self._request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
        self._store.upload(archives, f"{home}/{self._request['TrainingJobName']}/output/")
        yield _state({"completed": "Completed", "failed": "Failed", "stopped": "Stopped"}[outcome])
        yield _event("node_ended", outcome=outcome, reason=self._script.fails_with or "")


def _state(name: str) -> dict[str, Any]:
    return _event("state", state=name)


def _event(name: str, **details: Any) -> dict[str, Any]:
    return {"time_unix_s": time.time(), "event": name, **details}

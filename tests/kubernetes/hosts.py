"""Hosts that do what a test says in place of training: everything around them is real, and no container is needed."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from facesim.metrics.announced import announcement
from facesim.metrics.files import SampleWriter
from facesim.util.files import write_json
from tests.aws.hosts import OUTCOME
from tests.kubernetes.pods import Container, Process


@dataclass
class Script:
    """What the hosts do. With `until` they train until it is set, or they are stopped."""

    fails_with: str | None = None
    until: threading.Event | None = None
    resumed_from: list[str] = field(default_factory=list)
    started: list[Container] = field(default_factory=list)

    def start(self, container: Container) -> Process:
        self.started.append(container)
        return ScriptedHost(self, container)


class ScriptedHost:
    def __init__(self, script: Script, container: Container):
        self._script, self._container = script, container
        self._printed: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stop, self._killed = threading.Event(), threading.Event()
        self._code = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def lines(self) -> Iterator[str]:
        while (line := self._printed.get()) is not None:
            yield line

    def wait(self) -> int:
        self._thread.join()
        return self._code

    def signal(self, name: str) -> None:
        if name == "SIGKILL":
            self._killed.set()
        self._stop.set()

    def close(self) -> None:
        self.signal("SIGKILL")

    def _run(self) -> None:
        try:
            self._code = self._train()
        finally:
            self._printed.put(None)

    def _train(self) -> int:
        """One epoch: a checkpoint, a line of each host, and on every host the files of its run."""
        container, print_ = self._container, self._printed.put
        host = container.environment["CLUSTER_CURRENT_HOST"]
        config = container.folder("/opt/ml/input/config")
        resources = json.loads((config / "resourceconfig.json").read_text())
        assert host in resources["hosts"] and (container.folder("/opt/ml/input/data/data") / "dataset.json").exists()
        print_(json.dumps({"time_unix_s": time.time(), "event": "node_started", "host": host}))
        print_(f"hello from {host}, attempt {container.environment['ATTEMPT']}")
        output = container.folder("/opt/ml/output/data") / host
        SampleWriter(output / "metrics" / "psutil.jsonl", run_id="there", host="pod", source="psutil").write(
            time.time(), "host", 0, {"cpu_percent": 12.5, "cpu_count": 4}
        )
        checkpoint = container.folder("/opt/ml/checkpoints") / "checkpoint"
        is_first = host == resources["hosts"][0]
        if is_first:
            if checkpoint.exists():
                self._script.resumed_from.append(checkpoint.read_text())
            checkpoint.write_text(f"after attempt {container.environment['ATTEMPT']}")
            values = {"epoch": 1, "loss": 0.5, "held_out_accuracy": 0.75}
            print_(announcement(values))
            chief = SampleWriter(output / "metrics" / "chief-0.jsonl", run_id="there", host="pod", source="training")
            chief.write(time.time(), "chief", 0, values)
        while self._script.until and not (self._script.until.is_set() or self._stop.is_set()):
            self._script.until.wait(0.02)
        if self._killed.is_set():
            return 137
        if self._script.fails_with is not None:
            container.message[0].write_text(self._script.fails_with)
            return 1
        if is_first:
            write_json(output / "outcome.json", OUTCOME | {"stopped": self._stop.is_set()})
            (container.folder("/opt/ml/model") / "model.keras").write_bytes(b"a model")
        return 143 if self._stop.is_set() else 0

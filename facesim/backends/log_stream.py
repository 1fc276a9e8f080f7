"""What the hosts of a job print: kept as logs, and read for what it tells while the job runs."""

from __future__ import annotations

import json
from typing import Any

from facesim.metrics.announced import announced
from facesim.metrics.files import SampleWriter
from facesim.runs.directory import Run

#: What a node tells that is not an event of the whole run.
_OF_NODE = ("node_started", "node_ended")


class LogStream:
    """Appends lines to `logs/HOST.log` of a run; announced metrics become samples until the real ones are home."""

    def __init__(self, run: Run):
        self._run = run
        self._live: SampleWriter | None = None

    def add(self, host: str, line: str, time_unix_s: float) -> dict[str, Any] | None:
        """Take one line; the event of the run that it tells, if it tells one."""
        with self._run.log_file(host).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if values := announced(line):
            if self._live is None:
                self._live = SampleWriter(
                    self._run.metrics / "live.jsonl", run_id=self._run.id, host=host, source="training"
                )
            self._live.write(time_unix_s, "chief", 0, values)
        if line.startswith('{"time_unix_s"'):
            try:
                reported = json.loads(line)
            except ValueError:
                return None
            if reported.get("event") not in _OF_NODE:
                return {"host": host, **reported}
        return None

    def settle(self) -> None:
        """The samples that hosts took are home: those that were announced are not needed any more."""
        if self._live and any(self._run.metrics.glob("chief-0-*.jsonl")):
            self._live.close()
            self._live = None
            (self._run.metrics / "live.jsonl").unlink()

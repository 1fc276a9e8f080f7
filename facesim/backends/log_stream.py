"""What the hosts of a job print: kept as logs, and read for what it tells while the job runs."""

from __future__ import annotations

import json

from facesim.metrics.announced import announced
from facesim.metrics.files import SampleWriter
from facesim.runs.directory import Run
from facesim.runs.events import Event, NodeEnded, NodeStarted, parse_event

#: What a node tells that is not an event of the whole run.
_OF_NODE = (NodeStarted, NodeEnded)


class LogStream:
    """Appends lines to `logs/HOST.log` of a run; announced metrics become samples until the real ones are home."""

    def __init__(self, run: Run):
        self._run = run
        self._live: SampleWriter | None = None

    def add(self, host: str, line: str, time_unix_s: float) -> Event | None:
        """Take one line; the event of the run that it tells, if it tells one. A host may print anything."""
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
                reported = parse_event({"host": host, **json.loads(line)})
            except (ValueError, RecursionError):
                return None
            return None if isinstance(reported, _OF_NODE) else reported
        return None

    def settle(self) -> None:
        """The samples that hosts took are home: those that were announced are not needed any more."""
        if self._live and any(self._run.metrics.glob("chief-0-*.jsonl")):
            self._live.close()
            self._live = None
            (self._run.metrics / "live.jsonl").unlink()

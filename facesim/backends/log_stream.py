"""What the hosts of a job print: kept as logs, and read for what it tells while the job runs."""

from __future__ import annotations

import json
from pathlib import Path

from facesim.metrics.announced import FILE, announced
from facesim.metrics.files import SampleTail, SampleWriter
from facesim.runs.directory import Run
from facesim.runs.events import Event, NodeEnded, NodeStarted, parse_event

#: What a node tells that is not an event of the whole run.
_OF_NODE = (NodeStarted, NodeEnded)


class LogStream:
    """Appends lines to `logs/HOST.log` of a run; announced metrics become samples until the real ones are home."""

    def __init__(self, run: Run):
        self._run = run
        self._home_before = self._home()
        self._live: SampleWriter | None = None
        self._live_before: set[float] = set()  # times of what somebody who followed the job before has written

    def add(self, host: str, line: str, time_unix_s: float) -> Event | None:
        """Take one line; the event of the run that it tells, if it tells one. A host may print anything."""
        with self._run.log_file(host).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if values := announced(line):
            if self._live is None:
                self._live_before = {sample.time_unix_s for sample in SampleTail(self._run.metrics, FILE).new()}
                self._live = SampleWriter(self._run.metrics / FILE, run_id=self._run.id, host=host, source="training")
            if time_unix_s not in self._live_before:
                self._live.write(time_unix_s, "chief", 0, values)
        if line.startswith('{"time_unix_s"'):
            try:
                reported = parse_event({"host": host, **json.loads(line)})
            except (ValueError, RecursionError):
                return None
            return None if isinstance(reported, _OF_NODE) else reported
        return None

    def settle(self) -> None:
        """If the samples that hosts took are home now, those that were announced are not needed any more."""
        if self._home() != self._home_before:  # what was here before is of an earlier job of the run
            if self._live:
                self._live.close()
                self._live = None
            (self._run.metrics / FILE).unlink(missing_ok=True)

    def _home(self) -> dict[Path, int]:
        """Files of what the chief recorded, and when each was written."""
        return {file: file.stat().st_mtime_ns for file in self._run.metrics.glob("chief-0-*.jsonl")}

"""A study's runs, sent to a tracker while they run."""

from __future__ import annotations

import time
from pathlib import Path

from facesim.runs.directory import Run
from facesim.runs.records import Result
from facesim.study.observers import Observer
from facesim.tracking.tracker import Feed, Tracker, open_tracker
from facesim.util.folders import local_path

#: What has been measured is sent after so many seconds.
_EVERY_S = 1.0


class Tracking(Observer):
    """Sends what is measured to a tracker: `tensorboard`, `mlflow`, `wandb`, `trackio`, or one of another package.

    folder: where the tracker keeps what it keeps on this machine.

    Raises:
        InputError: there is no such tracker, what it needs is not installed, or it cannot be used.
    """

    def __init__(self, tracker: str, folder: Path | str = "runs"):
        self._name, self._folder = tracker, local_path(folder)
        self._idle = [open_tracker(tracker, self._folder)]
        self._feeds: dict[str, tuple[Feed, Tracker]] = {}  # of the runs that go on, which may be several
        self._sent = time.monotonic()

    def started(self, run: Run, position: int, jobs: int) -> None:
        tracker = self._idle.pop() if self._idle else open_tracker(self._name, self._folder)
        feed = Feed(run, tracker, self._name)
        self._feeds[run.id] = feed, tracker
        feed.begin()

    def tick(self) -> None:
        if time.monotonic() - self._sent > _EVERY_S:
            for feed, _ in self._feeds.values():
                feed.send()
            self._sent = time.monotonic()

    def ended(self, run: Run, result: Result) -> None:
        if run.id in self._feeds:
            feed, tracker = self._feeds.pop(run.id)
            feed.finish()
            self._idle.append(tracker)

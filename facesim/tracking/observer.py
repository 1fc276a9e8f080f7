"""A study's runs, told to a tracker as they go on."""

from __future__ import annotations

import time
from pathlib import Path

from facesim.runs.directory import Run
from facesim.runs.records import Result
from facesim.study.observers import Observer
from facesim.tracking.tracker import Feed, open_tracker

#: What has been measured is sent after so many seconds.
_EVERY_S = 1.0


class Tracking(Observer):
    """Sends what is measured to a tracker: `tensorboard`, `mlflow`, `wandb`, `trackio`, or one of another package.

    folder: where the tracker keeps what it keeps on this machine.

    Raises:
        InputError: there is no such tracker, what it needs is not installed, or it cannot be used.
    """

    def __init__(self, tracker: str, folder: Path | str = "runs"):
        self._name, self._tracker = tracker, open_tracker(tracker, Path(folder))
        self._feed: Feed | None = None

    def started(self, run: Run, position: int, jobs: int) -> None:
        self._finish()  # of one that could not be followed to its end
        self._feed = Feed(run, self._tracker, self._name)
        self._feed.begin()
        self._sent = time.monotonic()

    def tick(self) -> None:
        if self._feed and time.monotonic() - self._sent > _EVERY_S:
            self._feed.send()
            self._sent = time.monotonic()

    def ended(self, run: Run, result: Result) -> None:
        self._finish()

    def _finish(self) -> None:
        feed, self._feed = self._feed, None
        if feed:
            feed.finish()

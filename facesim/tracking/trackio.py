"""Trackio: a run for each run, in the folder that Trackio keeps (TRACKIO_DIR), or where its own variables say."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import trackio

from facesim.tracking.tracker import Point, TrackedRun, Tracker, rows_by_time


class Trackio(Tracker):
    """Runs of the project TRACKIO_PROJECT, or `facesim`. `trackio show` shows them."""

    @property
    def place(self) -> str:
        return str(trackio.TRACKIO_DIR)

    def start(self, run: TrackedRun) -> None:
        with redirect_stdout(sys.stderr):  # it prints where the runs are
            self._run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT") or "facesim",
                name=run.id,
                config={**run.parameters, **run.tags},
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def log(self, points: Sequence[Point]) -> None:
        for _, row in rows_by_time(points):
            self._run.log(row)

    def end(self, run: TrackedRun, report: Path | None) -> None:
        self._run.log({**run.results, **run.tags, "since_launch_s": run.ended_unix_s - run.launched_unix_s})
        if report:
            artifact = trackio.Artifact(f"report-{run.id}", type="report")
            artifact.add_file(str(report))
            self._run.log_artifact(artifact)
        with redirect_stdout(sys.stderr):
            self._run.finish()

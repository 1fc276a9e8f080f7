"""Weights & Biases: a run for each run; offline, for `wandb sync` later, unless the environment says otherwise."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import wandb

from facesim.runs.states import RunState
from facesim.tracking.tracker import Point, TrackedRun, Tracker, rows_by_time
from facesim.util.errors import doing

#: wandb takes no longer tag.
_TAG_LENGTH = 64

#: Tags are few words to choose runs by; these are in the summary alone.
_NO_TAG = ("run_id", "directory", "failure", "disturbed")


class WandB(Tracker):
    """Runs of the project WANDB_PROJECT, or `facesim`; online with WANDB_API_KEY, or with WANDB_MODE=online where you
    have logged in. Other variables of wandb's mean what they always do.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        with doing(f"write to {folder}", "name another folder with --output"):
            folder.mkdir(parents=True, exist_ok=True)
        # Offline it asks for no key, which in the middle of a study nobody may be there to give.
        self._mode = os.environ.get("WANDB_MODE") or ("online" if "WANDB_API_KEY" in os.environ else "offline")

    @property
    def place(self) -> str:
        return str(self.folder / "wandb") if self._mode == "offline" else str(self._run.url)

    def start(self, run: TrackedRun) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "facesim",
            name=run.id,
            dir=self.folder,
            mode=self._mode,
            config=run.parameters,
            tags=[f"{name}:{value}"[:_TAG_LENGTH] for name, value in run.tags.items() if name not in _NO_TAG],
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, disable_git=True),
        )
        self._run.define_metric("*", step_metric="since_launch_s")

    def log(self, points: Sequence[Point]) -> None:
        for moment, row in rows_by_time(points):
            self._run.log({**row, "_timestamp": moment})

    def end(self, run: TrackedRun, report: Path | None) -> None:
        self._run.summary.update({**run.results, **run.tags})
        if report:
            artifact = wandb.Artifact(f"report-{run.id}", "report")
            artifact.add_file(str(report))
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=0 if run.state is RunState.COMPLETED else 1)

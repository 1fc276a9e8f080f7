"""A command that goes on while a test does something to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from facesim.runs.directory import Run
from tests.conftest import PATIENCE_S, wait_until


class Running:
    """A `python -m facesim` that goes on."""

    def __init__(self, directory: Path, *arguments: object, output: bool = True):
        self.output = directory
        named = ["--output", str(directory)] if output else []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "facesim", *map(str, arguments), *named],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run_that_trains(self) -> Run:
        """The run, once its chief has applied updates."""

        def training() -> list[Path]:
            assert self.process.poll() is None, self.process.communicate()[0]
            files = self.output.glob("*/metrics/chief-0.jsonl")
            return [file.parent.parent for file in files if '"updates"' in file.read_text()]

        wait_until(training)
        return Run(training()[0])

    def end(self) -> tuple[int, str]:
        """Wait for its end: its exit code and what it printed."""
        shown, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, shown

"""What stands for an argument that was left out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from facesim.study.observers import Observer

#: Where a study leaves its runs.
OUTPUT = Path("runs")


def observers_or_display(given: Iterable[Observer] | None) -> Iterable[Observer]:
    """The observers that were given; the display on the terminal where they were left out."""
    if given is not None:
        return given
    from rich.console import Console

    from facesim.study.progress import display

    return [display(Console())]

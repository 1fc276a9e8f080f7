"""What the benchmarks share: running a job without display, medians over rounds, a small table, JSON."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.study.runner import run_study


@contextmanager
def run_completed(**options: Any) -> Iterator[Run]:
    """A run of one job, in a temporary folder.

    Raises:
        RuntimeError: it did not complete.
    """
    with tempfile.TemporaryDirectory(prefix="facesim-bench-") as output:
        (run,) = run_study([make_job(**options)], Path(output))
        result = run.result()
        if result is None or result["state"] != "Completed":
            raise RuntimeError(f"the run did not complete: {result and result['failure']}")
        yield run


def run_job(**options: Any) -> dict[str, Any]:
    """Run one job in a temporary folder and return its result.

    Raises:
        RuntimeError: it did not complete.
    """
    with run_completed(**options) as run:
        return run.result()


def show(title: str, figures: dict[str, list[float]], base: str, unit: str, note: str = "") -> dict[str, Any]:
    """Print each series' median and its ratio to `base`, the median over rounds of the ratio within a round. Returned
    is what `benchmarks.regression` compares; more is better, but for a `unit` of time or memory.
    """
    click.echo(f"\n{title}")
    summary: dict[str, Any] = {
        "title": title,
        "unit": unit,
        "base": base,
        "lower_is_better": unit in ("s", "ms", "MiB"),
        "series": {},
    }
    for name, values in figures.items():
        ratios = [value / reference for value, reference in zip(values, figures[base])]
        ratio = statistics.median(ratios)
        click.echo(
            f"  {name:55} {statistics.median(values):9.2f} {unit:9}  x{ratio:.2f}"
            f"   (rounds: {', '.join(f'{value:.2f}' for value in ratios)})"
        )
        summary["series"][name] = {"values": values, "ratio_to_base": ratio}
    if note:
        click.echo(f"  {note}")
    return summary


def yardstick_s() -> float:
    """CPU seconds of a fixed piece of work, half Python's and half NumPy's: a base for what computes on one core."""
    numbers = np.random.default_rng(0).random(2_000_000)
    begin = time.process_time()
    np.sort(numbers)
    sum(number % 7 for number in range(2_000_000))
    return time.process_time() - begin


def write(summaries: list[dict[str, Any]], path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(summaries, indent=1) + "\n", encoding="utf-8")

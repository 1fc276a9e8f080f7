"""What the benchmarks share: running a job without display, what disturbed it, medians over rounds, tables, JSON."""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil

from facesim.metrics.machine import cpu_model
from facesim.runs.directory import Run
from facesim.runs.records import Load
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


def watched(measure: Callable[[], float]) -> tuple[float, bool]:
    """What `measure` returns, and whether other programs, or the hypervisor, disturbed it by more than runs may be.

    All programs that it starts have to have ended with it: what of the machine's CPU time is not theirs is foreign.
    """
    before, own_before = psutil.cpu_times(), _own_cpu_s()
    value = measure()
    after, own_s = psutil.cpu_times(), _own_cpu_s() - own_before
    spent = {name: now - then for name, now, then in zip(before._fields, after, before, strict=True)}
    all_s = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
    busy_s = spent["user"] + spent.get("nice", 0.0) + spent["system"]
    load = Load(
        foreign_cpu_percent=100 * max(0.0, busy_s - own_s) / all_s, steal_percent=100 * spent.get("steal", 0.0) / all_s
    )
    return value, bool(load.disturbances)


def in_rounds(
    programs: Mapping[str, Callable[[], float]], rounds: int, within_s: float = math.inf
) -> tuple[dict[str, list[float]], list[bool]]:
    """What each program returns in each round, and which rounds were disturbed. But for the first, there are no rounds
    that would not fit into `within_s`.
    """
    begin = time.monotonic()
    figures: dict[str, list[float]] = {name: [] for name in programs}
    disturbed = []
    for number in range(rounds):
        if number and (time.monotonic() - begin) * (number + 1) / number > within_s:
            break
        marks = []
        # Every other round the other way round: what follows what is then not always the same.
        for name in list(programs)[:: -1 if number % 2 else 1]:
            value, mark = watched(programs[name])
            figures[name].append(value)
            marks.append(mark)
        disturbed.append(any(marks))
    return figures, disturbed


def _own_cpu_s() -> float:
    """CPU seconds of this process and of all that it started and that have ended."""
    return sum(os.times()[:4])


def processor() -> str:
    """The processor's name, and the widest of its instructions that matter here."""
    kinds = {"amx_tile": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            flags = next((line.split() for line in lines if line.startswith("flags")), [])
    except OSError:
        flags = []
    widest = next((kind for flag, kind in kinds.items() if flag in flags), None)
    return f"{os.cpu_count()} cores of {cpu_model()}" + (f", {widest}" if widest else "")


def show(
    title: str,
    figures: Mapping[str, list[float]],
    base: str,
    unit: str,
    note: str = "",
    disturbed: Sequence[bool] | None = None,
) -> dict[str, Any]:
    """Print each series' median and its ratio to `base`, the median over rounds of the ratio within a round. Returned
    is what `benchmarks.regression` compares; more is better, but for a `unit` of time or memory.

    Rounds that were `disturbed` are marked with an asterisk, and in no median, unless all were.
    """
    marks = list(disturbed or [False] * len(figures[base]))
    counted = [number for number, mark in enumerate(marks) if not mark] or list(range(len(marks)))
    click.echo(f"\n{title}")
    summary: dict[str, Any] = {
        "title": title,
        "unit": unit,
        "base": base,
        "lower_is_better": unit in ("s", "ms", "MiB"),
        "disturbed": marks,
        "series": {},
    }
    for name, values in figures.items():
        ratios = [value / reference for value, reference in zip(values, figures[base])]
        ratio, middle = (statistics.median([some[number] for number in counted]) for some in (ratios, values))
        text = ", ".join(f"{value:.2f}{'*' * mark}" for value, mark in zip(ratios, marks))
        click.echo(f"  {name:55} {middle:9.2f} {unit:9}  x{ratio:.2f}   (rounds: {text})")
        summary["series"][name] = {"values": values, "ratio_to_base": ratio}
    if note:
        click.echo(f"  {note}")
    return summary


def markdown(summary: Mapping[str, Any], command: str) -> str:
    """A summary as a table for the documentation, with machine, command and spread; without disturbed rounds."""
    counted = [number for number, mark in enumerate(summary["disturbed"]) if not mark]
    if not counted:
        return "all rounds were disturbed: no table is made of them"
    base = summary["series"][summary["base"]]["values"]
    lines = [
        f"{summary['title']}, on {processor()}, medians of {len(counted)} rounds (`{command}`):\n",
        f"| | {summary['unit']} | ratio to {summary['base']} |",
        "|---|---|---|",
    ]
    for name, series in summary["series"].items():
        values = [series["values"][number] for number in counted]
        ratios = [series["values"][number] / base[number] for number in counted]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {statistics.median(values):.4g} | {spread} |")
    return "\n".join(lines)


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

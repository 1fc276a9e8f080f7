"""All benchmarks, and whether anything has become slower.

    python -m benchmarks --short                 # a few minutes
    python -m benchmarks --json figures.json     # all of it
    python -m benchmarks --save                  # and keep the figures as the baseline

Figures are compared with those of `--baseline` by ratios within a run, so that a faster or slower machine of the same
kind changes nothing; one with another number of CPUs is not compared. The exit code is 1 where something is worse, or
failed. Run it on a quiet machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.regression import Verdict, compare
from benchmarks.suites import SUITES
from facesim.metrics.machine import machine

BASELINE = Path(__file__).parent / "baseline.json"

_FILE = click.Path(path_type=Path)


@click.command(help=__doc__.replace("\n\n    ", "\n\n\b\n    ") if __doc__ else None)
@click.option("--short/--full", default=False, show_default=True, help="few rounds, a few minutes in all")
@click.option("--suite", type=click.Choice(list(SUITES)), multiple=True, help="only this one; repeatable")
@click.option("--baseline", type=_FILE, default=BASELINE, show_default=True, help="what is compared with, if it exists")
@click.option("--save", is_flag=True, help="keep the figures as the baseline, where nothing is worse")
@click.option("--json", "path", type=_FILE, help="also write figures and comparison to this file")
def main(short: bool, suite: tuple[str, ...], baseline: Path, save: bool, path: Path | None) -> None:
    figures: dict[str, Any] = {"form": "short" if short else "full", "machine": machine(), "suites": {}}
    failed = []
    for name, one in SUITES.items():
        if suite and name not in suite:
            continue
        click.echo(f"\n== {name}: {one.measures}")
        try:
            figures["suites"][name] = _run(name, (one.short if short else one.full).split())
        except (subprocess.CalledProcessError, OSError, ValueError) as error:
            failed.append(f"{name} failed: {error}")
    changes = []
    if not baseline.exists():
        click.echo(f"\nno baseline at {baseline}: nothing to compare with; --save keeps this one")
    elif why := _unlike(figures, before := json.loads(baseline.read_text(encoding="utf-8"))):
        click.echo(f"\nnot compared with {baseline}: {why}")
    else:
        changes = compare(figures, before)
        click.echo(f"\nagainst {baseline}, by ratios within the run:")
        for change in changes:
            click.echo(f"  {change.suite:15} {change.series:55} {change}")
    if path:
        rows = [vars(change) | {"verdict": change.verdict.value} for change in changes]
        path.write_text(json.dumps({**figures, "changes": rows, "failed": failed}, indent=1) + "\n", encoding="utf-8")
    worse = [change for change in changes if change.verdict is Verdict.WORSE]
    for text in [*failed, *(f"{one.suite}, {one.series}: {one}" for one in worse)]:
        click.echo(f"FAILED: {text}", err=True)
    if failed or worse:
        sys.exit(1)
    if save:
        baseline.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _run(name: str, arguments: list[str]) -> list[dict[str, Any]]:
    """The summaries of a suite, which prints its table itself."""
    with tempfile.TemporaryDirectory(prefix="facesim-bench-") as folder:
        file = Path(folder) / "figures.json"
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json", str(file)], check=True)
        return json.loads(file.read_text(encoding="utf-8"))


def _unlike(now: dict[str, Any], before: dict[str, Any]) -> str | None:
    """Why two figures cannot be compared, in words."""
    if now["form"] != before["form"]:
        return f"it is of the {before['form']} form, this is the {now['form']} one"
    cpus = now["machine"].get("cpu_count"), before["machine"].get("cpu_count")
    return None if cpus[0] == cpus[1] else f"it is of {cpus[1]} CPUs, this machine has {cpus[0]}"


if __name__ == "__main__":
    main()

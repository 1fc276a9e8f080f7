"""What a run takes beside training: to the first step, and as one of a study, whose runs load TensorFlow once.

python -m benchmarks.startup --rounds 5
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from pathlib import Path

import click

from benchmarks.common import run_job, show, write
from facesim.spec.job import make_job
from facesim.spec.strategies import STRATEGIES
from facesim.study.runner import run_study


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), multiple=True, default=["single", "ps-async"])
@click.option("--runs", default=3, show_default=True, help="runs of a study")
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(rounds: int, strategy: tuple[str, ...], runs: int, path: Path | None) -> None:
    launching: dict[str, list[float]] = defaultdict(list)
    around: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name in dict.fromkeys(("single", *strategy)):
            launching[name].append(run_job(strategy=name, epochs=1)["phases"]["launch_to_first_step_s"])
            around[f"{name}, alone"].append(around_training_s(1, strategy=name, epochs=1))
            around[f"{name}, one of {runs}"].append(around_training_s(runs, strategy=name, epochs=1))
    summaries = [
        show("launch to first training step, paper-cnn, TensorFlow loaded before", launching, "single", "s"),
        show("a run of a study, its training left out", around, "single, alone", "s"),
    ]
    write(summaries, path)


def around_training_s(runs: int, **options: object) -> float:
    """Seconds of a study for each of its runs, beside training."""
    with tempfile.TemporaryDirectory(prefix="facesim-bench-") as output:
        begin = time.monotonic()
        ended = run_study([make_job(seed=seed, **options) for seed in range(runs)], Path(output))
        study_s = time.monotonic() - begin
        return (study_s - sum(run.result()["training_s"] for run in ended)) / runs


if __name__ == "__main__":
    main()

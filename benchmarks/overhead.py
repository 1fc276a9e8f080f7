"""What measuring costs: throughput with resource samples every second, against next to none, and the monitor's own CPU
time.

python -m benchmarks.overhead --rounds 5
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from pathlib import Path

import click

from benchmarks.common import run_job, show, write
from facesim.spec.strategies import STRATEGIES


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--epochs", default=30, show_default=True)
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), default="ps-async", show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(rounds: int, epochs: int, strategy: str, path: Path | None) -> None:
    figures: dict[str, list[float]] = defaultdict(list)
    shares = []
    for round_ in range(rounds):
        # In turn which goes first, so that neither always finds the machine as the other left it.
        for name, sampling_s in sorted(
            {"samples every 60 s": 60.0, "samples every 1 s": 1.0}.items(), reverse=bool(round_ % 2)
        ):
            result = run_job(strategy=strategy, epochs=epochs, evaluate_every=epochs, sampling_s=sampling_s)
            figures[name].append(result["images_per_s"])
            if sampling_s == 1.0:
                shares.append(result["resources"]["monitor"]["cpu_percent_mean"])
    note = f"the monitor used {statistics.median(shares):.2f} % of the host's CPU"
    write([show(f"{strategy}, paper-cnn, batch 32", figures, "samples every 60 s", "images/s", note)], path)


if __name__ == "__main__":
    main()

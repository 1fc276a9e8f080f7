"""Training throughput of facesim's strategies against plain `model.fit`: same network, data, batch and cores, in turn.

    python -m benchmarks.throughput --rounds 5

Run it on a quiet machine. Everything runs in processes of its own, one after another, in rounds, and ratios are taken
within a round, so that a drift of the machine's speed hits all of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import click

from benchmarks.common import run_job, show, write
from facesim.job import make_job
from facesim.study import prepare_data
from facesim.training import STRATEGIES


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--epochs", default=8, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--data", default="rendered", show_default=True)
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), multiple=True, default=["single", "ps-async"])
@click.option("--threads", type=int, help="for ps-async")
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    rounds: int,
    epochs: int,
    batch: int,
    model: str,
    data: str,
    strategy: tuple[str, ...],
    threads: int | None,
    path: Path | None,
) -> None:
    prepared = prepare_data(make_job(data=data), lambda *_: None)
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        command = [
            sys.executable,
            "-m",
            "benchmarks.keras_fit",
            str(prepared.directory),
            model,
            str(batch),
            str(epochs),
        ]
        figures["keras model.fit"].append(float(subprocess.check_output(command).split()[-1]))
        for name in strategy:
            result = run_job(
                strategy=name,
                data=data,
                model=model,
                batch=batch,
                epochs=epochs,
                evaluate_every=epochs,
                threads=threads if name != "single" else None,
            )
            figures[f"facesim {name}"].append(result["images_per_s"])
    write([show(f"{model}, batch {batch}, {data}", figures, "keras model.fit", "images/s")], path)


if __name__ == "__main__":
    main()

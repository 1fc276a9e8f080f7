"""Training throughput of facesim's strategies against plain `model.fit`: same network, data, batch and cores, in turn.

    python -m benchmarks.throughput --rounds 5 --strategy single --strategy ps-async --precision bfloat16

Run it on a quiet machine. Everything runs in processes of its own, one after another, in rounds, and ratios are taken
within a round, so that a drift of the machine's speed hits all of them. Where torch is installed, `--peer` adds
PyTorch's DistributedDataParallel over gloo, on the same data and cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import click

from benchmarks.common import run_job, show, write
from facesim.preflight.inputs import prepare_data
from facesim.spec.job import make_job
from facesim.spec.strategies import STRATEGIES


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--data", default="rendered", show_default=True)
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), multiple=True, default=["single", "ps-async"])
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), multiple=True, default=["float32"])
@click.option("--peer", is_flag=True, help="also PyTorch DDP with two processes")
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    rounds: int,
    epochs: int,
    batch: int,
    model: str,
    data: str,
    strategy: tuple[str, ...],
    precision: tuple[str, ...],
    peer: bool,
    path: Path | None,
) -> None:
    options = {"data": data, "model": model, "batch": batch, "epochs": epochs, "evaluate_every": epochs}
    prepared = str(prepare_data(make_job(data=data), lambda *_: None).directory)
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        figures["keras model.fit"].append(printed("benchmarks.keras_fit", prepared, model, batch, epochs))
        for kind in precision:
            for name in strategy:
                result = run_job(strategy=name, workers=2, precision=kind, **options)
                workers = ", 2 workers" if STRATEGIES[name].replicated else ""
                figures[f"{name}, {kind}{workers}"].append(result["images_per_s"])
            if peer:
                figures[f"PyTorch DDP, {kind}, 2 processes"].append(
                    printed("benchmarks.torch_ddp", prepared, batch, epochs, 2, kind)
                )
    write([show(f"{model}, batch {batch}, {data}", figures, "keras model.fit", "images/s")], path)


def printed(module: str, *arguments: object) -> float:
    """The number that a program prints last."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return float(subprocess.check_output(command, env=environment).split()[-1])


if __name__ == "__main__":
    main()

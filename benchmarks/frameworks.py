"""The same training by each framework that is installed, and by hand-written loops: speed, memory, start-up.

    python -m benchmarks.frameworks --rounds 5 --strategy single --strategy allreduce

Run it on a quiet machine. Same network, batch, precision and cores; one after another, in rounds, and ratios are taken
within a round. The hand-written loops are the paper's network, so they are compared with `--model paper-cnn` only.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import click

from benchmarks.common import run_job, show, write
from benchmarks.throughput import printed
from facesim.preflight.inputs import prepare_data
from facesim.spec.frameworks import FRAMEWORKS
from facesim.spec.job import make_job
from facesim.util.errors import InputError

_STRATEGIES = ["single", "allreduce", "local-sgd"]


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--data", default="rendered", show_default=True)
@click.option("--strategy", type=click.Choice(_STRATEGIES), multiple=True, default=["single", "allreduce"])
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    rounds: int, epochs: int, batch: int, model: str, data: str, strategy: tuple[str, ...], path: Path | None
) -> None:
    installed = [name for name in FRAMEWORKS if _is_installed(name)]
    options = {"data": data, "model": model, "batch": batch, "epochs": epochs, "evaluate_every": epochs}
    prepared = str(prepare_data(make_job(data=data), lambda *_: None).directory)
    summaries = []
    for way in strategy:
        speed, memory, start = (defaultdict[str, list[float]](list) for _ in range(3))
        for _ in range(rounds):
            for name in installed:
                result: dict[str, Any] = run_job(framework=name, strategy=way, workers=2, **options)
                speed[name].append(result["images_per_s"])
                memory[name].append(result["resources"]["chief"]["memory_peak_bytes"] / 2**20)
                start[name].append(result["phases"]["launch_to_first_step_s"])
            processes = 1 if way == "single" else 2
            if model == "paper-cnn" and "torch" in installed and way != "local-sgd":
                by_hand = printed("benchmarks.torch_ddp", prepared, batch, epochs, processes, "float32")
                speed["PyTorch, by hand"].append(by_hand)
            if model == "paper-cnn" and "jax" in installed and way == "single":
                speed["JAX, by hand"].append(printed("benchmarks.jax_loop", prepared, batch, epochs))
        title = f"{way}, {model}, batch {batch}, {data}"
        summaries += [
            show(f"{title}: speed", speed, "tensorflow", "images/s"),
            show(f"{title}: memory of the chief", memory, "tensorflow", "MiB"),
            show(f"{title}: launch to first step", start, "tensorflow", "s"),
        ]
    write(summaries, path)


def _is_installed(name: str) -> bool:
    try:
        FRAMEWORKS[name].check()
    except InputError:
        return False
    return True


if __name__ == "__main__":
    main()

"""The same training by each framework that is installed, and by hand-written loops: speed, memory, start-up.

    python -m benchmarks.frameworks --rounds 5 --strategy single --strategy allreduce
    python -m benchmarks.frameworks --short        # within five minutes on two cores

Run it on a quiet machine. Same network, batch, precision and cores; one after another, in rounds, and ratios are taken
within a round. Speeds leave out the first epoch, in which frameworks compile. The hand-written loops are the paper's
network, so they are compared with `--model paper-cnn` only.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from benchmarks.common import in_rounds, markdown, run_completed, show, write
from benchmarks.throughput import printed
from facesim.metrics.files import read_samples
from facesim.preflight.inputs import prepare_data
from facesim.spec.frameworks import FRAMEWORKS
from facesim.spec.job import make_job
from facesim.util.errors import InputError

_STRATEGIES = ["single", "allreduce", "local-sgd"]
#: Epochs of the short form, and how long all of its rounds take at the most, if one of each strategy takes no longer.
_SHORT_EPOCHS, _SHORT_S = 2, 280.0
_BY_HAND = {"torch": "PyTorch, by hand", "jax": "JAX, by hand"}


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--data", default="rendered", show_default=True)
@click.option("--strategy", type=click.Choice(_STRATEGIES), multiple=True, default=["single", "allreduce"])
@click.option("--short", is_flag=True, help="two epochs, and as many of the rounds as fit into five minutes")
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    rounds: int,
    epochs: int,
    batch: int,
    model: str,
    data: str,
    strategy: tuple[str, ...],
    short: bool,
    path: Path | None,
) -> None:
    epochs, within_s = (_SHORT_EPOCHS, _SHORT_S / len(strategy)) if short else (epochs, math.inf)
    installed = [name for name in FRAMEWORKS if _is_installed(name)]
    options = {"data": data, "model": model, "batch": batch, "epochs": epochs + 1, "evaluate_every": epochs + 1}
    prepared = str(prepare_data(make_job(data=data), lambda *_: None).directory)
    summaries = []
    for way in strategy:
        memory, start = (defaultdict[str, list[float]](list) for _ in range(2))
        programs: dict[str, Callable[[], float]] = {
            name: partial(_trained, memory[name], start[name], framework=name, strategy=way, workers=2, **options)
            for name in installed
        }
        processes = 1 if way == "single" else 2
        if model == "paper-cnn" and "torch" in installed and way != "local-sgd":
            loop = ("benchmarks.torch_ddp", prepared, batch, epochs, processes, "float32")
            programs[_BY_HAND["torch"]] = partial(printed, *loop)
        if model == "paper-cnn" and "jax" in installed and way == "single":
            programs[_BY_HAND["jax"]] = partial(printed, "benchmarks.jax_loop", prepared, batch, epochs)
        speed, disturbed = in_rounds(programs, rounds, within_s)
        title = f"{way}, {model}, batch {batch}, {data}"
        speeds = show(f"{title}: speed", speed, "tensorflow", "images/s", disturbed=disturbed)
        summaries += [
            speeds,
            show(f"{title}: memory of the chief", memory, "tensorflow", "MiB", disturbed=disturbed),
            show(f"{title}: launch to first step", start, "tensorflow", "s", disturbed=disturbed),
        ]
        for name, by_hand in _BY_HAND.items():
            if by_hand in speed:
                both = {by_hand: speed[by_hand], name: speed[name]}
                summaries.append(show(f"{title}: {name}", both, by_hand, "images/s", disturbed=disturbed))
        click.echo("\n" + markdown(speeds, "python -m benchmarks." + " ".join(["frameworks", *sys.argv[1:]])))
    write(summaries, path)


def _trained(memory_mib: list[float], start_s: list[float], **options: Any) -> float:
    """Images a second of a job; peak memory of its chief and seconds to its first step are added to the lists."""
    with run_completed(**options) as run:
        result, samples = run.result(), read_samples(run.metrics)
    memory_mib.append(result["resources"]["chief"]["memory_peak_bytes"] / 2**20)
    start_s.append(result["phases"]["launch_to_first_step_s"])
    by_epoch = samples[(samples["name"] == "images_per_s") & (samples["role"] == "chief")]["value"]
    return statistics.harmonic_mean(by_epoch.tolist()[1:])


def _is_installed(name: str) -> bool:
    try:
        FRAMEWORKS[name].check()
    except InputError:
        return False
    return True


if __name__ == "__main__":
    main()

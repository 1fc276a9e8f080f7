"""Training throughput of facesim's strategies against plain `model.fit`: same network, data, batch and cores, in turn.

    python -m benchmarks.throughput --rounds 5 --strategy single --strategy ps-async --precision bfloat16
    python -m benchmarks.throughput --all-peers --rounds 5

Run it on a quiet machine. Everything runs in processes of its own, one after another, in rounds, and ratios are taken
within a round, so that a drift of the machine's speed hits all of them. Rounds in which other programs, or the
hypervisor, took more CPU time than a run's disturbance allows are marked, and left out of medians.

`--all-peers` compares all strategies that scale over processes with `model.fit` as TensorFlow sets itself up and with
oneDNN, PyTorch alone and with DistributedDataParallel over gloo, and JAX, written by hand, as far as these are
installed, and says which of the `GOALS` are met.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from benchmarks.common import in_rounds, markdown, run_job, show, write
from facesim.preflight.inputs import prepare_data
from facesim.spec.job import make_job
from facesim.spec.strategies import STRATEGIES

FIT, FIT_ONEDNN = "keras model.fit", "keras model.fit, oneDNN"
TORCH, DDP, JAX = "PyTorch, 1 process", "PyTorch DDP, 2 processes", "JAX, 1 process"

#: (strategy, peers or strategies of which the best counts, the ratio to it that is wanted).
GOALS = (
    ("single", (FIT_ONEDNN, TORCH), 1.1),
    ("allreduce", (DDP,), 1.1),
    ("ps-async", ("single",), 0.9),
    ("ps-sync", ("single",), 0.8),
    ("local-sgd", ("single",), 0.95),
)


@click.command(help=__doc__.replace("\n\n    ", "\n\n\b\n    ") if __doc__ else None)
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--data", default="rendered", show_default=True)
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), multiple=True, help="[default: single, ps-async]")
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), multiple=True, default=["float32"])
@click.option("--peer", is_flag=True, help="also PyTorch DDP with two processes")
@click.option("--all-peers", is_flag=True, help="all peers and strategies, the goals, and a table in Markdown")
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
    all_peers: bool,
    path: Path | None,
) -> None:
    strategies = strategy or (tuple(name for name, *_ in GOALS) if all_peers else ("single", "ps-async"))
    options = {"data": data, "model": model, "batch": batch, "epochs": epochs, "evaluate_every": epochs}
    prepared = str(prepare_data(make_job(data=data), lambda *_: None).directory)

    def facesim(name: str, kind: str) -> float:
        return run_job(strategy=name, workers=2, precision=kind, **options)["images_per_s"]

    programs: dict[str, Callable[[], float]] = {
        FIT: lambda: printed("benchmarks.keras_fit", prepared, model, batch, epochs)
    }
    for kind in precision:
        for name in strategies:
            workers = ", 2 workers" if STRATEGIES[name].replicated else ""
            programs[f"{name}, {kind}{workers}"] = lambda name=name, kind=kind: facesim(name, kind)
        peers = dict(_peers(prepared, model, batch, epochs, kind))
        wanted = peers if all_peers else {name: run for name, run in peers.items() if peer and name == DDP}
        programs |= {f"{name}, {kind}": run for name, run in wanted.items()}
    figures, disturbed = in_rounds(programs, rounds)
    summary = show(f"{model}, batch {batch}, {data}", figures, FIT, "images/s", disturbed=disturbed)
    if all_peers:
        for kind in precision:
            _tell_goals(figures, disturbed, kind)
        click.echo("\n" + markdown(summary, "python -m benchmarks." + " ".join(["throughput", *sys.argv[1:]])))
    write([summary], path)


def _peers(
    prepared: str, model: str, batch: int, epochs: int, precision: str
) -> Iterator[tuple[str, Callable[[], float]]]:
    """What others do with the same network, as far as it can be run here; by hand it is the paper's network."""
    fit = ("benchmarks.keras_fit", prepared, model, batch, epochs, precision)
    yield FIT_ONEDNN, lambda: printed(*fit, TF_ENABLE_ONEDNN_OPTS="1")
    if model == "paper-cnn" and find_spec("torch"):
        for name, processes in ((TORCH, 1), (DDP, 2)):
            loop = ("benchmarks.torch_ddp", prepared, batch, epochs, processes, precision)
            yield name, lambda loop=loop: printed(*loop)
    if model == "paper-cnn" and precision == "float32" and find_spec("jax"):
        yield JAX, lambda: printed("benchmarks.jax_loop", prepared, batch, epochs)


def _tell_goals(figures: Mapping[str, Sequence[float]], disturbed: Sequence[bool], precision: str) -> None:
    """Print which goals are met: medians over undisturbed rounds of the ratio to the best peer of the same round."""
    counted = [number for number, mark in enumerate(disturbed) if not mark]
    click.echo(f"\ngoals, {precision}, over {len(counted)} undisturbed rounds of {len(disturbed)}")

    def of(name: str) -> Sequence[float] | None:
        return next((some for key, some in figures.items() if key.startswith(f"{name}, {precision}")), None)

    for name, against, goal in GOALS:
        mine, peers = of(name), [some for peer in against if (some := of(peer))]
        if mine is None or not peers or not counted:
            click.echo(f"  {name:10} not known: it or {' or '.join(against)} is missing, or every round was disturbed")
            continue
        ratios = [mine[number] / max(some[number] for some in peers) for number in counted]
        ratio = statistics.median(ratios)
        text = f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) x {' and '.join(against)}"
        click.echo(f"  {name:10} {text}; wanted {goal:g}: {'met' if ratio >= goal else 'NOT MET'}")


def printed(module: str, *arguments: object, **environment: str) -> float:
    """The number that a program prints last."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return float(subprocess.check_output(command, env=environment).split()[-1])


if __name__ == "__main__":
    main()

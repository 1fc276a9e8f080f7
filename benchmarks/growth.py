"""How cost grows: with workers, with processes that have nothing to do, parameters, identities, and images.

    python -m benchmarks.growth [--of workers] [--of processes] ... [--short]

Each point is one short run on this machine, of images of noise where many are needed, for what is measured does not
depend on what they show. The data is made in a temporary folder, with a cache of its own. Printed is a table for the
documentation for each of the five; `--short` leaves out the largest points, which take minutes and gigabytes.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.common import processor, run_job
from facesim.preflight.inputs import prepare_data
from facesim.spec.job import make_job

#: Height and width of images of noise: the smallest that there are.
_SIDE = 32

#: A point: what it is called, its options, and whether it is one of the largest.
Point = tuple[str, dict[str, Any], bool]


def noise(folder: Path, identities: int, images: int) -> str:
    """An .npz of so many images of noise, of people in turn."""
    file, rng = folder / f"noise-{identities}-{images}.npz", np.random.default_rng(0)
    if not file.exists():
        content = rng.integers(0, 256, (images, _SIDE, _SIDE, 3), np.uint8)
        np.savez(file, images=content, labels=np.arange(images) % identities)
    return str(file)


def workers(_: Path) -> Iterator[Point]:
    for strategy in ("ps-async", "ps-sync", "allreduce", "local-sgd"):
        for count in (1, 2, 4, 8):
            yield f"{strategy}, {count}", {"strategy": strategy, "workers": count, "epochs": 4}, False


def processes(_: Path) -> Iterator[Point]:
    """An epoch has eleven batches: of many workers most wait."""
    for count in (1, 4, 16, 64):
        yield f"ps-async, {count} workers", {"strategy": "ps-async", "workers": count, "epochs": 1}, count > 16


def parameters(_: Path) -> Iterator[Point]:
    """A small network, then the paper's on larger and larger images: its dense layer has most of the parameters."""
    for strategy in ("single", "ps-async", "allreduce"):
        for model, side in (("plain-cnn", 64), *(("paper-cnn", side) for side in (32, 64, 96, 128, 176))):
            options = {"strategy": strategy, "model": model, "image_size": side, "epochs": 2}
            yield f"{strategy}, {model}, {side} x {side}", options, side > 96


def identities(folder: Path) -> Iterator[Point]:
    for count in (10, 100, 1_000, 10_000, 100_000):
        for strategy in ("single", "ps-async"):
            data = noise(folder, count, max(10_000, 2 * count))
            for head in ("softmax", "partial-fc"):
                options = {"strategy": strategy, "head": head, "batch": 256}
                yield f"{strategy}, {head}, {count:,}", _small(data, **options), count > 10_000


def images(folder: Path) -> Iterator[Point]:
    for count in (400, 10_000, 100_000, 1_000_000):
        yield f"single, {count:,}", _small(noise(folder, 10, count), batch=256), count > 100_000


def _small(data: str, **options: Any) -> dict[str, Any]:
    return {"strategy": "single", "data": data, "image_size": _SIDE, "model": "plain-cnn", "epochs": 1, **options}


PARTS: dict[str, Callable[[Path], Iterator[Point]]] = {
    part.__name__: part for part in (workers, processes, parameters, identities, images)
}


def row(options: dict[str, Any]) -> dict[str, float | None]:
    """What one point costs."""
    begin = time.monotonic()
    prepare_data(make_job(**options), lambda *_: None)
    prepared_s = time.monotonic() - begin
    result = run_job(**{"evaluate_every": options["epochs"], **options})
    updates, host = result["updates"], result["resources"]["host"]
    later = updates - result["counted"]["first_step_updates"]
    return {
        "M parameters": result["parameters"] / 1e6,
        "preparing data, s": prepared_s,
        "to the first step, s": result["phases"]["launch_to_first_step_s"],
        "ms an update": 1000 * (result["training_s"] - result["phases"]["first_step_s"]) / max(1, later),
        "images/s": result["images_per_s"],
        "MB an update": None if result["wire_bytes"] is None else result["wire_bytes"] / updates / 1e6,
        "host's memory, GB": host["memory_peak_bytes"] / 1e9 if host["memory_peak_bytes"] else None,
    }


@click.command(help=__doc__.replace("\n\n    ", "\n\n\b\n    ") if __doc__ else None)
@click.option("--of", "parts", type=click.Choice(list(PARTS)), multiple=True, default=list(PARTS), show_default=True)
@click.option("--short", is_flag=True, help="without the largest points")
def main(parts: tuple[str, ...], short: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="facesim-bench-") as folder:
        os.environ["FACESIM_CACHE"] = str(Path(folder) / "cache")
        for part in parts:
            click.echo(f"\n{part}, on {processor()} (`python -m benchmarks.growth --of {part}{' --short' * short}`):\n")
            header: list[str] = []
            for name, options, largest in PARTS[part](Path(folder)):
                if short and largest:
                    continue
                figures = row(options)
                if not header:
                    header = ["", *figures]
                    click.echo(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
                cells = ["" if value is None else f"{value:.3g}" for value in figures.values()]
                click.echo(f"| {' | '.join([name, *cells])} |")


if __name__ == "__main__":
    main()

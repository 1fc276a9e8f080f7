"""What reading images costs: training on a folder of JPEGs with decoded images in memory, on disk, or nowhere.

    python -m benchmarks.input --rounds 3

Throughput is that after the first epoch, as a ratio to `--cache memory` within a round. Peak memory is that of the
task that trains; `memory` holds every decoded image, the others what a batch needs.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks.common import run_completed, show, write
from facesim.data import RenderSpec, render_folder
from facesim.metrics.files import read_samples
from facesim.runs.directory import Run
from facesim.spec.strategies import STRATEGIES

_CACHES = ("memory", "disk", "none")


@click.command()
@click.option("--rounds", default=3, show_default=True)
@click.option("--epochs", default=4, show_default=True, help="the first is not counted")
@click.option("--identities", default=100, show_default=True)
@click.option("--images", default=30, show_default=True, help="images of each identity")
@click.option("--size", default=112, show_default=True)
@click.option("--model", multiple=True, default=["compact-cnn", "paper-cnn"], show_default=True)
@click.option("--strategy", type=click.Choice(list(STRATEGIES)), default="single", show_default=True)
@click.option("--cache", type=click.Choice(_CACHES), multiple=True, default=_CACHES, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    rounds: int,
    epochs: int,
    identities: int,
    images: int,
    size: int,
    model: tuple[str, ...],
    strategy: str,
    cache: tuple[str, ...],
    path: Path | None,
) -> None:
    figures = {name: defaultdict[str, list[float]](list) for name in model}
    memory = {name: defaultdict[str, list[float]](list) for name in model}
    with tempfile.TemporaryDirectory(prefix="facesim-bench-") as folder:
        os.environ["FACESIM_CACHE"] = str(Path(folder) / "cache")  # the user's is for the user's data
        faces = Path(folder) / "faces"
        render_folder(RenderSpec(identities=identities, images=images, size=size), faces)
        _to_jpeg(faces)
        options = {"data": str(faces), "image_size": size, "epochs": epochs, "evaluate_every": epochs}
        for _ in range(rounds):
            for name in model:
                for kind in dict.fromkeys(("memory", *cache)):
                    with run_completed(strategy=strategy, model=name, cache=kind, **options) as run:
                        figures[name][kind].append(_after_first_epoch(run))
                        memory[name][kind].append(_peak_bytes(run.result()))
    summaries = []
    for name in model:
        peaks = {kind: median(values) for kind, values in memory[name].items()}
        note = "peak memory: " + ", ".join(f"{kind} {peak / 1e6:.0f} MB" for kind, peak in peaks.items())
        title = f"{strategy}, {name}, {identities * images:,} JPEGs of {size} x {size}"
        summaries.append(show(title, figures[name], "memory", "images/s", note) | {"peak_memory_bytes": peaks})
    write(summaries, path)


def _to_jpeg(folder: Path) -> None:
    """Replace every rendered PNG by a JPEG."""
    from PIL import Image

    for file in folder.rglob("*.png"):
        with Image.open(file) as image:
            image.convert("RGB").save(file.with_suffix(".jpg"), quality=90)
        file.unlink()


def _after_first_epoch(run: Run) -> float:
    """Images a second, over the epochs after the first."""
    samples = read_samples(run.metrics)
    rates = samples[(samples["name"] == "images_per_s") & (samples["role"] == "chief")]["value"].to_numpy()
    return float(len(rates[1:]) / np.sum(1 / rates[1:]))


def _peak_bytes(result: dict[str, Any]) -> float:
    """Of the largest task that computes gradients."""
    return max(
        resources["memory_peak_bytes"] for role, resources in result["resources"].items() if role in ("chief", "worker")
    )


if __name__ == "__main__":
    main()

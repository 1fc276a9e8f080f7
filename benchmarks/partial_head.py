"""A head of which each update computes a sample of the identities (`--head partial-fc`), against the whole one.

    python -m benchmarks.partial_head --identities 2000 --seeds 3     # accuracy on rendered people
    python -m benchmarks.partial_head --of size                       # memory and time of a step, to 100,000 identities

Accuracy is that of the modern recipe on rendered people, for the whole head and each of `--rates`. Size is measured in
a process for each point, on a synthetic batch of a small network with a 128-d embedding: the median step, and the peak
of the process' memory above what it had before the network was built. Run it on a quiet machine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import click

from benchmarks.common import processor, run_job, show, write
from facesim.data import RenderSpec, render_folder

_WHOLE, _SAMPLED = "arcface", "partial-fc"
#: Batch, height and width of the images of the size part; steps that are timed, after the first two.
_BATCH, _SIDE, _STEPS = 64, 32, 8


def _listed(kind: type) -> object:
    return lambda _ctx, _param, text: [kind(part) for part in text.split(",")]


@click.command(help=__doc__.replace("\n\n    ", "\n\n\b\n    ") if __doc__ else None)
@click.option("--of", "part", type=click.Choice(["accuracy", "size"]), default="accuracy", show_default=True)
@click.option("--identities", default=2000, show_default=True, help="rendered people")
@click.option("--images", default=12, show_default=True, help="of each of them")
@click.option("--difficulty", default=0.7, show_default=True, help="of recognising them")
@click.option("--image-size", default=96, show_default=True)
@click.option("--epochs", default=8, show_default=True)
@click.option("--rates", default="0.1,0.3", show_default=True, callback=_listed(float), help="sample rates")
@click.option("--seeds", default=1, show_default=True)
@click.option("--sizes", default="1000,10000,100000", show_default=True, callback=_listed(int), help="identities")
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(
    part: str,
    identities: int,
    images: int,
    difficulty: float,
    image_size: int,
    epochs: int,
    rates: Sequence[float],
    seeds: int,
    sizes: Sequence[int],
    path: Path | None,
) -> None:
    if part == "size":
        _size(sizes, rates[0])
        return
    heads = {_WHOLE: {"head": _WHOLE}} | {
        f"{_SAMPLED}, {rate:g}": {"head": _SAMPLED, "sample_rate": rate} for rate in rates
    }
    same = {"recipe": "modern", "strategy": "single", "batch": 64, "learning_rate": 0.002, "held_out": 2 / images}
    with tempfile.TemporaryDirectory(prefix="facesim-rendered-") as rendered:
        render_folder(RenderSpec(identities, images, image_size, difficulty, seed=777), Path(rendered))
        accuracies: dict[str, list[float]] = {name: [] for name in heads}
        for seed in range(seeds):
            for name, options in heads.items():
                result = run_job(
                    **same,
                    **options,
                    data=rendered,
                    image_size=image_size,
                    epochs=epochs,
                    evaluate_every=epochs,
                    seed=seed,
                )
                accuracies[name].append(100 * result["held_out_accuracy"])
    write([show(f"{identities:,} rendered people: held-out accuracy", accuracies, _WHOLE, "%")], path)


def _size(sizes: Sequence[int], rate: float) -> None:
    """Print a table for the documentation."""
    click.echo(f"batch {_BATCH}, 128-d embedding, Adam, sample rate {rate:g}, on {processor()}\n")
    click.echo("| identities | head | a step, ms | peak memory, MB |\n|---|---|---|---|")
    for identities in sizes:
        for head in (_WHOLE, _SAMPLED):
            with get_context("spawn").Pool(1) as pool:
                step_s, peak_bytes = pool.apply(measured, (head, identities, rate))
            click.echo(f"| {identities:,} | {head} | {1000 * step_s:.0f} | {peak_bytes / 1e6:,.0f} |")


def measured(head: str, identities: int, rate: float) -> tuple[float, int]:
    """Seconds of a training step, and bytes that the process held at most beyond those before the network was built."""
    from facesim.cli.quiet import hush_tensorflow

    hush_tensorflow()
    import numpy as np
    import psutil
    import tensorflow as tf

    from facesim import models
    from facesim.models.sampling import ClassSampler, sample_size
    from facesim.spec.experiment import Experiment
    from facesim.training.tensorflow.forward import forward_of
    from facesim.training.tensorflow.objective import loss_for
    from facesim.training.tensorflow.optimizer import FusedAdam
    from facesim.training.tensorflow.pipeline import index_batch
    from facesim.training.tensorflow.step import compiled, training_step

    rng = np.random.default_rng(0)
    labels = rng.integers(0, identities, _BATCH).astype(np.int32)
    pixels = tf.constant(rng.integers(0, 256, (_BATCH, _SIDE, _SIDE, 3), np.uint8))
    before, peak = psutil.Process().memory_info().rss, _peak_bytes
    model = models.build("resnet-small", (_SIDE, _SIDE, 3), identities, head=head)
    optimizer = FusedAdam(1e-3)
    optimizer.build(model.trainable_variables)
    forward, loss = forward_of(model), loss_for(Experiment(head=head))
    sampler = ClassSampler(identities, sample_size(identities, rate, _BATCH), seed=0)

    @compiled
    def step(indices: tf.Tensor, labels: tf.Tensor, *classes: tf.Tensor) -> tf.Tensor:
        return training_step(forward, optimizer, loss, pixels, labels, tf.constant(0), classes=classes)

    times = []
    for update in range(2 + _STEPS):
        begin = time.perf_counter()
        classes = [sampler(labels, update)] if models.HEADS[head].sampled else []
        step(*index_batch(np.arange(_BATCH), labels, *classes)).numpy()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:]), peak() - before


def _peak_bytes() -> int:
    """The most that this process has held."""
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

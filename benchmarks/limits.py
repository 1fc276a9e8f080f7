"""How close training is to what the cores and the memory can do: floors of a step, from peaks measured here.

    python -m benchmarks.limits [--model NAME] [--batch N] [--json FILE]

Run it on a quiet machine; it takes some four minutes. A step cannot be shorter than its arithmetic at the speed of
convolutions and matrix products alone, nor than its bytes at the memory's bandwidth. What a step moves is reckoned:

- the network reads its kernels forward and backward, and writes their gradients: three times the parameters;
- Adam reads parameters, gradients and two moments and writes all but the gradients: seven times;
- a parameter server's worker gets parameters and sends gradients, of large dense layers their factors. Over loopback
  each byte is read and written twice, into the kernel's buffers and out of them: four times each;
- a ring of k workers sends 2 (k - 1) / k of the parameters from each, likewise, and reads and writes as much to add up;
  `allreduce` sends factors, too;
- of `allreduce` and `local-sgd` each worker has a network and an optimiser, and makes every update.

Activations are left out: they fit into the caches of most processors, so these floors are low rather than high.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.common import processor, run_job, write
from cluster.hosted.cgroup import available_cpus
from facesim.backends.kernels import choose, environment
from facesim.spec.job import make_job
from facesim.training.placement import sends_factors

#: Images of the default data: height, width, channels, and people.
_SHAPE, _IDENTITIES = (64, 64, 3), 40
_FLOAT_BYTES = 4
_BANDWIDTH_BYTES = 2**28
_REPEATS_S = 2.0
_SGEMM = 2048


def peaks(threads: int) -> dict[str, float]:
    """What this machine reaches: products and convolutions in float32 (flop/s), copying in memory (bytes/s)."""
    os.environ.update({**environment(choose().kernels), "TF_CPP_MIN_LOG_LEVEL": "3"})
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    left = tf.random.normal((_SGEMM, _SGEMM))
    product = tf.function(lambda: tf.linalg.matmul(left, left)[0, 0], autograph=False)
    # The middle one of the paper's convolutions, with the default batch.
    images, kernels = tf.random.normal((32, 31, 31, 32)), tf.random.normal((3, 3, 32, 64))
    convolution = tf.function(lambda: tf.nn.conv2d(images, kernels, 1, "VALID")[0, 0, 0, 0], autograph=False)
    source = tf.zeros((_BANDWIDTH_BYTES // _FLOAT_BYTES,))
    copy = tf.function(lambda: (source + 1.0)[0], autograph=False)  # reads it once and writes as much
    return {
        "sgemm_flops": 2 * _SGEMM**3 / _best_s(lambda: product().numpy()),
        "convolution_flops": 2 * 32 * 29 * 29 * 9 * 32 * 64 / _best_s(lambda: convolution().numpy()),
        "memory_bytes_per_s": 2 * _BANDWIDTH_BYTES / _best_s(lambda: copy().numpy()),
    }


def _best_s(work: Callable[[], Any]) -> float:
    """The shortest time that some work takes: a peak is what nothing disturbed."""
    work()
    times, until = [], time.perf_counter() + _REPEATS_S
    while time.perf_counter() < until:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def pushed_bytes(parameters: int, dense: Sequence[tuple[int, int]], batch: int) -> int:
    """What a worker sends parameter servers after a step of `batch` examples, and what replicas sum of an update of so
    many; `dense` are shapes of dense layers.
    """
    factored = [shape for shape in dense if sends_factors(shape, _FLOAT_BYTES, batch)]
    return _FLOAT_BYTES * (parameters - sum(math.prod(shape) - batch * sum(shape) for shape in factored))


def floors_s(
    parameters: int, dense: Sequence[tuple[int, int]], flops: int, batch: int, workers: int, peak: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Seconds of an update of `batch` examples, by strategy: of its arithmetic, of its bytes, and of both in turn.

    dense: shapes of the dense layers' kernels. flops: of an image's forward pass; backwards they are twice as many. The
    cores are shared by all workers.
    """
    compute_s = 3 * flops * batch / max(peak["sgemm_flops"], peak["convolution_flops"])
    held = parameters * _FLOAT_BYTES
    ring = workers * (4 + 2) * 2 * (workers - 1) / workers
    moved = {
        "single": (3 + 7) * held,
        "ps-async": (3 + 7 + 4) * held + 4 * pushed_bytes(parameters, dense, batch),
        "ps-sync": (workers * (3 + 4) + 7) * held
        + workers * 4 * pushed_bytes(parameters, dense, math.ceil(batch / workers)),
        "allreduce": workers * (3 + 7) * held + ring * pushed_bytes(parameters, dense, batch),
        "local-sgd": workers * (3 + 7) * held + ring * held / make_job(strategy="local-sgd").strategy.local_steps,
    }
    return {
        name: {"compute_s": compute_s, "memory_s": size / peak["memory_bytes_per_s"]} for name, size in moved.items()
    }


@click.command(help=__doc__.replace("\n\n    ", "\n\n\b\n    ") if __doc__ else None)
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--epochs", default=12, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(model: str, batch: int, workers: int, epochs: int, rounds: int, path: Path | None) -> None:
    peak = peaks(max(1, round(available_cpus())))
    import keras  # finds the environment that the peaks set

    from facesim import models
    from facesim.models.size import size

    head = make_job().experiment.head
    network = size(model, head, _SHAPE, _IDENTITIES, batch)
    layers = models.build(model, _SHAPE, _IDENTITIES, head=head).layers
    dense = [tuple(layer.kernel.shape) for layer in layers if isinstance(layer, keras.layers.Dense)]
    floors = floors_s(network.parameters, dense, network.flops, batch, workers, peak)
    command = f"python -m benchmarks.limits --model {model} --batch {batch} --workers {workers} --rounds {rounds}"
    click.echo(f"{processor()}, kernels {choose().kernels} (`{command}`):\n")
    click.echo(
        f"sgemm {peak['sgemm_flops'] / 1e9:,.0f} GFLOP/s, convolution {peak['convolution_flops'] / 1e9:,.0f} GFLOP/s, "
        f"memory {peak['memory_bytes_per_s'] / 1e9:.1f} GB/s; {model}: {network.parameters / 1e6:.1f} M parameters, "
        f"{network.flops / 1e6:.0f} MFLOP an image forward\n"
    )
    click.echo("| an update | arithmetic, at the least | bytes, at the least | measured | floor / measured |")
    click.echo("|---|---|---|---|---|")
    summaries = []
    for name, floor in floors.items():
        options = {"model": model, "batch": batch, "epochs": epochs, "evaluate_every": epochs, "workers": workers}
        rates = [run_job(strategy=name, **options)["images_per_s"] for _ in range(rounds)]
        measured_s, floor_s = batch / statistics.median(rates), floor["compute_s"] + floor["memory_s"]
        click.echo(
            f"| {name} | {floor['compute_s'] * 1e3:.1f} ms | {floor['memory_s'] * 1e3:.1f} ms | "
            f"{measured_s * 1e3:.1f} ms | {floor_s / measured_s:.2f} |"
        )
        series = {"measured": [batch / rate for rate in rates], "floor": [floor_s] * rounds}
        summaries.append(
            {
                "title": f"an update of {name}, {model}, batch {batch}",
                "unit": "s",
                "base": "floor",
                "lower_is_better": True,
                "disturbed": [False] * rounds,
                "series": {key: {"values": values} for key, values in series.items()},
            }
        )
    write(summaries, path)


if __name__ == "__main__":
    main()

"""Which operations the time of a training step goes into, by TensorFlow's profiler.

    python -m benchmarks.operations --model paper-cnn

Milliseconds of each kind of operation in a step, in one process, medians of rounds. Operations run beside each other
where they can, and the profiler takes a little itself: their sum is not the step's time.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.common import processor
from facesim.backends.kernels import FIXED, KERNELS

#: Steps of one round, and those before the first.
_STEPS, _WARM_UP = 20, 10


@click.command()
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--kernels", type=click.Choice(list(KERNELS)), default=FIXED, show_default=True)
@click.option("--at-least", default=0.5, show_default=True, help="milliseconds of a kind that is shown")
def main(model: str, batch: int, rounds: int, kernels: str, at_least: float) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", **KERNELS[kernels]}
    from facesim.training.tensorflow import kernels as measured  # loads TensorFlow

    step = measured.training_of(model, batch)
    for _ in range(_WARM_UP):
        step().numpy()
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for kind, ms in _profiled(step).items():
            found[kind].append(ms)
    medians = {kind: statistics.median(values) for kind, values in found.items()}
    click.echo(f"{model}, batch {batch}, kernels {kernels}, on {processor()}; {rounds} rounds of {_STEPS} steps\n")
    click.echo("| operation | ms a step |\n|---|---|")
    for kind, ms in sorted(medians.items(), key=lambda item: -item[1]):
        if ms >= at_least:
            click.echo(f"| {kind} | {ms:.1f} |")
    click.echo(f"| all | {sum(medians.values()):.1f} |")


def _profiled(step: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds a step of each kind of operation, as the profiler names it."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory(prefix="facesim-profile-") as folder:
        with tf.profiler.experimental.Profile(folder, tf.profiler.experimental.ProfilerOptions(host_tracer_level=2)):
            for _ in range(_STEPS):
                step().numpy()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    spent: dict[str, float] = defaultdict(float)
    for plane in space.planes:
        names = {key: each.name for key, each in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                # Operations are NAME:KIND; what runs them is not, such as ExecutorState::Process.
                name, _, kind = names[event.metadata_id].rpartition(":")
                if name and not name.endswith(":") and kind.isidentifier():
                    spent[kind] += event.duration_ps / 1e9 / _STEPS
    return spent


if __name__ == "__main__":
    main()

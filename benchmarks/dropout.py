"""What dropout costs of a training step: as Keras has it with TensorFlow, as facesim has it, and none at all.

    python -m benchmarks.dropout --rounds 5

CPU milliseconds of a whole step, in one process, with oneDNN's kernels.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.common import in_rounds, markdown, show, write
from facesim.backends.kernels import FIXED, KERNELS

_KERAS, _FACESIM, _NONE = "Keras' dropout", "facesim's dropout", "no dropout"

#: Steps of one answer.
_STEPS = 20


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(rounds: int, model: str, batch: int, path: Path | None) -> None:
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", **KERNELS[FIXED]}
    from facesim.training.tensorflow import kernels  # isort: skip  loads TensorFlow before Keras, as a task does
    from keras.src.backend.tensorflow import random

    from facesim.training.tensorflow import dropout

    kinds = {_KERAS: dropout.of_keras, _FACESIM: dropout.dropout, _NONE: lambda inputs, *_, **__: inputs}
    steps = {}
    for name, kind in kinds.items():
        random.dropout = kind
        steps[name] = kernels.training_of(model, batch)
        steps[name]().numpy()  # traced while this kind is in use
    figures, disturbed = in_rounds({name: lambda step=step: _cpu_ms(step) for name, step in steps.items()}, rounds)
    summary = show(f"a training step of {model}, batch {batch}", figures, _KERAS, "ms", disturbed=disturbed)
    click.echo("\n" + markdown(summary, f"python -m benchmarks.dropout --model {model} --rounds {rounds}"))
    write([summary], path)


def _cpu_ms(step: Callable[[], Any]) -> float:
    begin = time.process_time()
    for _ in range(_STEPS):
        step().numpy()
    return 1000 * (time.process_time() - begin) / _STEPS


if __name__ == "__main__":
    main()

"""Where the time of a parameter-server step goes: dispatch, pull, compute, push, optimiser, each measured by itself.

    python -m benchmarks.ps_step

On a real cluster (a chief, one worker, one parameter server) with each part as a function of its own, those that
`facesim profile` measures; the parts overlap in the real step, so they need not add up to it.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

import click

from benchmarks.common import show, write
from facesim.preflight.inputs import prepare_inputs
from facesim.profiling.stages import leave, measure_job
from facesim.runs.directory import Run
from facesim.spec.job import make_job

_FOR_S = 2.0


@click.command()
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--rounds", default=1, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(model: str, batch: int, rounds: int, path: Path | None) -> None:
    job = make_job(strategy="ps-async", workers=1, model=model, batch=batch)
    figures: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="facesim-bench-") as output:
            inputs = prepare_inputs(job, lambda *_: None)
            targets = {"chief": "benchmarks.ps_step:measure"}
            parts = measure_job(job, Path(output) / "run", inputs, targets, lambda: None).figures
            for name, milliseconds in parts.items():
                figures[name].append(milliseconds)
    base = next(name for name in figures if name.startswith("compute"))
    write([show(f"one step of {model}, batch {batch}, one worker", figures, base, "ms")], path)


def measure(run_directory: str, threads: int, data_directory: str, checkpoint_directory: str) -> None:
    """The chief of the measured cluster."""
    from facesim.profiling.parts import Parts
    from facesim.profiling.timing import median_s
    from facesim.training.context import open_context
    from facesim.training.tensorflow.ps_async import Workers

    run = Run(Path(run_directory))
    context = open_context(run, Path(data_directory), Path(checkpoint_directory), "chief", 0, 0)
    parts = Parts(context, Workers(context))
    leave(run, {name: 1000 * median_s(part, _FOR_S, warm_up=5) for name, part in parts.all().items()})


if __name__ == "__main__":
    main()

"""Where the time of a parameter-server step goes: dispatch, pull, compute, push, optimiser, each measured by itself.

    python -m benchmarks.ps_step

On a real cluster (a chief, one worker, one parameter server) with each part as a function of its own; the parts overlap
in the real step, so they need not add up to it.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from facesim.preflight.inputs import prepare_inputs
from facesim.runs.directory import Run
from facesim.spec.backends import BACKENDS
from facesim.spec.job import make_job

_REPEATS = 40


@click.command()
@click.option("--model", default="paper-cnn", show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(model: str, batch: int, path: Path | None) -> None:
    job = make_job(strategy="ps-async", workers=1, model=model, batch=batch)
    with tempfile.TemporaryDirectory(prefix="facesim-bench-") as output:
        run = Run.create(Path(output) / "run", job)
        local = BACKENDS["local"]().open()
        plan = local.render(job, run.directory, prepare_inputs(job, lambda *_: None))
        tasks = [
            dataclasses.replace(task, target="benchmarks.ps_step:measure") if task.role == "chief" else task
            for task in plan.tasks
        ]
        run.record("submitted")
        node = local.submit(run, dataclasses.replace(plan, tasks=tuple(tasks)))
        outcome = [event for event in node.events() if event][-1]["outcome"]
        node.close()
        if outcome != "completed":
            raise RuntimeError(run.log_tail("chief-0", 40))
        parts = json.loads((run.directory / "parts.json").read_text())
    click.echo(f"\none step of {model}, batch {batch}, one worker (ms, median of {_REPEATS})")
    for name, milliseconds in parts.items():
        click.echo(f"  {name:34} {milliseconds:7.1f}")
    if path:
        path.write_text(json.dumps(parts, indent=1) + "\n")


def measure(run_directory: str, threads: int, data_directory: str, checkpoint_directory: str) -> None:
    """The chief of the measured cluster."""
    import tensorflow as tf

    from facesim.training.context import open_context
    from facesim.training.tensorflow.forward import forward_of
    from facesim.training.tensorflow.network import build
    from facesim.training.tensorflow.pipeline import index_batch
    from facesim.training.tensorflow.ps_async import Workers
    from facesim.training.tensorflow.step import compute_step

    run = Run(Path(run_directory))
    context = open_context(run, Path(data_directory), Path(checkpoint_directory), "chief", 0, 0)
    served = Workers(context)
    parameters = [variable.value for variable in served.model.trainable_variables]
    local_model, local_optimizer = build(context)
    batch = index_batch(context.train_indices[: context.experiment.batch], served.labels)
    images = tf.constant(context.data.images[context.train_indices[: context.experiment.batch]])
    scratch = []
    with served.strategy.scope():
        for parameter in parameters:
            with served.strategy.extended.colocate_vars_with(parameter):
                scratch.append(tf.Variable(tf.zeros_like(parameter), trainable=False))

    @tf.function
    def nothing() -> tf.Tensor:
        return tf.constant(0)

    @tf.function
    def pull() -> tf.Tensor:
        # One element of each is used: the whole of it has to come for that.
        return tf.add_n([tf.reshape(parameter.read_value(), [-1])[0] for parameter in parameters])

    @tf.function
    def push() -> tf.Tensor:
        stores = [variable.assign(tf.fill(variable.shape, 0.5), read_value=False) for variable in scratch]
        with tf.control_dependencies(stores):
            return tf.constant(0)

    @tf.function
    def compute() -> tuple[tf.Tensor, list[tf.Tensor]]:
        # The gradients are returned because a backward pass that nobody uses would be left out.
        return compute_step(forward_of(local_model), local_optimizer, served.loss, images, batch[1], tf.constant(0))

    @tf.function
    def optimise() -> tf.Tensor:
        gradients = []
        for parameter in parameters:
            with tf.device(parameter.device):
                gradients.append(tf.fill(parameter.shape, 1e-3))
        return served.optimizer.apply(gradients, served.model.trainable_variables)

    def on_worker(function: Callable, *arguments: object) -> Callable[[], object]:
        return lambda: served.coordinator.schedule(function, args=arguments).fetch()

    parts = {
        "dispatch": on_worker(nothing),
        "dispatch, pull": on_worker(pull),
        "dispatch, push": on_worker(push),
        "compute (in the chief's process)": lambda: compute()[0].numpy(),  # noqa: PLW0108
        "optimiser (on the server)": lambda: optimise().numpy(),
        "the whole step": on_worker(served.update, served.data, batch),
    }
    medians = {}
    for name, part in parts.items():
        for _ in range(5):
            part()
        times = []
        for _ in range(_REPEATS):
            begin = time.perf_counter()
            part()
            times.append(1000 * (time.perf_counter() - begin))
        medians[name] = statistics.median(times)
    (run.directory / "parts.json").write_text(json.dumps(medians))


if __name__ == "__main__":
    main()

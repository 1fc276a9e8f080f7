"""What a report takes: CPU seconds and memory of `facesim report` over many runs, and over runs with many samples.

    python -m benchmarks.reports [--rounds N] [--keep DIR] [--json FILE]

The runs are made up and lie on disk as facesim leaves them: written by its own writers, ended by its own `finish`.
`--keep` leaves them, and takes those that are there. Each report is a process of its own, as a user starts it.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import click

from benchmarks.common import show, write, yardstick_s
from facesim.metrics.files import SampleWriter
from facesim.runs.directory import Run
from facesim.runs.events import NodeEnded, StateEntered, Submitted, TaskStarted
from facesim.runs.records import Counts, Data, TaskOutcome
from facesim.runs.states import Measurement, Outcome, RunState
from facesim.spec.job import Job, make_job
from facesim.study.result import finish

LAUNCHED_UNIX_S = 1_790_000_000.0
EXAMPLES = 320

#: What a report of each of these may take on one core.
BOUND_CPU_S, BOUND_BYTES = 5.0, 300e6


def write_run(directory: Path, job: Job, training_s: float) -> None:
    """A run that completed, sampled once a second: the host, every task, its connections, an evaluation an epoch."""
    run, at = Run.create(directory, job), LAUNCHED_UNIX_S
    tasks = ["chief-0", *(f"worker-{n}" for n in range(job.shape.workers)), "ps-0"]
    tasks = tasks if job.strategy.distributed else tasks[:1]
    run.record(Submitted(time_unix_s=at))
    for task in tasks:
        run.record(TaskStarted(time_unix_s=at, task=task))
    for nth, state in enumerate((RunState.STARTING, RunState.TRAINING)):
        run.record(StateEntered(time_unix_s=at + 4 * nth, state=state))

    def writer(name: str, source: str) -> SampleWriter:
        return SampleWriter(run.metrics / f"{name}.jsonl", run_id=run.id, host="localhost", source=source)

    training, psutil, sockets = writer("chief-0", "training"), writer("psutil", "psutil"), writer("sockets", "sockets")
    for second in range(1, round(training_s) + 1):
        level = 50 + 40 * math.sin(second / 7)
        moment = at + 4 + second
        machine = {"machine_busy_percent": 96.0, "machine_cpu_count": 2, "steal_percent": 0.1, "cpu_count": 2}
        used = {"cpu_percent": level, "memory_bytes": 1e9 + 1e6 * level, "disk_read_bytes": second * 4096}
        psutil.write(moment, "host", 0, {**machine, **used, "memory_percent": 40.0})
        for task in tasks:
            role, index = task.split("-")
            psutil.write(
                moment, role, int(index), {**used, "cpu_percent": level / len(tasks), "cpu_s": second / 2, "threads": 9}
            )
            if len(tasks) > 1:
                sent = second * 20_000_000.0
                sockets.write(moment + 0.01, role, int(index), {"net_sent_bytes": sent, "net_received_bytes": sent})
    epochs, first_step_s = job.experiment.epochs, {"first_step_s": 1.0, "launch_to_first_step_s": 4.0}
    training.write(at + 4, "chief", 0, first_step_s)
    for epoch in range(1, epochs + 1):
        learnt = 1 - math.exp(-4 * epoch / epochs)
        reached = {"loss": 3.7 * (1 - learnt), "held_out_accuracy": 0.9 * learnt, "images_per_s": 500.0}
        counted = {"epoch": epoch, "examples": epoch * EXAMPLES, "updates": epoch * 10}
        training.write(at + 4 + training_s * epoch / epochs, "chief", 0, {**counted, **reached})
    for each in (training, psutil, sockets):
        each.close()
    run.record(StateEntered(time_unix_s=at + training_s + 5, state=RunState.COMPLETED))
    run.record(NodeEnded(time_unix_s=at + training_s + 5, outcome=Outcome.COMPLETED))
    due = epochs * EXAMPLES
    TaskOutcome(
        held_out_accuracy=0.9 + job.experiment.seed % 10 / 200, held_out_loss=0.3, training_accuracy=0.99,
        images_per_s=500.0, training_s=training_s, examples_seen=due, updates=epochs * 10, phases=first_step_s,
        parameters=4_842_589, parameter_bytes=4 * 4_842_589, parameters_sha256=["0" * 64],
        data=Data(name="made up", identities=40, training_examples=EXAMPLES, held_out_examples=80),
        counted=Counts(examples_due=due, examples=due, updates=epochs * 10, last_version=epochs * 10),
    ).write(run.outcome_file)  # fmt: skip
    finish(run, RunState.COMPLETED, None, Measurement.EMULATED, training_s + 5)


def many_runs(folder: Path) -> None:
    """200 runs of a minute: five strategies, two batches, twenty seeds."""
    strategies = ("single", "ps-async", "ps-sync", "allreduce", "local-sgd")
    for strategy, batch, seed in itertools.product(strategies, (32, 64), range(20)):
        job = make_job(strategy=strategy, batch=batch, seed=seed, epochs=20)
        write_run(folder / f"{strategy}-batch{batch}-seed{seed}", job, training_s=60.0)


def many_samples(folder: Path) -> None:
    """A million samples: `single` and `ps-async` with six workers, of more than three hours each."""
    for strategy in ("single", "ps-async"):
        write_run(folder / strategy, make_job(strategy=strategy, epochs=200, workers=6), training_s=11_600.0)


CASES: dict[str, Callable[[Path], None]] = {"200 runs": many_runs, "a million samples": many_samples}


@click.command()
@click.option("--rounds", default=1, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="the folder that the runs are left in, or are in already")
@click.option("--json", "path", type=click.Path(path_type=Path), help="also write the figures to this file")
def main(rounds: int, keep: Path | None, path: Path | None) -> None:
    cpu_s: dict[str, list[float]] = {"yardstick": []}
    with nullcontext(keep) if keep else tempfile.TemporaryDirectory(prefix="facesim-bench-") as folder:
        for name, make in CASES.items():
            runs = Path(folder) / name.replace(" ", "-")
            if not runs.exists():
                with ProcessPoolExecutor(1) as pool:  # a process counts the peak of the one that started it as its own
                    pool.submit(make, runs).result()
        for _ in range(rounds):
            cpu_s["yardstick"].append(yardstick_s())
            for name in CASES:
                runs = Path(folder) / name.replace(" ", "-")
                spent_s, memory_bytes = report(runs, Path(folder) / "report.html")
                cpu_s.setdefault(name, []).append(spent_s)
                samples = sum(file.read_bytes().count(b"\n") for file in runs.glob("*/metrics/*.jsonl"))
                fits = spent_s <= BOUND_CPU_S and memory_bytes <= BOUND_BYTES
                click.echo(
                    f"{name:20} {samples:9,} samples {spent_s:6.1f} s of CPU {memory_bytes / 1e6:6.0f} MB"
                    f"   (bounds {BOUND_CPU_S:g} s, {BOUND_BYTES / 1e6:.0f} MB{'' if fits else ': EXCEEDED'})"
                )
    write([show("CPU time of a report", cpu_s, "yardstick", "s")], path)


def report(runs: Path, output: Path) -> tuple[float, int]:
    """CPU seconds and peak resident bytes of one `facesim report` of `runs`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "facesim", "report", str(runs), "--output", str(output)], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError("the report failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

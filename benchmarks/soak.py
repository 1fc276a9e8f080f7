"""Short jobs over all strategies, with random kills of every role: does everyone arrive, with nothing counted twice?

    python -m benchmarks.soak [--seeds 5] [--json soak.json]

Each job is run undisturbed and with kills, drawn by its seed, of tasks of every role. It exits with 1 unless every job
completed, every example was counted once, each strategy's held-out accuracy is that of its undisturbed runs
(its mean lies in their interval, or that of the difference, paired by seed, has 0 in it), and no process is left.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import click
import psutil

from benchmarks.common import write
from facesim.data import RenderSpec, render_folder
from facesim.progress import Quiet
from facesim.report.statistics import mean_interval
from facesim.runs.directory import Run
from facesim.spec.job import Job, flat, make_job
from facesim.spec.strategies import STRATEGIES
from facesim.study import run_study

_KILLS = 2


def jobs(data: Path, seed: int, epochs: int) -> list[Job]:
    """A job of each strategy: 12 updates an epoch."""
    small = {
        "model": "compact-cnn",
        "image_size": 32,
        "batch": 16,
        "learning_rate": 3e-3,
        "epochs": epochs,
        "held_out": 0.4,
    }
    return [
        make_job(
            strategy=name, data=str(data), seed=seed, checkpoint_steps=12, max_restarts=10, sampling_s=0.5, **small
        )
        for name in STRATEGIES
    ]


def with_kills(job: Job, updates: int, draw: random.Random) -> Job:
    """The job with kills at random steps: of its roles in turn, beginning with any, and of any task of the role."""
    roles = sorted({task.rsplit("-", 1)[0] for task in job.tasks})
    first = draw.randrange(len(roles))
    faults = []
    for number in range(_KILLS):
        role = roles[(first + number) % len(roles)]
        task = draw.choice([task for task in job.tasks if task.startswith(role)])
        faults.append({"kind": "kill", "target": task, "at_step": draw.randrange(1, int(0.9 * updates))})
    return make_job(faults=faults, **flat(job))


def left(run: Run) -> list[int]:
    """Processes of the run that still go on."""
    pids = [event["pid"] for event in run.events() if event["event"] in ("node_started", "task_started")]
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def faults_of(run: Run) -> list[str]:
    """What is wrong with a run, in words."""
    result, wrong = run.result() or {}, []
    if result.get("state") != "Completed":
        return [f"ended as {result.get('state')}: {result.get('failure')}"]
    counted, job = result["counted"], run.job()
    # The copies of `independent` train everything each, and count each its own.
    if counted["examples"] != counted["examples_due"]:
        wrong.append(f"{counted['examples']} examples counted, {counted['examples_due']} due")
    expected = {"single": "single", "independent": "apart"}.get(job.strategy.name, "together")
    if result["sync_audit"]["verdict"] != expected:
        wrong.append(f"audited {result['sync_audit']['verdict']}: {result['sync_audit']['evidence']}")
    if pids := left(run):
        wrong.append(f"processes left: {pids}")
    return wrong


@click.command()
@click.option("--seeds", type=click.IntRange(3), default=5, show_default=True, help="jobs of each strategy")
@click.option("--epochs", type=click.IntRange(2), default=10, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="also write the figures here")
def main(seeds: int, epochs: int, json_file: Path | None) -> None:
    """Kill tasks of every role at random, and see whether everyone arrives."""
    wrong: list[str] = []
    killed: Counter[str] = Counter()
    accuracy: dict[str, dict[str, list[float]]] = {name: {"undisturbed": [], "disturbed": []} for name in STRATEGIES}
    lost = Counter[str]()
    with tempfile.TemporaryDirectory(prefix="facesim-soak-") as folder:
        data = Path(folder) / "faces"
        render_folder(RenderSpec(identities=16, images=20, size=32, difficulty=0.3), data)
        for seed in range(seeds):
            for job in jobs(data, seed, epochs):
                draw = random.Random(f"{seed} {job.strategy.name}")
                for kind, one in (("undisturbed", job), ("disturbed", with_kills(job, 12 * epochs, draw))):
                    (run,) = run_study([one], Path(folder) / kind, Quiet())
                    found = faults_of(run)
                    wrong += [f"{job.strategy.name}, seed {seed}, {kind}: {one}" for one in found]
                    result = run.result()
                    accuracy[job.strategy.name][kind].append(result["held_out_accuracy"] or 0.0)
                    killed.update(e["target"].rsplit("-", 1)[0] for e in run.events() if e["event"] == "fault")
                    lost.update({name: result["recovery"][name] for name in ("restarts", "lost_examples")})
                    what = f"seed {seed} {job.strategy.name:12} {kind:12}"
                    click.echo(f"{what} {result['total_s']:6.1f} s  {found or 'well'}")
    summary = _summary(accuracy, wrong)
    click.echo(f"\n{seeds * len(STRATEGIES)} disturbed jobs; killed: {dict(killed)}; {dict(lost)}")
    click.echo("\n".join(["", "WRONG:", *wrong]) if wrong else "every job completed, every example was counted once")
    write([{"title": "soak", "killed": killed, "lost": lost, "wrong": wrong, "accuracy": summary}], json_file)
    sys.exit(1 if wrong else 0)


def _summary(accuracy: dict[str, dict[str, list[float]]], wrong: list[str]) -> dict[str, Any]:
    """Print accuracies; a strategy that learnt other than undisturbed is wrong."""
    click.echo(f"\n{'held-out accuracy, %':22}{'undisturbed':>26}{'disturbed':>12}")
    for name, kinds in accuracy.items():
        calm = mean_interval([100 * share for share in kinds["undisturbed"]])
        mean = mean_interval([100 * share for share in kinds["disturbed"]]).mean
        differences = [100 * (b - a) for a, b in zip(kinds["undisturbed"], kinds["disturbed"])]
        change = mean_interval(differences, confidence=1 - 0.05 / len(accuracy))  # jointly, after Bonferroni
        click.echo(f"{name:22}{calm.mean:10.1f} ({calm.low:5.1f} to {calm.high:5.1f}){mean:12.1f}")
        if not (calm.low <= mean <= calm.high or change.low <= 0 <= change.high):
            wrong.append(f"{name}: {mean:.1f} % disturbed is outside of {calm.low:.1f} to {calm.high:.1f} %")
    return accuracy


if __name__ == "__main__":
    main()

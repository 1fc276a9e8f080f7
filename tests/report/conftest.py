"""Run directories as facesim leaves them, written through its own `Run` and `SampleWriter`, with plausible numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facesim.metrics.files import SampleWriter
from facesim.report import write_report
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.util.files import write_json

LAUNCHED_UNIX_S = 1_790_000_000.0
PARAMETER_BYTES = 4 * 4_842_589
TRAINING_EXAMPLES, HELD_OUT_EXAMPLES = 320, 80


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    """A function that writes one run; see `write_run`."""

    def make(strategy: str = "single", seed: int = 0, **options: Any) -> Run:
        name = options.pop("name", f"{strategy}-{seed}")
        return write_run(tmp_path / "runs" / name, strategy, seed, **options)

    return make


def write_run(
    directory: Path,
    strategy: str,
    seed: int,
    *,
    accuracy: float = 92.0,
    training_s: float = 40.0,
    epochs: int = 20,
    audit: dict[str, Any] | None = None,
    metrics: bool = True,
    result: dict[str, Any] | None = None,
    finished: bool = True,
    launched: float = LAUNCHED_UNIX_S,
    **job_options: Any,
) -> Run:
    """Write a run that reached `accuracy` percent; `result` overrides result.json, `finished=False` leaves it out."""
    job = make_job(strategy=strategy, seed=seed, epochs=epochs, **job_options)
    run = Run.create(directory, job)
    random = np.random.default_rng([seed, len(strategy)])
    distributed = strategy != "single"
    tasks = [("chief", 0)] + ([("worker", 0), ("worker", 1), ("ps", 0)] if distributed else [])
    phases = {
        "startup_s": 4.1 + random.normal(0, 0.2),
        "connect_s": 3.0 if distributed else 0.0,
        "build_s": 1.2,
        "first_step_s": 2.5,
        "training_s": training_s,
        "evaluation_s": 0.1 * epochs,
        "save_s": 0.4,
    }
    phases["launch_to_first_step_s"] = sum(phases[n] for n in ("startup_s", "connect_s", "build_s", "first_step_s"))
    total_s = phases["launch_to_first_step_s"] - 2.5 + training_s + phases["evaluation_s"] + 0.4 + 0.8
    write_events(
        run,
        tasks,
        launched=launched,
        first_step=phases["launch_to_first_step_s"],
        total_s=total_s,
        finished=finished,
    )
    updates = epochs * TRAINING_EXAMPLES // job.experiment.batch
    wire_bytes = int(updates * 2.1 * PARAMETER_BYTES) if distributed else 0
    if metrics:
        first_step = phases["launch_to_first_step_s"]
        began = launched + first_step - phases["first_step_s"]
        write_history(run, random, began=began, training_s=training_s, epochs=epochs, accuracy=accuracy)
        write_utilisation(
            run, random, tasks, launched=launched, total_s=total_s, first_step=first_step, wire_bytes=wire_bytes
        )
    if finished:
        hosts = job.hosts
        content = {
            "run_id": run.id,
            "job": json.loads(job.model_dump_json()),
            "strategy": strategy,
            "backend": "local",
            "seed": seed,
            "state": "Completed",
            "measurement": "emulated",
            "failure": None,
            "held_out_accuracy": accuracy / 100,
            "training_accuracy": 0.994,
            "held_out_loss": 0.31,
            "images_per_s": epochs * TRAINING_EXAMPLES / training_s,
            "training_s": training_s,
            "total_s": total_s,
            "examples_seen": epochs * TRAINING_EXAMPLES,
            "updates": updates,
            "cost_usd": 0.461 * hosts * total_s / 3600,
            "spot_cost_usd": 0.461 * hosts * total_s / 3600 * 0.43,
            "instance_type": "ml.m5.2xlarge",
            "hosts": hosts,
            "phases": phases,
            "resources": {
                **{role: _resources(role, sum(r == role for r, _ in tasks), distributed) for role in dict(tasks)},
                "host": {"cpu_percent_mean": 88.0 + random.normal(), "memory_peak_bytes": 5.1e9},
            },
            "wire_bytes": wire_bytes,
            "parameters": PARAMETER_BYTES // 4,
            "parameter_bytes": PARAMETER_BYTES,
            "data": {
                "name": "orl",
                "identities": 40,
                "training_examples": TRAINING_EXAMPLES,
                "held_out_examples": HELD_OUT_EXAMPLES,
                "chance_accuracy": 0.025,
            },
            "sync_audit": audit
            or (
                {
                    "verdict": "together",
                    "evidence": [
                        f"{epochs * TRAINING_EXAMPLES:,} examples were counted once each; as many were due",
                        f"{updates:,} updates took {updates:,} distinct parameter versions",
                        "2.1 times the model's size crossed the wire an update",
                    ],
                }
                if distributed
                else {"verdict": "single", "evidence": ["one replica: nothing to synchronise"]}
            ),
            "machine": {
                "cpu_count": 2,
                "cpu_model": "An Example CPU @ 2.5 GHz",
                "memory_bytes": 8 * 2**30,
                "platform": "Linux",
                "python": "3.11.2",
                "tensorflow": "2.21.0",
                "keras": "3.12.0",
                "facesim": "0.1.0",
            },
        }
        write_json(run.result_file, content | (result or {}))
    return run


def write_events(
    run: Run, tasks: list[tuple[str, int]], *, launched: float, first_step: float, total_s: float, finished: bool
) -> None:
    """Events at times of our choosing: `Run.record` takes the clock's."""
    events = [(0.0, "submitted", {"backend": "local"})]
    events += [(0.05 + 0.02 * i, "task_started", {"task": f"{role}-{index}"}) for i, (role, index) in enumerate(tasks)]
    events += [(0.1, "state", {"state": "Starting"}), (first_step, "state", {"state": "Training"})]
    if finished:
        events += [(total_s - 0.1, "task_ended", {"task": f"{role}-{index}", "exit_code": 0}) for role, index in tasks]
        events += [(total_s, "state", {"state": "Completed"})]
    lines = [
        json.dumps({"time_unix_s": launched + at, "event": name, **details}) + "\n" for at, name, details in events
    ]
    run.events_file.write_text("".join(lines))


def write_history(
    run: Run, random: np.random.Generator, *, began: float, training_s: float, epochs: int, accuracy: float
) -> None:
    """Curves that rise to `accuracy` exactly, one point an epoch."""
    writer = SampleWriter(run.metrics / "chief-0.jsonl", run_id=run.id, host="localhost", source="training")
    for epoch in range(1, epochs + 1):
        grown = (1 - np.exp(-4 * epoch / epochs)) / (1 - np.exp(-4))
        noise = 0.0 if epoch == epochs else random.normal(0, 1.5)
        writer.write(
            began + epoch * (training_s / epochs + 0.1),
            "chief",
            0,
            {
                "epoch": epoch,
                "examples": epoch * TRAINING_EXAMPLES,
                "updates": epoch * TRAINING_EXAMPLES // 32,
                "loss": 3.7 * np.exp(-4 * epoch / epochs) + abs(random.normal(0, 0.05)),
                "running_accuracy": 0.95 * grown,
                "images_per_s": epochs * TRAINING_EXAMPLES / training_s,
                "held_out_accuracy": max(0.0, accuracy * grown + noise) / 100,
                "held_out_loss": 3.7 * np.exp(-3 * epoch / epochs),
            },
        )
    writer.close()


def write_utilisation(
    run: Run,
    random: np.random.Generator,
    tasks: list[tuple[str, int]],
    *,
    launched: float,
    total_s: float,
    first_step: float,
    wire_bytes: int,
) -> None:
    """Every task and the host, twice a second."""
    writer = SampleWriter(run.metrics / "psutil.jsonl", run_id=run.id, host="localhost", source="psutil")
    sockets = SampleWriter(run.metrics / "sockets.jsonl", run_id=run.id, host="localhost", source="sockets")
    receivers = max(1, len(tasks) - 1)
    for at in np.arange(0.5, total_s, 0.5):
        training = at > first_step
        done = np.clip((at - first_step) / (total_s - first_step), 0, 1)
        for role, index in [*tasks, ("host", 0)]:
            share = {"host": 88, "ps": 14, "worker": 34, "chief": 5 if len(tasks) > 1 else 84}[role] if training else 25
            level = {"host": 4.0, "ps": 0.45, "worker": 0.85, "chief": 0.7}[role] * 2**30
            values = {
                "cpu_percent": float(np.clip(random.normal(share, 4), 0, 100)),
                "memory_bytes": level * (1 - np.exp(-at / 4)),
            }
            writer.write(launched + float(at), role, index, values)
            if role not in ("host", "chief"):
                sockets.write(launched + float(at), role, index, {"net_received_bytes": done * wire_bytes / receivers})
    writer.close()
    sockets.close()


def _resources(role: str, tasks: int, distributed: bool) -> dict[str, Any]:
    return {
        "tasks": tasks,
        "cpu_percent_mean": {"ps": 14.0, "worker": 68.0}.get(role, 5.0 if distributed else 84.0),
        "memory_peak_bytes": {"ps": 0.5e9, "worker": 0.9e9}.get(role, 0.8e9),
        "net_sent_bytes": 1_000_000,
        "net_received_bytes": 1_000_000,
    }


@pytest.fixture
def study(tmp_path: Path) -> list[Run]:
    """single and ps-async, three seeds each: the cluster slower, its accuracy not told apart."""
    return write_study(tmp_path / "runs")


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of that study."""
    folder = tmp_path_factory.mktemp("page")
    write_report(write_study(folder / "runs"), folder / "out" / "report.html")
    return (folder / "out" / "report.html").read_text()


def write_study(folder: Path) -> list[Run]:
    single, cluster = (91.25, 93.75, 92.5), (92.5, 91.25, 92.5)
    figures = [("single", seed, accuracy, 40.0 + seed) for seed, accuracy in enumerate(single)]
    figures += [("ps-async", seed, accuracy, 57 + 1.5 * seed) for seed, accuracy in enumerate(cluster)]
    return [
        write_run(folder / f"{strategy}-{seed}", strategy, seed, accuracy=accuracy, training_s=training_s)
        for strategy, seed, accuracy, training_s in figures
    ]

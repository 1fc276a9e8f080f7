"""What a parameter-server cluster shows: the parts of a step, CPU time of each role, and how much a server can do."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import facesim.training.tensorflow.preload  # noqa: F401  # isort: skip  before TensorFlow imports Keras
import psutil
import tensorflow as tf

from facesim.profiling.parts import Parts, null_step, rate_per_s, small_variables
from facesim.profiling.stages import SMALL_COUNTS, SMALL_SIZE, leave
from facesim.profiling.timing import median_s
from facesim.runs.directory import Run
from facesim.training.context import open_context
from facesim.training.tensorflow import task
from facesim.training.tensorflow.optimizer import FusedAdam
from facesim.training.tensorflow.ps_async import Workers

_PARTS_S, _STEPS_S, _RATE_S = 0.6, 2.0, 2.0
#: How often real steps are measured, in turn, for a machine is not always as fast.
_ROUNDS = 3
#: The rate has stopped rising when more workers make it less than so much higher.
_RISES_BY = 1.05
#: Where a task leaves its process id.
_PID = "pid"


def serve(run_directory: str, threads: int, cores: list[int]) -> None:
    """A worker or a parameter server, on `cores` alone if there are any."""
    _stay_on(cores)
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    folder = Run(Path(run_directory)).task_directory(f"{resolver.task_type}-{resolver.task_id}")
    (folder / _PID).write_text(str(os.getpid()), encoding="utf-8")
    task.serve(run_directory, threads)


def _stay_on(cores: list[int]) -> None:
    if cores:
        os.sched_setaffinity(0, cores)


def measure(run_directory: str, threads: int, data_directory: str, checkpoint_directory: str, cores: list[int]) -> None:
    """A chief that measures in place of training."""
    _stay_on(cores)
    run = Run(Path(run_directory))
    task.work_in(run.task_directory("chief-0"), 0)
    tf.config.threading.set_intra_op_parallelism_threads(len(cores) or threads)
    context = open_context(run, Path(data_directory), Path(checkpoint_directory), "chief", 0, 0)
    served = Workers(context)
    workers = context.job.shape.workers
    processes = _processes(run)
    batch = context.train_indices[: context.experiment.batch]

    # Every worker is given the step once before anything is measured.
    for _ in served.train([batch] * (4 * workers)):
        pass
    figures: dict[str, Any] = _in_turn(served, batch, {"alone": 1, "together": workers}, processes)
    parts = Parts(context, served)
    figures["parts_s"] = {name: median_s(part, _PARTS_S) for name, part in parts.all().items()}
    figures["saturated"] = _saturate(served, parts.null_step, processes)
    for name, count in SMALL_COUNTS.items():
        figures[name] = _saturate(served, _few_bytes(served, count), processes)
    rows = served.products.factor_rows
    figures["factor_rows"] = [rows.get(place, 0.0) for place, _ in enumerate(served.model.trainable_variables)]
    figures["cores"] = len(cores)
    leave(run, figures)


def _few_bytes(served: Workers, count: int) -> Any:
    """A null step of so many small variables."""
    with served.strategy.scope():
        small = small_variables(count, SMALL_SIZE)
        optimizer = FusedAdam(1e-3)
        optimizer.build(small)
    return null_step(lambda: [variable.value.read_value() for variable in small], optimizer, small)


def _processes(run: Run) -> dict[str, list[psutil.Process]]:
    """The processes of each role."""
    processes = {"chief": [psutil.Process()]}
    for file in sorted(run.tasks.glob(f"*/{_PID}")):
        role = file.parent.name.rsplit("-", 1)[0]
        processes.setdefault(role, []).append(psutil.Process(int(file.read_text(encoding="utf-8"))))
    return processes


def _cpu_s(processes: dict[str, list[psutil.Process]]) -> dict[str, float]:
    times = {role: [each.cpu_times() for each in of_role] for role, of_role in processes.items()}
    return {role: sum(each.user + each.system for each in of_role) for role, of_role in times.items()}


def _cpu_since(before: dict[str, float], processes: dict[str, list[psutil.Process]], updates: int) -> dict[str, float]:
    """CPU-seconds an update of each role."""
    return {role: (spent - before[role]) / updates for role, spent in _cpu_s(processes).items()}


def _in_turn(
    served: Workers, batch: Any, workers: dict[str, int], processes: dict[str, list[psutil.Process]]
) -> dict[str, dict[str, Any]]:
    """By name, what `_train` has of so many workers: in all rounds together the CPU time, else medians of rounds."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for _ in range(_ROUNDS):
        for name, at_once in workers.items():
            rounds[name].append(_train(served, [batch], at_once, processes))
    return {name: _of_rounds(of_name) for name, of_name in rounds.items()}


def _of_rounds(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    updates = sum(each["updates"] for each in rounds)
    cpu_s = {
        role: sum(each["cpu_s"][role] * each["updates"] for each in rounds) / updates for role in rounds[0]["cpu_s"]
    }
    middle = {name: statistics.median(each[name] for each in rounds) for name in rounds[0] if name != "cpu_s"}
    return middle | {"cpu_s": cpu_s, "updates": updates}


def _train(
    served: Workers, batches: list[Any], at_once: int, processes: dict[str, list[psutil.Process]]
) -> dict[str, Any]:
    """Real steps of `at_once` workers: seconds between updates, CPU-seconds of each role for one, and by how many steps
    the end was later than if updates had gone on coming at the same rate.
    """
    ahead, served.ahead = served.ahead, at_once if at_once == 1 else 2 * at_once
    given, times, late, exhausted_s = 0, list[float](), list[int](), 0.0
    begin, before = time.perf_counter(), _cpu_s(processes)

    def hand_out() -> Any:
        nonlocal given, exhausted_s
        while given < 4 * served.ahead or time.perf_counter() - begin < _STEPS_S:
            given += 1
            yield batches[0]
        exhausted_s = time.perf_counter()

    for result in served.train(hand_out()):
        times.append(time.perf_counter())
        late.append(result.staleness)
    cpu = _cpu_since(before, processes, len(times))
    steady = [time_s for time_s in times if time_s <= exhausted_s]
    between_s = (steady[-1] - steady[0]) / max(1, len(steady) - 1)
    late_s = times[-1] - steady[-1] - (len(times) - len(steady)) * between_s
    served.ahead = ahead
    gaps = [later - sooner for sooner, later in zip(steady, steady[1:])]
    return {
        "update_s": between_s,
        "median_s": statistics.median(gaps),
        "cpu_s": cpu,
        "updates": len(times),
        "staleness": statistics.fmean(late[at_once : len(steady)]),
        "drain_steps": max(0.0, late_s / between_s),
    }


def _saturate(served: Workers, step: Any, processes: dict[str, list[psutil.Process]]) -> dict[str, Any]:
    """Have more and more workers make steps that compute nothing, until the server's rate stops rising."""
    workers = served.ahead // 2
    for _ in range(3):
        rate_per_s(served, step, workers, 0.0)
    rates, cpu, in_flight = list[float](), dict[str, float](), 1
    alone_s = 0.0
    while True:
        before = _cpu_s(processes)
        rate, updates = rate_per_s(served, step, in_flight, _RATE_S)
        rising = not rates or rate > _RISES_BY * max(rates)
        if not rates or rate > max(rates):
            cpu = _cpu_since(before, processes, updates)
        rates.append(rate)
        alone_s = alone_s or 1 / rate
        if not rising or in_flight >= workers:
            break
        in_flight = min(workers, 2 * in_flight)
    return {"update_s": 1 / max(rates), "alone_s": alone_s, "rates_per_s": rates, "cpu_s": cpu}

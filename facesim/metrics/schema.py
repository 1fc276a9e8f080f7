"""The metric schema: one long table in which every measurement of every run, whatever measured it, is one row.

A row is a `Sample`. `METRICS` is the registry of names: it gives each one's unit, kind and meaning, and a name that is
not in it cannot be recorded. Utilisations are always 0-100 % of what the host has: psutil's per-process percent (100 a
core) and CloudWatch's sum over vCPUs are normalised by the collector, on the way in, and `cpu_count` is kept beside
them.
"""

from __future__ import annotations

from typing import NamedTuple

#: A level at an instant, a total since the task began, or the length of something that has ended.
GAUGE, COUNTER, DURATION = "gauge", "counter", "duration"

#: The role of what measures a host's tasks.
MONITOR = "monitor"


class Metric(NamedTuple):
    """What a metric's name means."""

    unit: str
    kind: str
    meaning: str


class Sample(NamedTuple):
    """One row of the table.

    `role` is `host` for what concerns the whole host, else the task's role (`chief`, `worker`, `ps`); `source` names
    what measured (`psutil`, `training`, `cloudwatch`, ...).
    """

    run_id: str
    time_unix_s: float
    host: str
    role: str
    task_index: int
    source: str
    name: str
    value: float
    unit: str


METRICS: dict[str, Metric] = {
    # What a host or a task uses
    "cpu_percent": Metric("%", GAUGE, "CPU time used since the last sample, 0-100 % of all the host's CPUs"),
    "cpu_count": Metric("1", GAUGE, "CPUs that the host offers to its tasks"),
    "machine_busy_percent": Metric(
        "%", GAUGE, "CPU time that all programs used, 0-100 % of all CPUs of the machine that the host is on"
    ),
    "machine_cpu_count": Metric("1", GAUGE, "CPUs of that machine"),
    "steal_percent": Metric(
        "%", GAUGE, "CPU time that the machine's hypervisor gave to others while programs wanted it, 0-100 % of all"
    ),
    "cpu_s": Metric("s", COUNTER, "CPU seconds used, user and system"),
    "memory_bytes": Metric(
        "B", GAUGE, "memory in use; a task's is its resident set, pages that it shares with other tasks included"
    ),
    "memory_percent": Metric("%", GAUGE, "memory in use, 0-100 % of the host's"),
    "disk_percent": Metric("%", GAUGE, "disk space in use, 0-100 % of the host's"),
    "gpu_percent": Metric("%", GAUGE, "time in which GPUs computed, 0-100 %, mean of the host's"),
    "gpu_memory_percent": Metric("%", GAUGE, "GPU memory in use, 0-100 %, mean of the host's"),
    "gpu_memory_bytes": Metric("B", GAUGE, "GPU memory in use: of a GPU, or by a task on all of them"),
    "gpu_power_w": Metric("W", GAUGE, "electric power that a GPU draws"),
    "disk_read_bytes": Metric("B", COUNTER, "bytes read from disk"),
    "disk_written_bytes": Metric("B", COUNTER, "bytes written to disk"),
    "net_sent_bytes": Metric(
        "B", COUNTER, "bytes sent: a task's over the cluster's connections, a host's over its interfaces"
    ),
    "net_received_bytes": Metric("B", COUNTER, "bytes received: likewise"),
    "threads": Metric("1", GAUGE, "operating system threads"),
    # How training goes
    "epoch": Metric("1", COUNTER, "epochs completed: every training example seen that many times"),
    "examples": Metric("1", COUNTER, "training examples whose gradient was applied"),
    "updates": Metric("1", COUNTER, "updates applied to the parameters: the parameter version"),
    "staleness_mean": Metric(
        "1", GAUGE, "updates by others between reading the parameters and applying the gradient, mean over the epoch"
    ),
    "staleness_max": Metric("1", GAUGE, "the largest staleness in the epoch"),
    "images_per_s": Metric("1/s", GAUGE, "training throughput over the epoch, evaluation left out"),
    "loss": Metric("1", GAUGE, "mean training loss over the epoch, dropout on"),
    "running_accuracy": Metric(
        "1", GAUGE, "accuracy, 0-1, on the training batches of the epoch as they were trained, dropout on"
    ),
    "training_accuracy": Metric("1", GAUGE, "accuracy, 0-1, on the images that it trains on, evaluation mode"),
    "held_out_accuracy": Metric(
        "1",
        GAUGE,
        "accuracy, 0-1, on the images that the run is tested on, evaluation mode: those held out, the part that "
        "`--test-part` names, or those of `--validation`",
    ),
    "held_out_loss": Metric("1", GAUGE, "mean loss on the same images, evaluation mode"),
    # Phases, in the order in which a run goes through them
    "startup_s": Metric("s", DURATION, "from launch until the training task runs; `local` loads TensorFlow before"),
    "connect_s": Metric("s", DURATION, "from there until the cluster's tasks answer"),
    "build_s": Metric("s", DURATION, "building data pipeline, model and optimiser"),
    "first_step_s": Metric("s", DURATION, "until the first training step's results are known, compilation included"),
    "launch_to_first_step_s": Metric("s", DURATION, "from launch until the first training step is done"),
    "training_s": Metric("s", DURATION, "training steps from the first on, evaluation left out"),
    "evaluation_s": Metric("s", DURATION, "evaluation on the images that it is tested on, and trains on, all of it"),
    "checkpoint_s": Metric("s", DURATION, "writing checkpoints, all of them; training waits"),
    "save_s": Metric("s", DURATION, "writing the model"),
    # What a collector costs
    "sampling_s": Metric("s", GAUGE, "time that taking this round of samples took"),
    "collector_errors": Metric("1", COUNTER, "times that this collector failed; the monitor's log says why"),
}


def sample(
    run_id: str, time_unix_s: float, host: str, role: str, task_index: int, source: str, name: str, value: float
) -> Sample:
    """Make a `Sample`; the registry gives the unit.

    Raises:
        KeyError: `name` is not in `METRICS`.
    """
    return Sample(run_id, time_unix_s, host, role, task_index, source, name, float(value), METRICS[name].unit)

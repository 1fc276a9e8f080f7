"""What the tasks of a job run, wherever they do: every backend's process tables are made of these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cluster.plan import Task
from cluster.topology import Topology
from facesim.models.own import ENVIRONMENT as OWN_NETWORK
from facesim.preflight.inputs import DATA, NETWORK, PRETRAINED
from facesim.runs.directory import Run
from facesim.spec.frameworks import FRAMEWORKS
from facesim.spec.job import Job

#: What numeric libraries must find when they are loaded. glibc gives every buffer as large as this network's parameters
#: back to the system as soon as it is free, and each new one costs a page fault for every 4 kB; so do the arenas of
#: further threads. All kept, in one arena, made ps-async 6 %, single 4 % and allreduce another 9 % faster.
_ALLOCATION = {
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_ARENA_MAX": "1",
}


def environment_of(job: Job) -> dict[str, str]:
    """What the processes of a job must find in their environment before they import anything."""
    return {**FRAMEWORKS[job.framework].environment, **_ALLOCATION}


def training_task(
    run: Run,
    job: Job,
    folders: Mapping[str, Path],
    checkpoints: Path,
    topology: Topology,
    role: str,
    index: int,
    *,
    host: str,
    cores: int,
    neighbours: int,
    environment: Mapping[str, str] | None = None,
) -> Task:
    """One task of a topology, which leaves what it does in `run`. It reads `folders`, as
    `facesim.preflight.inputs.Inputs` has them, and continues from the newest of the checkpoints if there are any.

    It is on `host`, which has `cores`, where as many tasks as `neighbours`, itself included, compute at the same time:
    each gets its share of the cores, for more threads would only take turns. A chief that coordinates evaluates while
    they wait, and a server applies a joint update while they do.
    """
    strategy = job.strategy
    coordinated = strategy.coordinated
    serves = coordinated and role != "chief"
    share = max(1, cores // neighbours)
    between = coordinated and (role == "chief" or (role == "ps" and strategy.joint))
    threads = job.shape.threads or (cores if between else share)
    reads = [folders[DATA], checkpoints, *([folders[PRETRAINED]] if PRETRAINED in folders else [])]
    return Task(
        role=role,
        index=index,
        target=FRAMEWORKS[job.framework].tasks + (":serve" if serves else ":train"),
        arguments=(str(run.directory), threads, *([] if serves else map(str, reads))),
        log=str(run.log_file(f"{role}-{index}")),
        serves=serves,
        # One process alone is no cluster: TensorFlow would start a server for it.
        environment={
            **({"TF_CONFIG": topology.tf_config(role, index)} if len(topology.tasks()) > 1 else {}),
            **({OWN_NETWORK: str(folders[NETWORK])} if NETWORK in folders else {}),
            **(environment or {}),
        },
        replaceable=strategy.replaceable(role),
        host=host,
        port=topology.port(role, index),
    )


def monitor_task(run: Run, index: int = 0, environment: Mapping[str, str] | None = None) -> Task:
    """The process that samples a host's tasks."""
    return Task(
        role="monitor",
        index=index,
        target="facesim.metrics.monitor:main",
        arguments=(str(run.directory),),
        log=str(run.log_file(f"monitor-{index}")),
        environment=dict(environment or {}),
    )

"""`local`: this machine as the cluster, each task a process of its own, found by the others through TF_CONFIG."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from cluster import clock
from cluster.forked import ForkServers
from cluster.hosted.cgroup import available_cpus
from cluster.limits import too_tight
from cluster.plan import Plan
from cluster.processes import LocalNode
from cluster.surroundings import cluster_environment
from cluster.topology import local_topology
from facesim.backends import kernels
from facesim.backends.base import Backend
from facesim.backends.tasks import environment_of, monitor_task, training_task
from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import FaultDone
from facesim.spec.faults import Fault
from facesim.spec.frameworks import FRAMEWORKS
from facesim.spec.job import Job
from facesim.util.errors import InputError

#: Ctrl-C must have drained within 10 s, the end of the processes included.
_GRACE_S = 8.0


class LocalBackend(Backend):
    """Runs a job under one `cluster.node` on this machine."""

    def __init__(self) -> None:
        self._fork_servers = ForkServers()

    def render(self, job: Job, directory: Path, inputs: Inputs) -> Plan:
        """The process table: each task with its TF_CONFIG, and the monitor beside them."""
        run = Run(directory.resolve())
        strategy = job.strategy
        topology = local_topology(strategy.tasks(job.shape))
        cores, checkpoints = max(1, round(available_cpus())), run.checkpoint_directory(job)
        tasks = [
            training_task(
                run,
                job,
                inputs.folders,
                checkpoints,
                topology,
                role,
                index,
                host=strategy.host_of(role, index, job.hosts),
                cores=cores,
                neighbours=job.shape.workers if strategy.distributed else 1,
            )
            for role, index in topology.tasks()
        ]
        return Plan(
            tasks=tuple(tasks),
            leader="chief-0",
            monitor=monitor_task(run),
            preload=FRAMEWORKS[job.framework].preload,
            environment=kernels.environment(self.kernels(job)),
            grace_s=_GRACE_S,
            max_restarts=job.recovery.max_restarts,
            hang_s=job.recovery.hang_s,
            faults=tuple(replace(fault.script(run.directory), number=n) for n, fault in _due_faults(job, run)),
        )

    def kernels(self, job: Job) -> str | None:
        """Those that are asked for or were measured to be the faster; TensorFlow's own choice until that is known."""
        if (asked := kernels.asked(job)) != kernels.AUTO:
            return asked
        choice = kernels.chosen()
        return choice.kernels if choice else "default"

    def choose_kernels(self, jobs: Sequence[Job], tell: Callable[[str], None]) -> bool:
        if all(kernels.asked(job) != kernels.AUTO for job in jobs) or kernels.chosen():
            return False
        tell("measuring which kernels are faster on this machine, once, for some ten seconds; --kernels names them")
        tell(f"kernels {kernels.choose()}")
        return True

    def check(self, job: Job) -> None:
        """Look whether this process's limits let the job's tasks run, with their node and monitor."""
        if why := too_tight(len(job.tasks) + 2):
            raise InputError(f"{job.strategy.name} cannot run on this machine: {why}")

    def loaded(self, job: Job, request: Plan) -> AbstractContextManager[None]:
        return self._fork_servers.loaded({**_environment(job), **request.environment}, request.preload)

    def submit(self, run: Run, request: Plan) -> LocalNode:
        run.plan_file.write_text(request.to_json(), encoding="utf-8")
        node = LocalNode(
            run.plan_file,
            run.log_file("node"),
            _environment(run.job()),
            hold=[run.claim.descriptor],
            fork_servers=self._fork_servers,
        )
        run.claim.add(node.pid)
        return node


def _due_faults(job: Job, run: Run) -> Iterator[tuple[int, Fault]]:
    """The job's faults by their numbers, without those that come once and came before the run was continued."""
    done = set[int | None]()
    if os.path.exists(run.job_file) and run.job().faults == job.faults:  # else they were given anew
        done = {event.number for event in run.events() if isinstance(event, FaultDone)}
    for number, fault in enumerate(job.faults):
        if not (fault.once and number in done):
            yield number, fault


def _environment(job: Job) -> dict[str, str]:
    shared_gpus = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}  # by several tasks of this machine
    return cluster_environment(os.environ, {**environment_of(job), **shared_gpus, **clock.environment()})


BACKEND = LocalBackend()

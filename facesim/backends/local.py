"""`local`: this machine as the cluster, each task a process of its own, found by the others through TF_CONFIG."""

from __future__ import annotations

import os
from pathlib import Path

from cluster.plan import Plan, Task
from cluster.processes import LocalNode
from cluster.topology import local_topology
from facesim.job import Job
from facesim.run import Run
from facesim.training import STRATEGIES, host_of, served

#: Ctrl-C must have drained within 10 s, the end of the processes included.
_GRACE_S = 8.0

#: glibc gives every buffer as large as this network's parameters back to the system as soon as it is free, and each
#: new one costs a page fault for every 4 kB. Kept, they made ps-async 6 % and single 4 % faster.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**32)}


class LocalBackend:
    """Runs a job under one `cluster.node` on this machine."""

    measurement = "emulated"

    def render(self, job: Job, directory: Path, data: Path) -> Plan:
        """The process table: each task with its TF_CONFIG, and the monitor beside them."""
        run = Run(directory.resolve())
        strategy = STRATEGIES[job.strategy]
        topology = local_topology(strategy.tasks(job.shape.workers, job.shape.ps))
        # Workers compute at the same time, so each gets its share of the cores: more threads would only take turns. A
        # chief that coordinates evaluates while they wait.
        cores = os.cpu_count() or 1
        share = max(1, cores // job.hosts)

        checkpoints = run.checkpoint_directory(job)

        def task(role: str, index: int) -> Task:
            serves = strategy.tasks is served and role != "chief"
            threads = job.shape.threads or (cores if strategy.tasks is served and role == "chief" else share)
            arguments = [str(run.directory), threads, *([] if serves else [str(data.resolve()), str(checkpoints)])]
            return Task(
                role=role,
                index=index,
                target="facesim.training.task:" + ("serve" if serves else "train"),
                arguments=tuple(arguments),
                log=str(run.log_file(f"{role}-{index}")),
                serves=serves,
                # One process alone is no cluster: TensorFlow would start a server for it.
                environment={"TF_CONFIG": topology.tf_config(role, index)} if len(topology.tasks()) > 1 else {},
                replaceable=strategy.replaceable(role),
                host=host_of(strategy, role, index, job.hosts),
                port=topology.port(role, index),
            )

        return Plan(
            tasks=tuple(task(role, index) for role, index in topology.tasks()),
            leader="chief-0",
            monitor=Task(
                role="monitor",
                index=0,
                target="facesim.metrics.monitor:main",
                arguments=(str(run.directory),),
                log=str(run.log_file("monitor-0")),
            ),
            preload=("facesim.training.task",),
            grace_s=_GRACE_S,
            max_restarts=job.recovery.max_restarts,
            faults=tuple(fault.script(run.directory) for fault in job.faults),
        )

    def submit(self, run: Run, request: Plan) -> LocalNode:
        run.plan_file.write_text(request.to_json())
        environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"} | {
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "1",  # warnings and errors
            **_KEEP_MEMORY,
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # several tasks share this machine's GPUs
            "no_grpc_proxy": "*",  # the cluster is on loopback, whatever proxy the user needs elsewhere
        }
        return LocalNode(run.plan_file, run.log_file("node"), environment)


BACKEND = LocalBackend()

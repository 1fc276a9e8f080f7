"""A host of a SageMaker job, or of one that the docker backend runs: from its contract to what it has to do.

Each host leaves a run directory of its own, /opt/ml/output/data/HOST; `facesim.backends.collect_results` makes one of
them.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.faults import Fault as Script
from cluster.hosted.cgroup import available_cpus
from cluster.hosted.contract import Contract, HostWork
from cluster.hosted.host_watch import PORT, WATCHER
from cluster.hosted.log_relay import Kept
from cluster.plan import Plan, Task
from cluster.supervisor import STOPPED
from cluster.topology import hosted_topology
from facesim.backends.emulation import takes_all_hosts
from facesim.backends.tasks import monitor_task, training_task
from facesim.backends.training_job import PS_GROUP, is_tuned, job_of
from facesim.data.prepared import FACTS_FILE
from facesim.metrics.host_identity import HOST, HOST_INDEX
from facesim.preflight.inputs import DATA, Inputs, data_notices, prepare_data
from facesim.runs.directory import Run
from facesim.spec.faults import Fault
from facesim.spec.frameworks import FRAMEWORKS
from facesim.spec.job import Job
from facesim.util.disk import release
from facesim.util.files import append, write_json
from facesim.util.words import count_text

#: SageMaker gives 120 s between SIGTERM and SIGKILL. The chief's host saves within the first of these; the others wait
#: for it, and both leave time for what comes after.
_GRACE_S, _OTHERS_GRACE_S = 90.0, 105.0

#: Where a host keeps data that it has prepared: on its volume, and not with its results.
_PREPARED = "/tmp/facesim"
#: How often a host says how far it is in preparing data.
_PROGRESS_EVERY_S = 15.0

#: The folder beside the checkpoints that holds each host's samples, and the faults that came there.
KEPT = "recorded"

#: The file beside them that says that the first host of a job has ended, which a host that starts later can find.
_ENDED = "first_host_ended.json"

#: How long the first host may take until it listens, and any until its name is known. All hosts start together; where
#: the first has ended in an earlier start of the job, it is likely that it does not come again.
_FIRST_HOST_S, _NAMES_S, _ENDED_BEFORE_S = 600.0, 300.0, 120.0


def plan(contract: Contract) -> HostWork:
    """What this host has to do: its tasks of the job's topology.

    Raises:
        ValueError: the job needs fewer hosts than it was given.
    """
    job = job_of(contract.hyperparameters)
    strategy = job.strategy
    topology = hosted_topology(strategy.tasks(job.shape), contract.hosts, contract.groups.get(PS_GROUP, ()))
    host = contract.current_host
    mine = topology.tasks_on(host)
    if not mine:
        raise ValueError(
            f"{host} has nothing to do: {job.strategy.name} has {count_text(len(topology.tasks()), 'task')}"
        )
    run = Run.create(contract.output / host, job)
    run.record("submitted", host=host)
    shutil.copy(contract.root / "input" / "config" / "resourceconfig.json", run.directory)

    checkpoints = contract.checkpoints
    if is_tuned(contract.hyperparameters):  # the address is that of all trials
        checkpoints /= contract.job_name
    folders = _folders(job, contract.channels)
    number = contract.hosts.index(host)
    environment = {HOST: host, HOST_INDEX: str(number), "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    cores = max(1, round(available_cpus()))
    computing = [role for role, _ in mine if not strategy.coordinated or role == "worker"]
    tasks = [
        training_task(
            run,
            job,
            folders,
            checkpoints,
            topology,
            role,
            index,
            host=host,
            cores=cores,
            neighbours=max(1, len(computing)),
            environment=environment,
        )
        for role, index in mine
    ]
    place = _place(contract)
    kept = _kept_samples(run, checkpoints / KEPT, host, place)
    done = _Done(checkpoints / KEPT / place / "faults.txt")
    first_host = topology.addresses["chief"][0].rsplit(":", 1)[0]
    leader = "chief-0"
    ended = checkpoints / KEPT / _ENDED
    over = (
        host != first_host
        and ended.exists()
        and json.loads(ended.read_text(encoding="utf-8"))["job"] == contract.job_name
    )
    if host != first_host:
        tasks.append(_attend(run, first_host, number, over))
        leader = tasks[-1].name
    work = Plan(
        tasks=tuple(tasks),
        leader=leader,
        monitor=monitor_task(run, number, environment),
        preload=FRAMEWORKS[job.framework].preload,
        private_network=False,
        grace_s=_GRACE_S if host == first_host else _OTHERS_GRACE_S,
        max_restarts=job.recovery.max_restarts,
        hang_s=job.recovery.hang_s,
        faults=tuple(_faults(job, run, [task.name for task in tasks], host == first_host, done)),
    )
    run.plan_file.write_text(work.to_json(), encoding="utf-8")

    def record(event: str, **details: Any) -> None:
        run.record(event, **details)
        if event == "fault":
            done.add(job.faults[details["number"]])

    def finish(outcome: str) -> None:
        release(run.directory)
        if host == first_host and outcome != STOPPED:
            write_json(ended, {"job": contract.job_name, "outcome": outcome})
        if run.model_file.exists():
            contract.model.mkdir(parents=True, exist_ok=True)
            shutil.move(run.model_file, contract.model / run.model_file.name)
            shutil.copy(run.job_file, contract.model)

    return HostWork(work, first_host, record, finish, kept, _ENDED_BEFORE_S if over else _NAMES_S, over)


def _folders(job: Job, channels: Mapping[str, Path]) -> dict[str, Path]:
    """What tasks read, by name: the channels, but data that is as a user has it only once it has been prepared."""
    if DATA not in channels:
        raise ValueError(f"there is no channel {DATA!r}, which has to hold images")
    if (channels[DATA] / FACTS_FILE).exists():
        return dict(channels)
    os.environ.setdefault("FACESIM_CACHE", _PREPARED)
    experiment = job.experiment.model_copy(update={"data": str(channels[DATA])})
    reported_s = 0.0

    def progress(phase: str, done: int, due: int) -> None:
        nonlocal reported_s
        if time.monotonic() - reported_s > _PROGRESS_EVERY_S:
            reported_s = time.monotonic()
            print(f"{phase}: {done} of {due}", flush=True)

    data = prepare_data(job.model_copy(update={"experiment": experiment}), progress)
    for note in data_notices([job], [Inputs(data)]):
        print(note, flush=True)
    return {**channels, DATA: data.directory}


def _place(contract: Contract) -> str:
    """What this host is called each time that its run goes on; Kubernetes calls hosts by the name of their job."""
    host = contract.current_host
    places = (f"{group}-{members.index(host)}" for group, members in contract.groups.items() if host in members)
    return next(places, host)


def _kept_samples(run: Run, kept: Path, host: str, place: str) -> Kept:
    """Go on with what was recorded here before an interruption, and let what is recorded outlive the next: copied to
    the checkpoints' folder, which comes back.

    That folder is all hosts' together. What others recorded is let go of, so that it is never put back over newer.
    """
    for folder in kept.glob("*"):
        if folder.is_dir() and folder.name not in (host, place):
            shutil.rmtree(folder)
    for name in (host, place):
        (kept / name).mkdir(parents=True, exist_ok=True)
    samples = Kept(run.metrics, kept / host)
    samples.restore()
    return samples


class _Done:
    """The faults that came on this host, over all attempts: one that comes once is not done again in the next."""

    def __init__(self, file: Path):
        self._file = file
        self._lines = Counter(file.read_text(encoding="utf-8").splitlines()) if file.exists() else Counter[str]()

    def times(self, fault: Fault) -> int:
        return self._lines[fault.model_dump_json()]

    def add(self, fault: Fault) -> None:
        append(self._file, fault.model_dump_json().encode() + b"\n", fresh_line=True)


def _faults(job: Job, run: Run, tasks: list[str], is_first: bool, done: _Done) -> Iterator[Script]:
    """The job's faults for a host with these tasks. What is no task's, all hosts' capacity or the run's disk, is seen
    to by the first host.
    """
    for number, fault in enumerate(job.faults):
        script = replace(fault.script(run.directory), number=number)
        if fault.once and done.times(fault):
            continue
        if takes_all_hosts(fault):
            if is_first:  # in each attempt at other times
                yield replace(script, outside=True, seed=script.seed + done.times(fault))
        elif fault.kind == "fill":
            if is_first:
                yield script
        else:
            yield replace(script, elsewhere=tuple(target for target in script.targets if target not in tasks))


def _attend(run: Run, first_host: str, number: int, over: bool) -> Task:
    return Task(
        role=WATCHER,
        index=number,
        target="cluster.hosted.host_watch:watch_first_host",
        arguments=(first_host, _ENDED_BEFORE_S if over else _FIRST_HOST_S, PORT, over),
        log=str(run.log_file(f"{WATCHER}-{number}")),
    )

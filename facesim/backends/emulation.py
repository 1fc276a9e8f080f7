"""How much of this machine a host of an instance type is given, so that a cluster of them fits on it.

All hosts of a job are scaled by the same factor, processors and network alike, so that what the hosts are to each
other, and how computing compares with communicating, stays as on the instances. Jobs of a study whose clusters are not
of one size are scaled by different factors, and their times do not compare.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from cluster.containers.engine import EngineError, capacity
from cluster.containers.host import HostShape
from cluster.containers.processors import busiest
from facesim.billing.catalogue import instance
from facesim.spec.faults import Fault
from facesim.spec.job import Job

#: The part of this machine's memory, and of its processors, that all hosts together may use. The rest is for the
#: engine, the network between them and who measures them, which would else come out of what hosts are given.
_MEMORY_SHARE, _CPU_SHARE = 0.8, 0.9

#: A factor from which on nothing is scaled: what is less than 1 by rounding counts as 1.
_UNSCALED = 1 - 1e-9


@dataclass(frozen=True)
class Emulation:
    """What hosts are given: `shapes` by instance type, and by which factors that is less than the instances have."""

    shapes: dict[str, HostShape]
    cpu_factor: float
    memory_factor: float

    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {
            "cpu_factor": self.cpu_factor,
            "memory_factor": self.memory_factor,
            "hosts": {name: asdict(shape) for name, shape in self.shapes.items()},
        }


def emulate(
    hosts: Mapping[str, int],
    cpus: float,
    memory_bytes: float,
    *,
    host_cpus: float | None = None,
    host_gbps: float | None = None,
) -> Emulation:
    """Fit so many hosts of each instance type on a machine with `cpus` and `memory_bytes`. Each may be on as many
    processors at once as it has.

    The bandwidth is the one that an instance sustains; where that is not published, its peak. `host_cpus` and
    `host_gbps` are what a host has in place of what its type has.

    Raises:
        InputError: an instance type is not in the catalogue.
    """
    kinds = {name: instance(name) for name in hosts}
    asked = {name: host_cpus or kind.vcpu for name, kind in kinds.items()}
    whole = {name: HostShape(cpus, processors=math.ceil(cpus)) for name, cpus in asked.items()}
    together = [whole[name] for name, count in hosts.items() for _ in range(count)]
    due_cpus = sum(host.cpus for host in together)
    cpu_factor = min(1.0, 1 / busiest(together, max(1, int(cpus))), _CPU_SHARE * cpus / due_cpus)
    due_bytes = sum(kinds[name].memory_gib * 2**30 * count for name, count in hosts.items())
    memory_factor = min(1.0, _MEMORY_SHARE * memory_bytes / due_bytes)
    shapes = {
        name: HostShape(
            cpus=whole[name].cpus * cpu_factor,
            processors=whole[name].processors,
            memory_bytes=int(kind.memory_gib * 2**30 * memory_factor),
            bandwidth_bits_per_s=(host_gbps or kind.network_base_gbps or kind.network_peak_gbps) * 1e9 * cpu_factor,
        )
        for name, kind in kinds.items()
    }
    return Emulation(shapes, cpu_factor, memory_factor)


def emulation_of(job: Job, cpus: float, memory_bytes: float) -> Emulation:
    """What the hosts of a job are given on a machine with `cpus` and `memory_bytes`."""
    asked = {name: getattr(job.backend, name, None) for name in ("host_cpus", "host_gbps")}
    return emulate(hosts_of_study(job), cpus, memory_bytes, **asked)


def shared_capacity() -> tuple[float, int]:
    """The processors, and the bytes of memory, that all containers of this machine share: those of the engine; where
    none answers, which runs are told before they start, the machine's own.
    """
    try:
        return capacity()
    except EngineError:
        return float(os.cpu_count() or 1), psutil.virtual_memory().total


def unequal_hosts(jobs: Sequence[Job], cpus: float) -> str | None:
    """That a machine with `cpus` scales the hosts of these jobs by different factors, so that their times do not
    compare, in words with what to do; None where it does not.
    """
    by_factor = {round(emulation_of(job, cpus, math.inf).cpu_factor, 6): job for job in jobs}
    if len(by_factor) < 2:
        return None
    most, least = (f"{factor:.3g} (for {_in_words(by_factor[factor])})" for factor in (max(by_factor), min(by_factor)))
    smallest = by_factor[min(by_factor)]
    asked_cpus, asked_gbps = (getattr(smallest.backend, name, None) for name in ("host_cpus", "host_gbps"))
    kind = instance(smallest.shape.instance_type)
    host_cpus = min(_unscaled_cpus(job, cpus) for job in jobs)
    gbps_of_a_cpu = (asked_gbps or kind.network_base_gbps or kind.network_peak_gbps) / (asked_cpus or kind.vcpu)
    return (
        f"a host is given {most} to {least} of the processors and the network that it is to have, for no more fits on "
        f"this machine: the times of such jobs do not compare; --host-cpus {host_cpus:g} --host-gbps "
        f"{gbps_of_a_cpu * host_cpus:.3g} makes all hosts alike"
    )


def _unscaled_cpus(job: Job, cpus: float) -> float:
    """How many processors each host of a job can have on a machine with `cpus` without being scaled, rounded down."""
    hosts = hosts_of_study(job)
    host_cpus = getattr(job.backend, "host_cpus", None) or float(max(instance(name).vcpu for name in hosts))
    while (factor := emulate(hosts, cpus, math.inf, host_cpus=host_cpus).cpu_factor) < _UNSCALED:
        host_cpus *= factor
    return math.floor(1000 * host_cpus / _UNSCALED) / 1000


def _in_words(job: Job) -> str:
    """The hosts for which the hosts of a job are sized: `2 ml.m5.2xlarge`."""
    return " and ".join(f"{count} {name}" for name, count in hosts_of_study(job).items())


def hosts_of_study(job: Job) -> dict[str, int]:
    """The hosts of the largest job of a study with this shape, whose hosts all its jobs are given: a single process
    then has what each worker of the cluster has.
    """
    hosts = {job.shape.instance_type: math.ceil(job.shape.workers / job.shape.workers_per_host)}
    servers = job.shape.ps_instance_type
    if servers:
        hosts[servers] = hosts.get(servers, 0) + job.shape.ps
    return hosts


def hosts_of_request(request: Mapping[str, Any]) -> dict[str, int]:
    """The hosts of a CreateTrainingJob request."""
    resources = request["ResourceConfig"]
    hosts: dict[str, int] = {}
    for group in resources.get("InstanceGroups") or [resources]:
        hosts[group["InstanceType"]] = hosts.get(group["InstanceType"], 0) + group["InstanceCount"]
    return hosts


def takes_all_hosts(fault: Fault) -> bool:
    """Whether a fault is played by taking the capacity of the whole job away, as when AWS takes back one instance of
    it.
    """
    return fault.kind == "interrupt"

"""What this process may use: of its container, where the kernel still shows it the whole machine, and of its shell."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> float:
    """CPUs that this process may use at the same time: those it may run on, or fewer if its container has a quota."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _quota(cgroup)
    return allowed if quota is None else min(allowed, quota)


def limited_to_a_share(cgroup: Path = _CGROUP) -> bool:
    """Whether this process has a quota of the machine's CPUs."""
    return _quota(cgroup) is not None


#: Address space that TensorFlow takes to be loaded and to train the smallest of networks.
_LEAST_ADDRESS_BYTES = 2 * 10**9
#: Threads of a task's process at the least: TensorFlow's pools, its server's, what watches it.
_LEAST_THREADS = 30


def too_tight(processes: int) -> str | None:
    """Why `processes` with TensorFlow cannot run under the limits (`ulimit`) that this process has; None if nothing is
    known against it.
    """
    address_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_bytes != resource.RLIM_INFINITY and address_bytes < _LEAST_ADDRESS_BYTES:
        return (
            f"each process may have {address_bytes / 1e9:.1f} GB of addresses here (ulimit -v) and TensorFlow takes "
            f"{_LEAST_ADDRESS_BYTES / 1e9:.0f} GB at the least: raise that limit (ulimit -v unlimited)"
        )
    most, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.geteuid() == 0 or most == resource.RLIM_INFINITY:  # root has no such limit
        return None
    free = most - _threads_of(os.geteuid())
    if free < processes * _LEAST_THREADS:
        return (
            f"this user may start {max(0, free)} more processes and threads (ulimit -u {most}) and {processes} "
            f"processes with TensorFlow take {processes * _LEAST_THREADS} at the least: raise that limit, end other "
            "programs, or use fewer --workers"
        )
    return None


def _threads_of(user: int) -> int:
    found = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == user:
                found += process.num_threads()
    return found


def _quota(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)

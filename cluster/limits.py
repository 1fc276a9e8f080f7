"""What the shell that this process was started from allows it (`ulimit`)."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

import psutil

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
    count = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == user:
                count += process.num_threads()
    return count

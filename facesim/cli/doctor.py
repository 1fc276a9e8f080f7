"""Whether this machine can run facesim: each check finds out by doing, and says what to do where it fails."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from cluster.hosted.cgroup import available_cpus, free_memory_bytes
from cluster.surroundings import python, without_settings
from facesim.backends.base import Finding as Check
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.spec.job import Job


def examine(job: Job) -> list[Check]:
    """Every check of this machine, in order, and those of the backend that is to run `job`."""
    looks = (_python, _machine, _tensorflow, _kernels, _network, _containers, _disk)
    return [*(check for look in looks for check in look()), *_framework(job), *job.backend.open().examine(job)]


def _python() -> Iterator[Check]:
    seen = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Check("Python", "ok" if supported else "fail", seen + ("" if supported else "; facesim needs 3.10 to 3.13"))


def _machine() -> Iterator[Check]:
    """What this process may use of the machine, which may be a part of it: a container, `taskset`."""
    cores, free_bytes = available_cpus(), free_memory_bytes()
    yield Check(
        "cores",
        "ok" if cores > 1 else "note",
        f"{cores:g}"
        + ("" if cores > 1 else "; with no more than one, a local cluster shares it and can only be slower"),
    )
    memory_bytes = psutil.virtual_memory().available
    if free_bytes is not None:
        memory_bytes = min(memory_bytes, free_bytes)
    enough = memory_bytes > 4e9
    yield Check(
        "memory",
        "ok" if enough else "note",
        f"{memory_bytes / 1e9:.1f} GB available"
        + ("" if enough else "; the default cluster needs about 2 GB, larger models more"),
    )


def _tensorflow() -> Iterator[Check]:
    # In a process of its own: a broken installation may crash, and what is imported stays.
    begin = time.perf_counter()
    look = subprocess.run(
        python("facesim.models.framework"), capture_output=True, text=True, env=without_settings(os.environ)
    )
    if look.returncode != 0:
        last = (look.stderr.strip().splitlines() or ["no output"])[-1]
        yield Check(
            "TensorFlow", "fail", f"cannot be imported ({last}); install facesim again in a new virtual environment"
        )
        return
    tensorflow, keras = look.stdout.split()
    yield Check("TensorFlow", "ok", f"{tensorflow} with Keras {keras}, imported in {time.perf_counter() - begin:.1f} s")


def _framework(job: Job) -> Iterator[Check]:
    """Whether what is to train here, where that is not TensorFlow, is installed."""
    if job.framework == TENSORFLOW or job.backend.frameworks is not None:  # then an image has it
        return
    try:
        FRAMEWORKS[job.framework].check()
        yield Check(job.framework, "ok", "installed")
    except InputError as error:
        yield Check(job.framework, "fail", str(error))


def _kernels() -> Iterator[Check]:
    from facesim.backends.kernels import choose

    choice = choose()
    origin = "chosen by measurement" if choice.step_s else "not measured: the processes that measure failed"
    yield Check("kernels", "ok" if choice.step_s else "note", f"{choice}; {origin}")


def _network() -> Iterator[Check]:
    from cluster.topology import free_ports

    try:
        free_ports(8)
        yield Check("ports", "ok", "free ones to listen on")
    except OSError as error:
        yield Check("ports", "fail", str(error))
    look = subprocess.run(python("cluster.isolation"), capture_output=True, text=True, env=without_settings(os.environ))
    private = look.stdout.strip() == "True"
    yield Check(
        "private network",
        "ok" if private else "note",
        "a local cluster is invisible to other machines"
        if private
        else "not available here: TensorFlow's ports, unauthenticated, listen on every address; use a trusted network",
    )


def _containers() -> Iterator[Check]:
    from cluster.containers.engine import EngineError, connect

    try:
        with contextlib.closing(connect()) as client:
            yield Check("containers", "ok", f"engine {client.version()['Version']}, for --backend docker")
    except EngineError as error:
        yield Check("containers", "note", f"{error}; only --backend docker and the emulator need one")


def _disk() -> Iterator[Check]:
    free = psutil.disk_usage(str(Path.cwd())).free
    yield Check("disk", "ok" if free > 1e9 else "note", f"{free / 1e9:.1f} GB free here; a run leaves some 20 to 60 MB")

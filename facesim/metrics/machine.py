"""What the machine is that a run was made on, and which versions ran."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import psutil

from facesim import __version__
from facesim.spec.frameworks import FRAMEWORKS
from facesim.spec.job import Job


def machine(packages: Iterable[str] = ()) -> dict[str, Any]:
    """What this machine is and which versions ran, also of `packages`, for those who compare results later. No host or
    user name.
    """
    return {
        "cpu_count": os.cpu_count(),
        "cpu_model": cpu_model(),
        "memory_bytes": psutil.virtual_memory().total,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in ("tensorflow", "keras", *packages)},
        "facesim": __version__,
    }


def packages_here(job: Job) -> tuple[str, ...]:
    """Those of this machine that the job computes with: none where hosts have their own, other versions perhaps."""
    return FRAMEWORKS[job.framework].packages if job.backend.frameworks is None else ()


def cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()

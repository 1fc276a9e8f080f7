"""What this process' container lets it use: the kernel still shows it the whole machine."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = _CGROUP) -> float:
    """CPUs that this process may use at the same time: those it may run on, or fewer if its container has a quota."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _quota(cgroup)
    return allowed if quota is None else min(allowed, quota)


def limited_to_a_share(cgroup: Path = _CGROUP) -> bool:
    """Whether this process has a quota of the machine's CPUs."""
    return _quota(cgroup) is not None


def used_cpu_s(cgroup: Path = _CGROUP) -> float | None:
    """CPU seconds of all processes of this container since it was started; None where they are not counted."""
    try:
        usage = dict(line.split() for line in (cgroup / "cpu.stat").read_text(encoding="utf-8").splitlines())
        return int(usage["usage_usec"]) / 1e6  # version 2
    except (OSError, ValueError, KeyError):
        try:
            return int((cgroup / "cpuacct" / "cpuacct.usage").read_text(encoding="utf-8")) / 1e9
        except (OSError, ValueError):
            return None


def free_memory_bytes(cgroup: Path = _CGROUP) -> int | None:
    """What this container may still take of its memory; None where it has no limit. Files that it has read are let go
    of when there is need, so what they take counts as free.
    """
    version_1 = cgroup / "memory"
    for limit, used, files in (
        (cgroup / "memory.max", cgroup / "memory.current", "inactive_file"),
        (version_1 / "memory.limit_in_bytes", version_1 / "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit_bytes, used_bytes = (int(file.read_text(encoding="utf-8")) for file in (limit, used))
            statistics = (limit.parent / "memory.stat").read_text(encoding="utf-8")
            held = dict(line.split() for line in statistics.splitlines())
            return max(0, limit_bytes - used_bytes + int(held.get(files, 0)))
        except (OSError, ValueError):  # the other version, or no limit: "max"
            continue
    return None


def _quota(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text(encoding="utf-8").split()  # version 2
    except (OSError, ValueError):
        try:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="utf-8").strip()
                for name in ("quota", "period")
            )
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)

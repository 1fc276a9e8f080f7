"""CPU, memory, disk, network and threads of the host and of each task, through psutil."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from statistics import fmean

import psutil

from cluster.hosted.cgroup import available_cpus, limited_to_a_share, used_cpu_s
from facesim.metrics.collectors import Reading, role_and_index
from facesim.metrics.host_identity import has_own_network, host_index


class PsutilCollector:
    """psutil's figures in the schema's terms: its per-process percent, 100 a core, becomes 0-100 % of the host."""

    source = "psutil"

    def __init__(self, pids: dict[str, int]):
        processes = {name: _begun(pid) for name, pid in pids.items()}
        self._tasks = {name: process for name, process in processes.items() if process}
        self._cpus = available_cpus()
        self._machine = psutil.cpu_times()
        self._container = time.monotonic(), used_cpu_s()
        _cpu_percent()

    def collect(self) -> Iterator[Reading]:
        yield "host", host_index(), self._host()
        for name, process in self._tasks.items():
            try:
                values = self._task(process)
            except psutil.Error:
                continue  # it has ended, or is about to, which is the supervisor's to tell
            yield *role_and_index(name), values

    def _host(self) -> dict[str, float]:
        sent, received = _network_bytes()
        values: dict[str, float] = {
            "cpu_count": self._cpus,
            "net_sent_bytes": sent,
            "net_received_bytes": received,
            **self._load(),
        }
        if limited_to_a_share():
            # The rest is the whole machine's, of which this host is a part; its engine measures it, where one does.
            return values | self._of_container()
        memory, disk = psutil.virtual_memory(), psutil.disk_io_counters()
        values |= {
            "cpu_percent": _cpu_percent(),
            "memory_bytes": memory.total - memory.available,
            "memory_percent": memory.percent,
        }
        if disk:
            values |= {"disk_read_bytes": disk.read_bytes, "disk_written_bytes": disk.write_bytes}
        return values

    def _of_container(self) -> dict[str, float]:
        """What this container did since the last time, in percent of what it may use."""
        (then_s, before_s), self._container = self._container, (time.monotonic(), used_cpu_s())
        now_s, used_s = self._container
        if used_s is None or before_s is None or now_s <= then_s:
            return {}
        return {"cpu_percent": min(100.0, max(0.0, 100 * (used_s - before_s) / ((now_s - then_s) * self._cpus)))}

    def _load(self) -> dict[str, float]:
        """What the whole machine did since the last time, also where this host is a part of it.

        Interrupts are nobody's program: over loopback, the tasks' own bytes cause them.
        """
        before, self._machine = self._machine, psutil.cpu_times()
        spent = {name: now - then for name, now, then in zip(before._fields, self._machine, before, strict=True)}
        # The kernel counts guests' time in user and nice as well.
        all_s = sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0)
        if all_s <= 0:
            return {}
        shares = {"machine_busy_percent": spent["user"] + spent.get("nice", 0.0) + spent["system"]}
        if "steal" in spent:
            shares["steal_percent"] = spent["steal"]
        percent = {name: min(100.0, max(0.0, 100 * spent_s / all_s)) for name, spent_s in shares.items()}
        return {"machine_cpu_count": psutil.cpu_count() or 1, **percent}

    def _task(self, process: psutil.Process) -> dict[str, float]:
        with process.oneshot():
            cpu = process.cpu_times()
            values = {
                # CPU time is counted in ticks of 10 ms: over a short interval one tick can be more than all of it.
                "cpu_percent": min(100.0, process.cpu_percent() / self._cpus),
                "cpu_s": cpu.user + cpu.system,
                # Resident, though tasks share pages: telling each one's part means walking its page table, 20 ms a
                # task.
                "memory_bytes": process.memory_info().rss,
                "threads": process.num_threads(),
            }
            if hasattr(process, "io_counters"):
                io = process.io_counters()
                values |= {"disk_read_bytes": io.read_bytes, "disk_written_bytes": io.write_bytes}
        return values


def _begun(pid: int) -> psutil.Process | None:
    """A process, from now on measured; None if it has ended, as one of which the supervisor does not know yet."""
    try:
        process = psutil.Process(pid)
        process.cpu_percent()  # the first call only sets the beginning of the interval
    except psutil.Error:
        return None
    return process


def _cpu_percent() -> float:
    """Percent of what this process may use of the machine (taskset, Slurm, a cpuset) that all programs used of it since
    the last call; the first only sets the beginning of the interval.
    """
    each = psutil.cpu_percent(percpu=True)
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(each))
    # A container may be shown its own processors alone, by other numbers.
    return fmean([percent for number, percent in enumerate(each) if number in ours] or each)


def _network_bytes() -> tuple[int, int]:
    """Bytes sent and received: where tasks reach other hosts, over the interfaces that lead there."""
    interfaces = psutil.net_io_counters(pernic=True)
    if has_own_network():
        interfaces.pop("lo", None)
    return sum(interface.bytes_sent for interface in interfaces.values()), sum(
        interface.bytes_recv for interface in interfaces.values()
    )

"""CPU, memory, disk, network and threads of the host and of each task, through psutil."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from facesim.metrics.collectors import Reading, role_and_index


class PsutilCollector:
    """psutil's figures in the schema's terms: its per-process percent, 100 a core, becomes 0-100 % of the host."""

    source = "psutil"

    def __init__(self, pids: dict[str, int]):
        self._tasks = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._cpus = (
            len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count()
        )
        psutil.cpu_percent()  # the first call only sets the beginning of the interval
        for process in self._tasks.values():
            process.cpu_percent()

    def collect(self) -> Iterator[Reading]:
        yield "host", 0, self._host()
        for name, process in self._tasks.items():
            try:
                values = self._task(process)
            except (psutil.NoSuchProcess, psutil.ZombieProcess):
                continue  # it has ended, which is the supervisor's to tell
            yield *role_and_index(name), values

    def _host(self) -> dict[str, float]:
        memory, network, disk = psutil.virtual_memory(), psutil.net_io_counters(), psutil.disk_io_counters()
        values = {
            "cpu_percent": psutil.cpu_percent(),
            "cpu_count": self._cpus,
            "memory_bytes": memory.total - memory.available,
            "memory_percent": memory.percent,
        }
        if network:
            values |= {"net_sent_bytes": network.bytes_sent, "net_received_bytes": network.bytes_recv}
        if disk:
            values |= {"disk_read_bytes": disk.read_bytes, "disk_written_bytes": disk.write_bytes}
        return values

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

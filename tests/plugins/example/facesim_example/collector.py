"""A collector: how busy the machine is, by what the system says itself."""

import os
from collections.abc import Iterator

from facesim.metrics.collectors import Measuring, Reading


class LoadAverage:
    """Processes that ran or waited, mean over a minute, of the CPUs that there are."""

    source = "loadavg"

    def __init__(self, pids: dict[str, int]):
        self._cpus = os.cpu_count() or 1

    def collect(self) -> Iterator[Reading]:
        busy = min(1.0, os.getloadavg()[0] / self._cpus)
        yield "host", 0, {"machine_busy_percent": 100 * busy, "machine_cpu_count": self._cpus}


LOADAVG = Measuring("the system's load average", rank=100, make=LoadAverage, platforms=("linux", "darwin"))

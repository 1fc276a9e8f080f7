"""Use, memory and power of NVIDIA's GPUs, of each and of each task, by nvidia-ml-py (`pip install 'facesim[gpu]'`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from facesim.metrics.collectors import NotHere, Reading, role_and_index
from facesim.metrics.host_identity import host_index

#: Of a process whose memory the driver does not tell: NVML_VALUE_NOT_AVAILABLE.
_UNKNOWN = 2**64 - 1


class NvmlCollector:
    """What NVIDIA's management library says: of the host, of each GPU (role `gpu`), of each task that computes on one.

    Raises:
        NotHere: there is no nvidia-ml-py, no driver, or no GPU.
    """

    source = "nvml"

    def __init__(self, pids: dict[str, int]):
        try:
            import pynvml
        except ImportError:
            raise NotHere("nvidia-ml-py is not installed") from None
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            raise NotHere(f"no GPU is seen: {error}") from None
        if not self._gpus:
            raise NotHere("there is no GPU")
        self._tasks = {pid: name for name, pid in pids.items()}

    def collect(self) -> Iterator[Reading]:
        each = [self._gpu(gpu) for gpu in self._gpus]
        mean = {name: sum(one[name] for one in each) / len(each) for name in ("gpu_percent", "gpu_memory_percent")}
        yield "host", host_index(), mean
        for index, values in enumerate(each):
            yield "gpu", index, values
        for task, used in self._memory_by_task().items():
            yield *role_and_index(task), {"gpu_memory_bytes": used}

    def _gpu(self, gpu: Any) -> dict[str, float]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu)
        values = {
            "gpu_percent": float(self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
            "gpu_memory_percent": 100 * memory.used / memory.total,
            "gpu_memory_bytes": float(memory.used),
        }
        try:
            values["gpu_power_w"] = self._nvml.nvmlDeviceGetPowerUsage(gpu) / 1000
        except self._nvml.NVMLError:
            pass  # not every GPU measures it
        return values

    def _memory_by_task(self) -> dict[str, float]:
        """Bytes of GPU memory by task, over all GPUs; in a container the driver may not tell whose they are."""
        used: dict[str, float] = {}
        for gpu in self._gpus:
            for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu):
                if process.pid in self._tasks and process.usedGpuMemory not in (None, _UNKNOWN):
                    name = self._tasks[process.pid]
                    used[name] = used.get(name, 0.0) + process.usedGpuMemory
        return used

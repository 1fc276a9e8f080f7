"""Use, memory and power of NVIDIA's GPUs, of each and of each task, by nvidia-ml-py (the extra `gpu`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from facesim.metrics.collectors import NotHere, Reading, role_and_index
from facesim.metrics.host_identity import host_index

#: Of a process whose memory the driver does not tell: NVML_VALUE_NOT_AVAILABLE.
_UNKNOWN = 2**64 - 1


class Gpus:
    """This machine's GPUs, by NVIDIA's management library.

    Raises:
        NotHere: there is no nvidia-ml-py, no driver, or no GPU.
    """

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError:
            raise NotHere("nvidia-ml-py is not installed") from None
        self.nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self.all = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except pynvml.NVMLError as error:
            raise NotHere(f"no GPU is seen: {error}") from None
        if not self.all:
            raise NotHere("there is no GPU")
        self._asked_us = time.time_ns() // 1000

    def memory_by_process(self) -> dict[int, float]:
        """Bytes of GPU memory by pid, over all GPUs; in a container the driver may not tell whose they are. 0 where it
        does not tell how many.
        """
        used: dict[int, float] = {}
        for gpu in self.all:
            with suppress(self.nvml.NVMLError):  # not every GPU says who uses it
                for process in self.nvml.nvmlDeviceGetComputeRunningProcesses(gpu):
                    known = process.usedGpuMemory not in (None, _UNKNOWN)
                    used[process.pid] = used.get(process.pid, 0.0) + (process.usedGpuMemory if known else 0)
        return used

    def percent_by_process(self) -> dict[int, float]:
        """Percent of the time since this was asked last in which a process' kernels ran, by pid, added over all GPUs.
        Empty where the driver does not tell.
        """
        since_us, self._asked_us = self._asked_us, time.time_ns() // 1000
        percent: dict[int, float] = {}
        for gpu in self.all:
            try:
                samples = self.nvml.nvmlDeviceGetProcessUtilization(gpu, since_us)
            except self.nvml.NVMLError:  # not every GPU can, and none has samples when nothing ran
                continue
            newest = {sample.pid: sample.smUtil for sample in sorted(samples, key=lambda sample: sample.timeStamp)}
            for pid, share in newest.items():
                percent[pid] = percent.get(pid, 0.0) + share
        return percent


class NvmlCollector:
    """What NVIDIA's management library says: of the host, of each GPU (role `gpu`), of each task that computes on one.

    Raises:
        NotHere: there is no nvidia-ml-py, no driver, or no GPU.
    """

    source = "nvml"

    def __init__(self, pids: dict[str, int]):
        self._gpus = Gpus()
        self._nvml = self._gpus.nvml
        self._tasks = {pid: name for name, pid in pids.items()}

    def collect(self) -> Iterator[Reading]:
        each = [self._gpu(gpu) for gpu in self._gpus.all]
        mean = {}
        for name in ("gpu_percent", "gpu_memory_percent"):
            if values := [one[name] for one in each if name in one]:
                mean[name] = sum(values) / len(values)
        if mean:
            yield "host", host_index(), mean
        for index, values in enumerate(each):
            yield "gpu", index, values
        for task, used in self._memory_by_task().items():
            yield *role_and_index(task), {"gpu_memory_bytes": used}

    def _gpu(self, gpu: Any) -> dict[str, float]:
        """What it measures: not every GPU measures all. One in parts (MIG) has no utilisation, one that shares the
        machine's memory has none of its own.
        """
        values: dict[str, float] = {}
        with suppress(self._nvml.NVMLError):
            values["gpu_percent"] = float(self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
        with suppress(self._nvml.NVMLError):
            memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu)
            values["gpu_memory_percent"] = 100 * memory.used / memory.total
            values["gpu_memory_bytes"] = float(memory.used)
        with suppress(self._nvml.NVMLError):
            values["gpu_power_w"] = self._nvml.nvmlDeviceGetPowerUsage(gpu) / 1000
        return values

    def _memory_by_task(self) -> dict[str, float]:
        """Bytes of GPU memory by task, where they are known."""
        used = self._gpus.memory_by_process()
        return {self._tasks[pid]: count for pid, count in used.items() if pid in self._tasks and count}

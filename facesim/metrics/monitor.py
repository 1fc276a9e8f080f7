"""The process beside a host's tasks that samples them all: `main` is started by `cluster` with every task's pid."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from pathlib import Path

from cluster import clock
from cluster.hosted.host_watch import WATCHER
from facesim.metrics.collectors import Collector, make_collectors
from facesim.metrics.event_files import FOLDER, EventFiles
from facesim.metrics.files import SampleWriter
from facesim.metrics.host_identity import host_index, host_name
from facesim.runs.directory import Run
from facesim.util.errors import InputError


def main(run_directory: str, pids: dict[str, int]) -> None:
    """Sample until SIGTERM, then once more. `pids` maps a task's name, such as `worker-1`, to its process."""
    run = Run(Path(run_directory))
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    tasks = {task: pid for task, pid in pids.items() if not task.startswith(WATCHER)}
    watched = tasks | {f"monitor-{host_index()}": os.getpid()}  # what watching costs belongs in the record, too
    recorders = [Recorder(run, collector, collector.source) for collector in make_collectors(watched)]
    shown = _event_files(run)
    sampling_s = run.job().sampling_s
    while True:
        last = ended.wait(sampling_s)
        for recorder in recorders:
            recorder.record()
        if shown:
            try:
                shown.update()
            except (OSError, InputError):
                traceback.print_exc()
                shown = None  # a torn file is read up to there; what it lacks is in the samples
        if last:
            return


def _event_files(run: Run) -> EventFiles | None:
    """What TensorBoard reads of this host, where it is to be written."""
    if FOLDER not in os.environ:
        return None
    return EventFiles(run.metrics, Path(os.environ[FOLDER]), host_name())


def record_connections(run: Run, task: str) -> None:
    """Record this process's connections now, as `task`: once it has ended nobody can ask for their bytes any more."""
    for collector in make_collectors({task: os.getpid()}, ["sockets"]):
        Recorder(run, collector, f"{collector.source}-{task}").record()


class Recorder:
    """Writes what one collector reads. One that fails is counted, its error printed, and asked again next time."""

    def __init__(self, run: Run, collector: Collector, file_name: str):
        self._collector = collector
        self._errors = 0
        self._writer = SampleWriter(
            run.metrics / f"{file_name}.jsonl", run_id=run.id, host=host_name(), source=collector.source
        )

    def record(self) -> None:
        now, begin = clock.time_unix_s(), time.perf_counter()
        try:
            for role, index, values in self._collector.collect():
                self._writer.write(now, role, index, values)
        except Exception:
            traceback.print_exc()
            self._errors += 1
            self._writer.write(now, "host", host_index(), {"collector_errors": self._errors})
        self._writer.write(now, "host", host_index(), {"sampling_s": time.perf_counter() - begin})

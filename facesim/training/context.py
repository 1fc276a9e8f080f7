"""What a training task works with: its job, its data, where it records, and whether it was asked to stop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster import clock
from facesim.data.prepared import PreparedData
from facesim.metrics.announced import announcement
from facesim.metrics.files import SampleWriter, recorded
from facesim.metrics.host_identity import host_name
from facesim.runs.directory import Run
from facesim.runs.events import Recovering
from facesim.training.order import OrderRecorder


class Context:
    """One training task's surroundings. `stopping` turns true when the task is asked to end (SIGTERM).

    `replica` is 0 in the chief, and counts the peers of a strategy that has them.
    """

    def __init__(
        self,
        run: Run,
        data: PreparedData,
        checkpoints: Path,
        role: str,
        index: int,
        replica: int,
        pretrained: Path | None = None,
    ):
        self.run = run
        #: The folder of `facesim.preflight.pretrained` with the network that training starts from, if it does.
        self.pretrained = pretrained
        #: Where this task's checkpoints lie.
        self.checkpoints = checkpoints
        self.replica = replica
        self.task = f"{role}-{index}"
        self.outcome_file = run.task_outcome_file(self.task)
        self.job = run.job()
        self.experiment = self.job.experiment
        #: How many epochs are trained: the whole budget, or its beginning in a replay.
        self.epochs = self.experiment.epochs
        self.data = data
        self.train_indices, self.held_out_indices = data.split(self.experiment.data_spec)
        self.seed = self.experiment.seed
        samples = run.metrics / f"{self.task}.jsonl"
        #: Whether another process of this task came before this one, also if it did not get as far as to train.
        self.started_before = samples.exists() or any(isinstance(event, Recovering) for event in run.events())
        #: (examples, time_unix_s) that earlier processes of this task recorded, in order.
        self.recorded_before = recorded(samples, "examples")
        self.recorder = Recorder(run, role, index)
        #: Who made which update, where that is not the same every time.
        self.order = OrderRecorder(run.order_file)
        self.stopping = False
        #: Whether this process has not made an update yet.
        self.trains_first = True

    @property
    def leads(self) -> bool:
        """Whether what this task finds is what the run found."""
        return self.task == "chief-0"

    @property
    def updates_of_epoch(self) -> int:
        """How many batches an epoch is cut into; the last may be smaller."""
        return math.ceil(len(self.train_indices) / self.job.update_batch)

    def stop_when_asked(self) -> None:
        """From now on SIGTERM sets `stopping` instead of ending this process at once."""

        def stop(*_: object) -> None:
            self.stopping = True

        signal.signal(signal.SIGTERM, stop)


class Recorder:
    """Writes the training task's samples, and keeps how long each phase took."""

    def __init__(self, run: Run, role: str, index: int):
        self._task = (role, index)
        self.phases: dict[str, float] = {}
        self._launched = run.launched_unix_s()
        self._writer = SampleWriter(
            run.metrics / f"{role}-{index}.jsonl", run_id=run.id, host=host_name(), source="training"
        )

    def write(self, values: dict[str, float], time_unix_s: float | None = None) -> float:
        """Record values of now, or of another time; return the time."""
        when = clock.time_unix_s() if time_unix_s is None else time_unix_s
        self._writer.write(when, *self._task, values)
        line = announcement(values)
        if line and self._task == ("chief", 0):
            with suppress(OSError):  # a full disk does not end a training
                print(line, flush=True)
        return when

    def phase(self, name: str, seconds: float) -> None:
        """Record a phase that ended; a phase that comes again adds to what there is."""
        self.phases[name] = self.phases.get(name, 0.0) + seconds
        self.write({name: self.phases[name]})

    def since_launch(self, name: str) -> None:
        """Record that the phase `name`, which began at the launch, ends now."""
        self.phase(name, clock.time_unix_s() - self._launched)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.phase(name, time.perf_counter() - begin)


def open_context(
    run: Run, data: Path, checkpoints: Path, role: str, index: int, replica: int, pretrained: Path | None = None
) -> Context:
    context = Context(run, PreparedData.load(data), checkpoints, role, index, replica, pretrained)
    context.recorder.since_launch("startup_s")
    return context

"""How far a run is, read from the samples that it writes while it goes on."""

from __future__ import annotations

from typing import Any

from cluster import clock
from facesim.metrics.files import SampleTail
from facesim.metrics.schema import Sample
from facesim.runs.directory import Run
from facesim.runs.events import Submitted, events_in
from facesim.util.files import LineTail

#: What is shown of the newest epoch, by the names that samples have.
_FIGURES = ("images_per_s", "loss", "held_out_accuracy")


class Progress:
    """How far one run is.

    Attributes:
        epochs: how many are due.
        latest: the newest value of each of the chief's training metrics, by name.
        tested_epoch: that of the newest held-out accuracy, for not every epoch ends with a test; 0 before the first.
        tasks: the newest resource use of each task, by task and name.
    """

    def __init__(self, run: Run):
        experiment = run.job().experiment
        self.epochs = experiment.epochs
        self._tested = experiment.data_spec.tested_in_words
        self.latest: dict[str, float] = {}
        self.tested_epoch = 0
        self.tasks: dict[str, dict[str, float]] = {}
        self._tail = SampleTail(run.metrics)
        self._events = LineTail(run.events_file)
        self._submitted_unix_s = 0.0  # for the last time
        self._training_since: float | None = None
        self._epochs_before = 0.0  # that were done then

    def update(self) -> bool:
        """Read what is new; whether an epoch has ended since the last time."""
        epoch = self.latest.get("epoch")
        for event in events_in(self._events.new()):
            if isinstance(event, Submitted):
                self._submitted_unix_s, self._training_since = event.time_unix_s, None
        for sample in self._tail.new():
            if sample.source == "training" and sample.role == "chief":
                self.latest[sample.name] = sample.value
                if sample.name == "held_out_accuracy":
                    self.tested_epoch = int(self.latest.get("epoch", 0))
                self._start_clock(sample)
            elif sample.source == "psutil" and sample.role not in ("host", "monitor"):
                self.tasks.setdefault(f"{sample.role}-{sample.task_index}", {})[sample.name] = sample.value
        return self.latest.get("epoch") != epoch

    def _start_clock(self, sample: Sample) -> None:
        """Remember when the first images were counted since the run was submitted, and the epochs before."""
        if sample.time_unix_s < self._submitted_unix_s:
            return
        if sample.name == "examples" and self._training_since is None:
            self._training_since, self._epochs_before = sample.time_unix_s, self.latest.get("epoch", 0)
        elif sample.name == "epoch" and self._training_since is not None:
            if sample.time_unix_s <= self._training_since:  # a job elsewhere tells nothing before an epoch has ended
                self._epochs_before = sample.value
            else:  # a run that goes on from a checkpoint may do the end of an epoch again
                self._epochs_before = min(self._epochs_before, sample.value - 1)

    @property
    def training(self) -> bool:
        """Whether training has begun."""
        return self._training_since is not None

    @property
    def share(self) -> float:
        """How much of the training is done, 0-1."""
        return self.latest.get("epoch", 0) / self.epochs

    @property
    def left_s(self) -> float | None:
        """Seconds until the last epoch ends, if the rest goes as what went before since the run was submitted for the
        last time; None while no epoch of that has ended.
        """
        epochs = self.latest.get("epoch", 0)
        done = epochs - self._epochs_before
        if self._training_since is None or done <= 0:
            return None
        return max(0.0, (clock.time_unix_s() - self._training_since) / done * (self.epochs - epochs))

    def facts(self) -> dict[str, Any]:
        """Epoch, throughput, loss and accuracy, as far as they are known."""
        known: dict[str, Any] = {name: self.latest[name] for name in _FIGURES if name in self.latest}
        return {"epoch": int(self.latest.get("epoch", 0)), "epochs": self.epochs, **known}

    def figures(self) -> str:
        """The same in words, with the time left; empty while nothing is known."""
        latest, parts = self.latest, []
        if "epoch" in latest:
            parts.append(f"epoch {latest['epoch']:.0f}/{self.epochs}")
        for name, form in zip(
            _FIGURES, ("{:.0f} images/s", "loss {:.3f}", f"{self._tested} accuracy {{:.3f}}"), strict=True
        ):
            if name in latest:
                parts.append(form.format(latest[name]))
        if self.left_s is not None:
            parts.append(f"{clock_time(self.left_s)} left")
        return ", ".join(parts)


def clock_time(seconds: float) -> str:
    """Seconds as minutes and seconds: 75 -> `1:15`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"

"""Where a run is in its life and how it can end; SageMaker's words are translated here, and nowhere else."""

from __future__ import annotations

from enum import Enum


class _Word(str, Enum):
    """Is shown, and written, as its value."""

    def __str__(self) -> str:
        return self.value


class RunState(_Word):
    """Where a run is in its life. The last five are terminal, and one of them is what `result.json` has."""

    #: Never written: that of a run without `result.json`, which was killed or still goes on.
    UNFINISHED = "Unfinished"
    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    INTERRUPTED = "Interrupted"
    UPLOADING = "Uploading"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"

    @property
    def terminal(self) -> bool:
        """Whether nothing of the run goes on."""
        return self in _TERMINAL

    @property
    def limited(self) -> bool:
        """Whether a limit of the run's own ended it."""
        return self in (RunState.MAX_RUNTIME_EXCEEDED, RunState.MAX_WAIT_TIME_EXCEEDED)


class Measurement(_Word):
    """What the numbers of a run are of, which is shown wherever they are."""

    #: The hosts that its job names.
    MEASURED = "measured"
    #: This machine, which plays them.
    EMULATED = "emulated"
    #: Nothing: nobody ran it.
    FORECAST = "forecast"


class Outcome(_Word):
    """How a run, or an attempt of it, can end."""

    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    MAX_RUNTIME_EXCEEDED = "max_runtime_exceeded"
    MAX_WAIT_TIME_EXCEEDED = "max_wait_time_exceeded"

    @property
    def state(self) -> RunState:
        """The state of a run that ended so."""
        return RunState[self.name]


_TERMINAL = frozenset(outcome.state for outcome in Outcome)

#: SageMaker's secondary statuses that facesim does not tell apart from one of its own states (AWS,
#: DescribeTrainingJob, SecondaryStatus).
_OF_SAGEMAKER = {
    "Pending": RunState.STARTING,
    "LaunchingMLInstances": RunState.STARTING,
    "PreparingTraining": RunState.STARTING,
    "PreparingTrainingStack": RunState.STARTING,
    "DownloadingTrainingImage": RunState.DOWNLOADING,
    "Restarting": RunState.TRAINING,
    "Updating": RunState.TRAINING,
}


def state_of_sagemaker(secondary_status: str) -> RunState:
    """The state that SageMaker calls so; a word that it did not have when this was written counts as training, which
    is billed.
    """
    try:
        return RunState(secondary_status)
    except ValueError:
        return _OF_SAGEMAKER.get(secondary_status, RunState.TRAINING)


def outcome_of_sagemaker(status: str, secondary_status: str = "") -> Outcome | None:
    """How a training job ended, by its status; None while it goes on."""
    if secondary_status in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded"):
        return Outcome[RunState(secondary_status).name]
    return Outcome[RunState(status).name] if status in ("Completed", "Failed", "Stopped") else None

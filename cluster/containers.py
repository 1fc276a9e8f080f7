"""Executes a CreateTrainingJob request on this machine: one container a host, as SageMaker would run it.

The request is AWS' own (botocore's CreateTrainingJob), so what runs here is what would be sent there: its image, entry
point, hyperparameters, channels, checkpoints, instance types and counts, instance groups, environment, time limits.
Each host sees /opt/ml as on SageMaker. What differs is what an instance type has: `shapes` says how much of this
machine a host of each type is given.

What happens is told as events, dictionaries with `time_unix_s` and `event`:

    state       state (one of `STATES`, SageMaker's secondary states), reason (text, may be empty), attempt (1, 2, ...)
    log         host, line: what a host printed, in its order
    stats       host, and what the engine measures of it: cpu_percent (0-100 % of the CPUs it was given), cpu_count
                (those CPUs), cpu_s, memory_bytes, memory_percent, net_sent_bytes, net_received_bytes, disk_read_bytes,
                disk_written_bytes (totals since the host's start)
    host_ended  host, exit_code, oom (killed for want of memory)
    node_ended  the last one: outcome (completed, failed or stopped), state (the last of the states), reason (of a
                failure: the host's, from /opt/ml/output/failure), host_exit_codes

A terminal state comes right before `node_ended`. A stop gives Stopping, Uploading, Stopped; a time limit gives
Stopping, Uploading, and MaxRuntimeExceeded or MaxWaitTimeExceeded as the terminal state, with outcome `stopped`; an
interruption gives Interrupted, then Starting again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

#: SageMaker's secondary states, as far as a job can be in them here.
STARTING, DOWNLOADING, TRAINING, INTERRUPTED, UPLOADING = (
    "Starting", "Downloading", "Training", "Interrupted", "Uploading")  # fmt: skip
STOPPING, STOPPED, COMPLETED, FAILED = "Stopping", "Stopped", "Completed", "Failed"
MAX_RUNTIME_EXCEEDED, MAX_WAIT_TIME_EXCEEDED = "MaxRuntimeExceeded", "MaxWaitTimeExceeded"


class Store(Protocol):
    """Where the URIs of a request lead."""

    def download(self, uri: str, directory: Path) -> None:
        """Put every file below `uri` into `directory`, which exists. Nothing below `uri` is no error."""

    def upload(self, directory: Path, uri: str) -> None:
        """Put every file below `directory` under `uri`, over what is there; what else is there stays.

        Called again and again for checkpoints, so it should pass over a file that it has already put there unchanged.
        """


@dataclass(frozen=True)
class HostShape:
    """What a host of an instance type is given of this machine. None is no limit."""

    cpus: float
    memory_bytes: int | None = None
    bandwidth_bits_per_s: float | None = None


class ContainerJob:
    """A request that is being executed. Making one starts it and returns at once.

    Args:
        request: the CreateTrainingJob request.
        store: where its channels, checkpoints and results are. Results are put where SageMaker puts them:
            `S3OutputPath/TrainingJobName/output/` gets `model.tar.gz` (every host's /opt/ml/model) and `output.tar.gz`
            (every host's /opt/ml/output/data).
        directory: an empty or new folder for the hosts' /opt/ml; removed by `close`.
        shapes: by instance type, for each in the request.
        sampling_s: seconds between `stats` of a host.
        grace_s: seconds between SIGTERM and SIGKILL.

    Raises:
        InputError: no engine answers, the image is missing, or the request asks for what cannot be done here.
    """

    def __init__(
        self,
        request: dict[str, Any],
        store: Store,
        directory: Path,
        *,
        shapes: Mapping[str, HostShape],
        sampling_s: float = 1.0,
        grace_s: float = 120.0,
    ):
        raise NotImplementedError

    def events(self, tick_s: float) -> Iterator[dict[str, Any] | None]:
        """What happens, in order, until nothing of the job runs any more; None when `tick_s` pass without an event."""
        raise NotImplementedError

    def stop(self) -> None:
        """SIGTERM to every host, SIGKILL after the grace; results are uploaded. Returns at once; may be repeated."""
        raise NotImplementedError

    def kill(self) -> None:
        """End every host at once. Returns at once; may be repeated."""
        raise NotImplementedError

    def interrupt(self, notice: bool = True, again_after_s: float = 0.0) -> None:
        """Take the capacity away, as on a spot reclaim, and give it back after `again_after_s`: every host gets SIGTERM
        (unless `notice` is false), SIGKILL after the grace, and the job starts again with its checkpoints.

        Returns at once; without effect unless the job is training.
        """
        raise NotImplementedError

    def kill_host(self, host: str) -> None:
        """SIGKILL to one host, such as `algo-2`: what a crash of its machine looks like to the others."""
        raise NotImplementedError

    def close(self) -> None:
        """End what may still run, wait for it, and remove containers, network and `directory`. Idempotent."""
        raise NotImplementedError

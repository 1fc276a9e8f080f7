"""What a backend is: it renders a job into the exact request that would run it, runs that, and tells what happens.

A dry run prints what `render` returns and `submit` takes nothing else, so a dry run cannot lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import Event
from facesim.spec.job import Job


class Request(Protocol):
    """Everything that would run a job, as data."""

    def to_json(self) -> str: ...


class Execution(Protocol):
    """A job that was submitted."""

    def events(self, tick_s: float) -> Iterator[Event | dict[str, Any] | None]:
        """What happens, in order, until nothing of it runs any more; None when `tick_s` pass without an event.

        An event may be as `cluster` tells it, a dict that `facesim.runs.events.event_of` takes. The last is a
        `NodeEnded`.
        """

    def stop(self) -> None:
        """Drain: training ends after its current step and saves. Returns at once; may be repeated."""

    def kill(self) -> None:
        """End at once. Returns at once; may be repeated."""

    def close(self) -> None:
        """End what may still run, wait for it and free what it held. Idempotent."""


class Backend(Protocol):
    """One way to run jobs."""

    #: How its numbers are to be marked wherever they are shown: `emulated` or `measured`.
    measurement: str

    def render(self, job: Job, directory: Path, inputs: Inputs) -> Request:
        """The request that runs `job` in run directory `directory` on what it reads. Starts nothing.

        Raises:
            InputError: this backend cannot run the job here.
        """

    def submit(self, run: Run, request: Request) -> Execution:
        """Start what was rendered and return at once."""


@runtime_checkable
class Equipped(Protocol):
    """A backend that needs something which may be missing."""

    def check(self, job: Job) -> None:
        """Look whether what the job needs is there. Starts nothing.

        Raises:
            InputError: it is not; the message says what to do.
        """


@runtime_checkable
class Paid(Protocol):
    """A backend that costs money."""

    def estimate(self, requests: list[Any], max_cost_usd: float | None) -> str:
        """What these requests can cost together, in words.

        Raises:
            InputError: it is more than `max_cost_usd`.
        """

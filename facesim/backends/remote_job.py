"""A job that runs on other machines: followed over a connection that is lost for a while, stopped or left by Ctrl-C.

It goes on without the process that follows it, and another can take that up again: `facesim attach`.
"""

from __future__ import annotations

import select
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from threading import Lock
from typing import ClassVar

from facesim.backends.base import LeftRunning
from facesim.backends.due import Due
from facesim.backends.followed_job import FollowedJob
from facesim.backends.reach import Reach
from facesim.runs.directory import Run
from facesim.runs.events import (
    Event,
    JobSetCreated,
    Recovering,
    StateEntered,
    Stopping,
    Submitted,
    TrainingJobCreated,
)
from facesim.util.disk import free_bytes
from facesim.util.errors import DiskFull, FacesimError, Lost, StillRunning

#: Between SIGTERM and SIGKILL.
GRACE_S = 120.0
#: How often it is tried again to stop a job.
_STOP_EVERY_S = 3.0
#: How long it may be denied to describe the job, or to give its results, before following is given up. That nobody
#: answers, or that credentials have expired, may last as long as it does.
_DENIED_S = 900.0

#: How much more room there has to be on a disk that was full until what did not fit is tried again, and how long until
#: it is in any case: a download is paid for.
_ROOM_BYTES, _FULL_S = 1 << 24, 600.0

#: Of several jobs at the same time one at a time asks the user.
_ASKING = Lock()


class LostSight(Lost):
    """The job cannot be followed any more. It continues, for nobody asked to stop it."""


class RemoteJob(ABC):
    """What executions of remote jobs have in common.

    Attributes:
        place: where the job is, in words: `at AWS`.
        _name: the job's, there.
        _exists: whether it has been made.

    Args:
        run: the directory that it comes home to.
        reach: what is known of asking for it.
        on_interrupt: what `stop` does: `stop` the job, `leave` it running, or `ask` the user.
    """

    place: ClassVar[str]
    _name: str
    _exists: bool

    def __init__(self, run: Run, reach: Reach, on_interrupt: str):
        self._run = run
        self._reach = reach
        self._on_interrupt = on_interrupt
        self._interrupted = self._killed = self._stopping = False
        self._over = False  # ended, or left: nothing more is done to it
        # An earlier follower of the job has recorded its first states, and the events of its hosts.
        before = _of_this_life(run.events())
        self._states_before = [event for event in before if isinstance(event, StateEntered) and event.at is not None]
        self._followed = FollowedJob(
            run,
            # Each host has a clock of its own, and what one printed is read after what another printed later.
            known_until_unix_s={event.host: event.time_unix_s for event in before if event.host is not None},
            restarts=sum(isinstance(event, Recovering) and event.host is None for event in before),
        )

    @abstractmethod
    def _cancel(self) -> None:
        """Have the job saved and ended. Harmless when repeated.

        Raises:
            FacesimError: it cannot be asked for now.
        """

    @property
    def is_ending(self) -> bool:
        """Whether the user does not want it any more."""
        return self._interrupted or self._killed

    @property
    def _is_left(self) -> bool:
        """Whether the user does not wait for it any more; who has it stopped does, until it is to end at once."""
        return self._killed or (self._interrupted and not self._stopping)

    def stop(self) -> None:
        self._interrupted = True

    def kill(self) -> None:
        asked_before = self._on_interrupt == "ask" and not self._interrupted  # and the user went on
        if asked_before or self._on_interrupt == "leave":  # however often it is asked for
            self._interrupted = True
        else:
            self._killed = True

    def close(self) -> None:
        """Unless it has ended, or is to be left, the job is stopped: what nobody follows must not go on costing."""
        if self._exists and not self._over and self._on_interrupt != "leave":
            self._over = True
            try:
                self._cancel()
            except FacesimError as error:
                raise FacesimError(
                    f"{self._name} continues {self.place}, and costs, for it could not be stopped: {error}; "
                    f"`facesim cancel {self._run.directory}` ends it"
                ) from None

    def _stop_as_asked(self, due: Due) -> Iterator[Event]:
        """Stop the job where the user asked for that; tell it, or why it cannot be stopped now.

        Raises:
            LeftRunning: the user leaves it, or wants it to end at once, and it cannot be stopped.
        """
        asked = self._killed or (self._interrupted and not self._stopping and due("stop", _STOP_EVERY_S))
        if self._stopping or not asked or not self._decide():
            return
        self._on_interrupt = "stop"  # the user need not be asked again if it cannot be stopped now
        try:
            self._cancel()
        except FacesimError as error:
            if self._killed:
                raise self._lost(f"could not be stopped: {error}") from None
            yield from self._not_reached("stop", error)
            return
        self._stopping = True
        yield Stopping(grace_s=GRACE_S)

    def _tried(self, what: str, read: Callable[[], Iterator[Event] | None]) -> Iterator[Event]:
        """What reading `what` tells; where it fails, for whatever reason, that: the job is followed without it."""
        try:
            yield from read() or ()
            self._reach.reached(what)
        except FacesimError as error:
            yield from self._not_reached(what, error)
        except Exception as error:
            yield from self._not_reached(what, FacesimError(f"{what} cannot be read: {type(error).__name__}: {error}"))

    def _not_reached(self, what: str, error: FacesimError) -> Iterator[Event]:
        """As `Reach.failed`.

        Raises:
            LeftRunning, LostSight: what nothing goes without has been denied for long.
        """
        yield from self._reach.failed(what, error)
        if what in ("describe", "results") and self._reach.denied_s(what) > _DENIED_S:
            raise self._lost(str(error))

    def _until_tried_again(self, error: FacesimError, wait_s: float, tick_s: float) -> Iterator[None]:
        """Wait until what failed is to be tried again, or the user does not wait for it any more."""
        full, before_bytes = isinstance(error, DiskFull), free_bytes(self._run.directory)
        until_s = time.monotonic() + (_FULL_S if full else wait_s)
        while time.monotonic() < until_s and not self._is_left:
            if full and free_bytes(self._run.directory) > before_bytes + _ROOM_BYTES:
                return
            yield None
            time.sleep(min(tick_s, wait_s))

    def _lost(self, why: str) -> StillRunning:
        """`LeftRunning`, which ends the study, if the user asked for an end; else `LostSight`: the study continues."""
        self._over = True
        return (LeftRunning if self.is_ending else LostSight)(
            f"{self._name} is not followed any more: {why}; it continues {self.place}, and costs, unless it has ended; "
            f"`facesim attach {self._run.directory}` follows it again, `facesim cancel {self._run.directory}` ends it"
        )

    def _decide(self) -> bool:
        """Whether the interrupt means to stop the job.

        Raises:
            LeftRunning: it means to leave it.
        """
        choice = self._on_interrupt
        if choice == "ask" and not self._killed:
            with _ASKING:
                choice = self._ask() if sys.stdin is not None and sys.stdin.isatty() else "stop"
        if choice == "leave":
            self._over = True
            raise LeftRunning(
                f"{self._name} continues {self.place}, and costs; `facesim attach {self._run.directory}` follows it "
                f"again, `facesim cancel {self._run.directory}` ends it"
            )
        self._interrupted = choice == "stop"
        return self.is_ending

    def _ask(self) -> str:
        print(
            f"\n{self._name}: stop it [s], leave it running {self.place} [l], or continue to follow it [Enter]? ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        # Not input(): it would not notice another Ctrl-C, which ends all this at once.
        while not self._killed:
            if select.select([sys.stdin], [], [], 0.2)[0]:
                return {"s": "stop", "l": "leave"}.get(sys.stdin.readline().strip().lower()[:1], "go on")
        return "stop"


def was_made(run: Run) -> bool:
    """Whether a run has been a job on other machines, as far as is on record: it may go on there, and has its
    checkpoints there.
    """
    return any(
        isinstance(event, (TrainingJobCreated, JobSetCreated))
        or (isinstance(event, StateEntered) and event.at is not None)
        for event in run.events()
    )


def _of_this_life(events: list[Event]) -> list[Event]:
    """The events since the run was submitted for the last time: each time is another job."""
    begins = [position for position, event in enumerate(events) if isinstance(event, Submitted)]
    return events[begins[-1] :] if begins else events

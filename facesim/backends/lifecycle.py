"""A run's life: its states in SageMaker's words, its limits, and spot capacity that goes away and comes back.

`LifeCycle` is an `Execution` around the executions that a backend submits: one, or with spot capacity one an attempt.
At an interruption it ends the attempt, waits until there is capacity, and submits the same request again; the training
task itself goes on from the newest checkpoint of the run. What happens becomes `state` events, of which the bill is
made.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import wait

from cluster import clock
from facesim.backends.base import Backend, Execution, Request
from facesim.billing.market import Market, OnDemand, market
from facesim.runs.directory import Run
from facesim.runs.events import (
    Event,
    Interruption,
    LimitExceeded,
    NodeEnded,
    NodeStarted,
    StateEntered,
    Stopping,
    TaskEnded,
    TaskStarted,
    Waiting,
    event_of,
)
from facesim.runs.states import Outcome, RunState

#: Why an attempt is ended here, beside the outcomes that are limits.
_INTERRUPTED = "interrupted"

#: How late an interruption or a limit may be played.
_PRECISION_S = 0.1


def lifecycle_of(where: Backend, run: Run, request: Request) -> Execution:
    """The life of `run` on a backend. What the backend does not own, capacity or limits, is played around it; then it
    is submitted when its events are first asked for.

    Raises:
        InputError: a file that says how spot capacity behaves cannot be used any more.
    """
    job = run.job()
    owned = job.backend
    if owned.owns_capacity and owned.owns_limits:  # and so its states
        return where.submit(run, request)
    spot = None if owned.owns_capacity else job.spot
    return LifeCycle(
        lambda: where.submit(run, request),
        capacity=market(spot, job.hosts, job.experiment.seed),
        notice_s=spot.notice_s if spot else 0.0,
        speed=spot.speed if spot else 1.0,
        max_run_s=None if owned.owns_limits else job.max_run_s,
        max_wait_s=None if owned.owns_limits else job.max_wait_s,
    )


class LifeCycle:
    """An execution that is interrupted and resumed as `capacity` says, and ended at its limits.

    Beside the backend's events, whose states it makes its own, it tells `state` (with `state`), `interruption`
    (`number`, `notice_s`: capacity is being reclaimed), `waiting` (`capacity_in_s`) and `limit_exceeded` (`limit`,
    `limit_s`); `stopping` has a `why` where the user did not ask for it. An attempt's `node_ended` is kept back unless
    it is the last; the last's outcome may also be `max_runtime_exceeded` or `max_wait_time_exceeded`.

    Args:
        notice_s: time for an attempt to drain before its capacity is gone; 0: it is killed without a word.
        speed: seconds of the market in one of the clock.
        max_run_s: seconds for which the run may have its hosts, over all attempts; then it drains.
        max_wait_s: seconds from launch after which the run drains, or stops waiting for capacity.
    """

    def __init__(
        self,
        submit: Callable[[], Execution],
        *,
        capacity: Market | None = None,
        notice_s: float = 0.0,
        speed: float = 1.0,
        max_run_s: float | None = None,
        max_wait_s: float | None = None,
    ):
        self._submit = submit
        self._capacity = capacity or OnDemand()
        self._notice_s, self._speed = notice_s, speed
        self._max_run_s = math.inf if max_run_s is None else max_run_s
        self._max_wait_s = math.inf if max_wait_s is None else max_wait_s
        self._attempt: Execution | None = None
        self._asked_to: str | None = None  # by the user: "stop", or "kill"
        self._bell = _Bell()
        self._state: RunState | None = None
        self._launched_s = self._ran_s = 0.0
        self._interruptions = 0

    def events(self, tick_s: float) -> Iterator[Event | None]:
        self._launched_s = time.monotonic()
        yield from self._enter(RunState.STARTING)
        ended: NodeEnded | None = None
        while ended is None:
            asked_s = (time.monotonic() - self._launched_s) * self._speed
            granted_s, reclaimed_s = self._capacity.grant(asked_s)
            if granted_s > asked_s:
                yield Waiting(capacity_in_s=(granted_s - asked_s) / self._speed)
                yield from self._wait_until(self._launched_s + granted_s / self._speed, tick_s)
            outcome = self._end_of_waiting()
            if outcome:
                if outcome is Outcome.MAX_WAIT_TIME_EXCEEDED:
                    yield LimitExceeded(limit="max_wait_s", limit_s=self._max_wait_s)
                ended = NodeEnded(outcome=outcome)
            else:
                ended = yield from self._live_attempt(self._launched_s + reclaimed_s / self._speed, tick_s)
        yield ended

    def stop(self) -> None:
        self._asked_to = self._asked_to or "stop"
        self._bell.ring()
        if self._attempt:
            self._attempt.stop()

    def kill(self) -> None:
        self._asked_to = "kill"
        self._bell.ring()
        if self._attempt:
            self._attempt.kill()

    def close(self) -> None:
        if self._attempt:
            self._attempt.close()
        self._bell.close()

    def _wait_until(self, moment_s: float, tick_s: float) -> Iterator[None]:
        """Wait for capacity, or until there is no sense in it any more."""
        until_s = min(moment_s, self._launched_s + self._max_wait_s)
        while not self._asked_to and (left_s := until_s - time.monotonic()) > 0:
            self._bell.wait(min(left_s, tick_s))
            yield None

    def _end_of_waiting(self) -> Outcome | None:
        """How the run ends before it has capacity; None if it does not."""
        if self._asked_to:
            return Outcome.STOPPED
        over = time.monotonic() >= self._launched_s + self._max_wait_s
        return Outcome.MAX_WAIT_TIME_EXCEEDED if over else None

    def _live_attempt(self, reclaimed_s: float, tick_s: float) -> Generator[Event | None, None, NodeEnded | None]:
        """Submit, and follow to the end; return the event that ends the run, None if the attempt was interrupted."""
        yield from self._enter(RunState.STARTING)
        self._attempt = attempt = self._submit()
        if self._asked_to:  # meanwhile
            (attempt.kill if self._asked_to == "kill" else attempt.stop)()
        began_s = shown_s = time.monotonic()
        ending, kill_s = None, math.inf  # why the attempt is being ended from here, and when its notice has passed
        last: NodeEnded | None = None
        for message in attempt.events(min(tick_s, _PRECISION_S)):
            now_s, event = time.monotonic(), None if message is None else event_of(message)
            if isinstance(event, NodeEnded):
                last = event
                continue
            if event is not None or now_s - shown_s >= tick_s:
                shown_s = now_s
                yield from self._pass_on(event, ending)
            if event is not None:
                yield from self._follow(event, ending)
            if ending is None and (ending := self._due(now_s, began_s, reclaimed_s)):
                yield self._telling(ending)
                if ending == _INTERRUPTED:
                    kill_s = now_s + self._notice_s
                if now_s < kill_s:
                    attempt.stop()
            if now_s >= kill_s:
                attempt.kill()
                kill_s = math.inf
        attempt.close()
        self._attempt = None
        self._ran_s += time.monotonic() - began_s
        assert last is not None, "an execution's last event says how it ended"
        if last.outcome is Outcome.COMPLETED or ending is None:
            return last
        if self._asked_to:
            return last.model_copy(update={"outcome": Outcome.STOPPED})
        if ending == _INTERRUPTED:
            yield from self._enter(RunState.INTERRUPTED)
            return None
        return last.model_copy(update={"outcome": Outcome(ending)})

    def _pass_on(self, event: Event | None, ending: str | None) -> Iterator[Event | None]:
        """A backend's event as one of the run's. Its own states are the run's, but for an attempt's end."""
        if isinstance(event, StateEntered):
            if ending != _INTERRUPTED and not event.state.terminal:
                yield from self._enter(event.state, event.time_unix_s)
        elif isinstance(event, Stopping) and ending:
            yield event.model_copy(update={"why": ending})
        else:
            yield event

    def _due(self, now_s: float, began_s: float, reclaimed_s: float) -> str | None:
        """Why the attempt has to be ended now; None if it has not. Nothing interrupts work that is done or draining."""
        if self._asked_to or self._state in (RunState.UPLOADING, RunState.STOPPING):
            return None
        due_s, why = min(
            (reclaimed_s, _INTERRUPTED),
            (began_s + self._max_run_s - self._ran_s, Outcome.MAX_RUNTIME_EXCEEDED.value),
            (self._launched_s + self._max_wait_s, Outcome.MAX_WAIT_TIME_EXCEEDED.value),
        )
        return why if now_s >= due_s else None

    def _follow(self, event: Event, ending: str | None) -> Iterator[StateEntered]:
        """The state that an event of the backend begins, if it begins one."""
        at = event.time_unix_s
        if isinstance(event, NodeStarted) and self._state is RunState.STARTING:
            yield from self._enter(RunState.DOWNLOADING, at)
        elif isinstance(event, TaskStarted) and self._state is RunState.DOWNLOADING:
            yield from self._enter(RunState.TRAINING, at)
        elif isinstance(event, Stopping) and ending != _INTERRUPTED:
            yield from self._enter(RunState.STOPPING, at)
        elif self._state is RunState.TRAINING and ending is None and _is_done(event):
            yield from self._enter(RunState.UPLOADING, at)

    def _enter(self, state: RunState, time_unix_s: float | None = None) -> Iterator[StateEntered]:
        if state is not self._state:
            self._state = state
            yield StateEntered(state=state, time_unix_s=clock.time_unix_s() if time_unix_s is None else time_unix_s)

    def _telling(self, ending: str) -> Event:
        if ending == _INTERRUPTED:
            self._interruptions += 1
            return Interruption(number=self._interruptions, notice_s=self._notice_s)
        run = ending == Outcome.MAX_RUNTIME_EXCEEDED
        return LimitExceeded(
            limit="max_run_s" if run else "max_wait_s", limit_s=self._max_run_s if run else self._max_wait_s
        )


class _Bell:
    """Wakes the thread that waits. A signal's handler may ring it, even of the thread that waits."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        self._outside.setblocking(False)

    def ring(self) -> None:
        try:
            self._outside.send(b"!")
        except OSError:
            pass  # it rings already, or is closed

    def wait(self, seconds: float) -> None:
        wait([self._inside], seconds)

    def close(self) -> None:
        self._inside.close()
        self._outside.close()


def _is_done(event: Event) -> bool:
    """Whether it is the end of the chief with all its work done."""
    return isinstance(event, TaskEnded) and event.task.startswith("chief") and event.exit_code == 0

"""A training job that is followed from here, whether its hosts are containers or instances: what they print, the states
that it enters, and how it ends once what they left is here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from facesim.backends.log_stream import LogStream
from facesim.runs.accounting import all_again
from facesim.runs.directory import Run
from facesim.runs.events import Event, NodeEnded, ResultsMissing, StateEntered, Stopping
from facesim.runs.states import Outcome, RunState


class FollowedJob:
    """Turns what is heard of a job into events of its run.

    Args:
        known_until_unix_s: events that a host printed until then, by its own clock, are recorded already.
        restarts: how often the job has been started again already.
    """

    def __init__(self, run: Run, known_until_unix_s: Mapping[str, float] | None = None, restarts: int = 0):
        self._run = run
        self._log = LogStream(run)
        self._known_until_unix_s = known_until_unix_s or {}
        self._restarts = restarts
        self._state: RunState | None = None

    def printed(self, host: str, line: str, time_unix_s: float) -> Event | None:
        """Keep a line of a host's; the event of the run that it is, if it is one."""
        event = self._log.add(host, line, time_unix_s)
        if event is None or event.time_unix_s <= self._known_until_unix_s.get(event.host or host, 0.0):
            return None
        # At an interruption hosts stop as well, but the job does not.
        return None if isinstance(event, Stopping) and self._state is RunState.INTERRUPTED else event

    def entered(self, state: StateEntered) -> Iterator[Event]:
        """The job is in another state; after an interruption all its tasks are started again."""
        self._state = state.state
        yield state
        if state.state is RunState.INTERRUPTED:
            self._restarts += 1
            yield all_again(self._run.job().tasks, self._restarts, state.reason)

    def ended(
        self, outcome: Outcome, missing: Sequence[str], reason: str | None = None, **details: Any
    ) -> Iterator[Event]:
        """The job has ended, and what its hosts left is here but for what is `missing`, in words. One that completed
        has failed then.
        """
        self._log.settle()
        what = "; ".join(missing)
        if missing:
            yield ResultsMissing(what=what)
            if outcome is Outcome.COMPLETED:
                outcome, reason = (
                    Outcome.FAILED,
                    f"the training job completed, but some of its results are missing: {what}",
                )
            elif reason:
                reason = f"{reason}\nSome of its results are missing: {what}"
        yield NodeEnded(outcome=outcome, reason=reason, **details)

    def missing_outcome(self, outcome: Outcome) -> list[str]:
        """What a job that completed must have left and did not, in words."""
        if outcome is Outcome.COMPLETED and self._run.outcome() is None:
            return [f"the chief left no {self._run.outcome_file.name}"]
        return []

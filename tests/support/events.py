"""What happened to a run, picked out of its events: dicts as `cluster` tells them, or `facesim.runs.events.Event`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from facesim.runs.events import Event, Restored, StateEntered, Submitted


def named(events: Iterable[Any], kind: str) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if event["event"] == kind]


def values_of(events: Iterable[Any], kind: str, field: str) -> list[Any]:
    """What the events of one kind have in a field."""
    return [event[field] for event in named(events, kind)]


def pids(events: Iterable[Any]) -> list[int]:
    """The processes that were started, by their numbers."""
    return [event["pid"] for event in events if event["event"] in ("node_started", "task_started")]


def states(events: Iterable[Any]) -> list[str]:
    """The states that a run was in, in order."""
    return values_of(events, "state", "state")


def course(*states: tuple[str, float], began_unix_s: float = 1_790_000_000.0, **submitted: Any) -> list[Event]:
    """The events of a run that was in each state for so many seconds, the last of them its end."""
    events: list[Event] = [Submitted(time_unix_s=began_unix_s, **submitted)]
    for state, seconds in states:
        events.append(StateEntered(state=state, time_unix_s=began_unix_s))
        began_unix_s += seconds
    return events


def restored(time_unix_s: float, lost_s: float = 0.0) -> Restored:
    """Training goes on from a checkpoint after `lost_s` of work was lost."""
    return Restored(time_unix_s=time_unix_s, step=1, examples=1, epoch=1, lost_s=lost_s)

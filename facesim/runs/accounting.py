"""What went wrong in a run and what it cost, from its events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from facesim.runs.events import (
    Checkpoint,
    CheckpointDamaged,
    CheckpointFailed,
    Event,
    FaultDone,
    Recovering,
    Restored,
    StateEntered,
    Submitted,
    TaskStarted,
)

Events = Sequence[Event]
Kind = TypeVar("Kind", bound=Event)


def recovery(events: Events) -> dict[str, Any]:
    """Restarts, faults done on purpose, checkpoints, and what was lost: the examples whose training was lost and the
    seconds spent on them, from the checkpoint to the last that was recorded after it; the seconds from failures until
    training went on.
    """
    restored, written = of_kind(events, Restored), of_kind(events, Checkpoint)
    return {
        "restarts": len(of_kind(events, Recovering)),
        "faults": len(of_kind(events, FaultDone)),
        "lost_examples": sum(event.lost_examples for event in restored),
        "lost_s": sum(event.lost_s for event in restored),
        "down_s": _down_s(events),
        "checkpoints": len(written),
        "checkpoint_bytes": sum(event.bytes for event in written),
        "checkpoints_failed": len(of_kind(events, CheckpointFailed)),
        "checkpoints_damaged": len(of_kind(events, CheckpointDamaged)),
    }


def all_again(tasks: list[str], restart: int, why: str | None = None) -> Recovering:
    """The event that all tasks are started again once there is capacity, as `cluster` tells it of a host of its own."""
    why = why or "the capacity was taken away"
    return Recovering(task=tasks[-1], why=why, restart=restart, starting=tuple(tasks))


def replaced_workers(events: Events) -> int:
    """How often a worker alone was started again, while the others went on."""
    return sum(len(event.starting) for event in of_kind(events, Recovering) if "chief-0" not in event.starting)


def spent_s(events: Events) -> float:
    """Seconds that the run has gone on, over all the times that it was submitted: each time until it ended, not until
    that was heard of, which may be hours later.
    """
    total, begin, last, ended = 0.0, None, 0.0, False
    for event in events:
        if isinstance(event, Submitted):
            total += 0.0 if begin is None else max(0.0, last - begin)
            begin, ended = event.time_unix_s, False
        if not ended:
            last = event.time_unix_s
            ended = isinstance(event, StateEntered) and event.state.terminal
    return total + (0.0 if begin is None else max(0.0, last - begin))


def starts_unix_s(events: Events, role: str, index: int | None = None) -> list[float]:
    """When each process of a task, or of all tasks of a role, was started, ascending."""
    started = [(event.task.rsplit("-", 1), event.time_unix_s) for event in of_kind(events, TaskStarted)]
    return sorted(at for (of_role, number), at in started if of_role == role and index in (None, int(number)))


def _down_s(events: Events) -> float:
    """Seconds in which nothing trained, because all tasks were being started again."""
    total, failed = 0.0, None
    for event in events:
        if isinstance(event, Recovering) and "chief-0" in event.starting:
            failed = event.time_unix_s if failed is None else failed
        elif isinstance(event, Restored) and failed is not None:
            total, failed = total + max(0.0, event.time_unix_s - failed), None
        elif isinstance(event, Submitted):  # it ended before that, and nobody wanted it to train until now
            failed = None
    return total


def of_kind(events: Events, kind: type[Kind]) -> list[Kind]:
    """The events of one kind, in order."""
    return [event for event in events if isinstance(event, kind)]

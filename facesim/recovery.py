"""What went wrong in a run and what it cost, from its events."""

from __future__ import annotations

from typing import Any

Events = list[dict[str, Any]]


def recovery(events: Events) -> dict[str, Any]:
    """Restarts, faults done on purpose, checkpoints, and what was lost: the examples trained on in vain and the seconds
    spent on them, from the checkpoint to the last that was recorded after it; the seconds from failures until training
    went on.
    """
    restored, written = _named(events, "restored"), _named(events, "checkpoint")
    return {
        "restarts": len(_named(events, "recovering")),
        "faults": len(_named(events, "fault")),
        "lost_examples": sum(event["lost_examples"] for event in restored),
        "lost_s": sum(event["lost_s"] for event in restored),
        "down_s": _down_s(events),
        "checkpoints": len(written),
        "checkpoint_bytes": sum(event["bytes"] for event in written),
        "checkpoints_failed": len(_named(events, "checkpoint_failed")),
        "checkpoints_damaged": len(_named(events, "checkpoint_damaged")),
    }


def all_again(tasks: list[str], restart: int, why: str = "") -> dict[str, Any]:
    """The event that all tasks are started again once there is capacity, as `cluster` tells it of a host of its own."""
    why = why or "the capacity was taken away"
    return {"event": "recovering", "task": tasks[-1], "why": why, "restart": restart, "starting": tasks, "in_s": 0.0}


def replaced_workers(events: Events) -> int:
    """How often a worker alone was started again, while the others went on."""
    alone = [event["starting"] for event in _named(events, "recovering") if "chief-0" not in event["starting"]]
    return sum(len(tasks) for tasks in alone)


def spent_s(events: Events) -> float:
    """Seconds that the run has gone on, over all the times that it was submitted."""
    total, begin, last = 0.0, None, 0.0
    for event in events:
        if event["event"] == "submitted":
            total += 0.0 if begin is None else max(0.0, last - begin)
            begin = event["time_unix_s"]
        last = event["time_unix_s"]
    return total + (0.0 if begin is None else max(0.0, last - begin))


def _down_s(events: Events) -> float:
    """Seconds in which nothing trained, because all tasks were being started again."""
    total, failed = 0.0, None
    for event in events:
        if event["event"] == "recovering" and "chief-0" in event["starting"]:
            failed = event["time_unix_s"] if failed is None else failed
        elif event["event"] == "restored" and failed is not None:
            total, failed = total + max(0.0, event["time_unix_s"] - failed), None
    return total


def _named(events: Events, name: str) -> Events:
    return [event for event in events if event["event"] == name]

"""What happened to a run, picked out of its events: dicts as `cluster` tells them, or `facesim.runs.events.Event`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def named(events: Iterable[Any], kind: str) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if event["event"] == kind]


def states(events: Iterable[Any]) -> list[str]:
    """The states that a run was in, in order."""
    return [event["state"] for event in named(events, "state")]

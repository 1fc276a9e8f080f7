"""A run's events in words, as far as a user should know of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from facesim.spec.options import flag


def told(event: dict[str, Any]) -> str | None:
    """One event in words; None for what need not be told."""
    return _WORDS[event["event"]](event) if event["event"] in _WORDS else None


def _network(event: dict[str, Any]) -> str | None:
    if event["private"]:
        return None
    return (
        "this system allows no private network, so the cluster's ports can be reached from other machines; "
        "TensorFlow does not authenticate: use a trusted network or a firewall"
    )


def _stopping(event: dict[str, Any]) -> str | None:
    if "why" in event or "host" in event:
        return None  # told already: an interruption, or a limit; or one of several, which all stop
    return f"stopping; up to {event['grace_s']:.0f} s (Ctrl-C again ends at once)"


def _recovering(event: dict[str, Any]) -> str:
    tasks = event["starting"]
    what = "it" if tasks == [event["task"]] else f"all {len(tasks)} tasks" if len(tasks) > 1 else tasks[0]
    why = event.get("why") or f"{event['task']} failed"
    return f"{why}; starting {what} again in {event['in_s']:.1f} s (restart {event['restart']})"


def hung(event: dict[str, Any]) -> str:
    """How a task hung, in words."""
    if event["silent"]:
        return f"{event['task']} has not answered for {event['for_s']:.0f} s"
    return f"{event['task']} has made no progress for {event['for_s']:.0f} s ({event['doing']})"


def _restored(event: dict[str, Any]) -> str:
    source = f"from {event['file']}" if event["file"] else "from the beginning, for there is no checkpoint"
    lost = f"; {event['lost_examples']:,} examples are trained on again" if event["lost_examples"] else ""
    return f"going on {source}: epoch {event['epoch']}, {event['examples']:,} examples seen{lost}"


def _interruption(event: dict[str, Any]) -> str:
    when = f"in {event['notice_s']:g} s" if event["notice_s"] else "without notice"
    return f"interruption {event['number']}: the spot capacity goes {when}"


def _billed(event: dict[str, Any]) -> str:
    if event.get("emulated"):
        return f"{event['billable_s']} s would be billed, had instances taken as long"
    return f"AWS billed {event['billable_s']} s, ${event['cost_usd']:.4f}"


def _out_of_reach(event: dict[str, Any]) -> str:
    what = {
        "logs": "the job's logs cannot be read",
        "metrics": "the job's metrics cannot be read",
        "results": "the job's results cannot be brought home yet",
        "stop": "the job cannot be stopped yet",
    }.get(event.get("what", ""), "AWS is out of reach, the job goes on there")
    return f"{what}: {event['why']}"


_WORDS: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "network": _network,
    "stopping": _stopping,
    "recovering": _recovering,
    "gave_up": lambda event: (
        f"{event['task']} failed after {event['restarts']} restarts, as many as --max-restarts allows"
    ),
    "hung": lambda event: f"{hung(event)}, {event['limit_s']:.0f} s are allowed: it is treated as dead",
    "restored": _restored,
    "not_connected": lambda event: f"{event['task']}: {event['why']}",
    "checkpoint_failed": lambda event: f"a checkpoint could not be written: {event['why']}; training goes on",
    "checkpoint_damaged": lambda event: f"{event['file']} is damaged ({event['why']}); the one before it is used",
    "fault": lambda event: f"on purpose: {event['kind']} {event['target']}",
    "fault_failed": lambda event: f"could not {event['kind']} {event['target']}: {event['why']}",
    "interruption": _interruption,
    "waiting": lambda event: f"waiting for spot capacity, {event['capacity_in_s']:.0f} s",
    "limit_exceeded": lambda event: f"{flag(event['limit'].removesuffix('_s'))} {event['limit_s']:g} is reached",
    "state": lambda event: f"{event['state']} at {event['at']}" if "at" in event else None,
    "uploading": lambda event: (
        f"uploading {event['file']}: {event['sent_bytes'] / 1e6:,.0f} of {event['bytes'] / 1e6:,.0f} MB"
    ),
    "training_job": lambda event: f"training job {event['name']} in {event['region']}",
    "emulated": lambda event: f"{event['endpoint']} is not AWS: what runs there is emulated, and nothing is billed",
    "billed": _billed,
    "out_of_reach": _out_of_reach,
    "results_missing": lambda event: f"not all that the job left came home: {event['what']}",
    "monitor_ended": lambda _: (
        "the monitor ended early: resource use is not measured any more, training goes on (see monitor-0.log)"
    ),
}

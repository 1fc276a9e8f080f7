"""A run's events in words, as far as a user should know of them."""

from __future__ import annotations

import functools

from facesim.runs import events
from facesim.runs.events import Event
from facesim.spec.options import flag
from facesim.util.words import count_text


@functools.singledispatch
def in_words(event: Event) -> str | None:
    """One event in words; None for what need not be shown."""
    return None


@in_words.register
def _(event: events.Network) -> str | None:
    if event.private:
        return None
    return (
        "this system allows no private network, so the cluster's ports can be reached from other machines; "
        "TensorFlow does not authenticate: use a trusted network or a firewall"
    )


@in_words.register
def _(event: events.Stopping) -> str | None:
    if event.why is not None or event.host is not None:
        return None  # shown already: an interruption, or a limit; or one of several, which all stop
    return f"stopping; up to {event.grace_s:.0f} s (Ctrl-C again ends at once)"


@in_words.register
def _(event: events.Recovering) -> str:
    alone = event.starting == (event.task,)
    what = "it" if alone else f"all {len(event.starting)} tasks" if len(event.starting) > 1 else event.starting[0]
    why = event.why or f"{event.task} failed"
    return f"{why}; starting {what} again in {event.in_s:.1f} s (restart {event.restart})"


def hung(event: events.Hung) -> str:
    """How a task hung, in words."""
    if event.silent:
        return f"{event.task} has not answered for {event.for_s:.0f} s"
    return f"{event.task} has made no progress for {event.for_s:.0f} s ({event.doing})"


@in_words.register
def _(event: events.Hung) -> str:
    return f"{hung(event)}, {event.limit_s:.0f} s are allowed: it is treated as dead"


@in_words.register
def _(event: events.GaveUp) -> str:
    return f"{event.task} failed after {count_text(event.restarts, 'restart')}, as many as --max-restarts allows"


@in_words.register
def _(event: events.Restored) -> str:
    source = f"from {event.file}" if event.file else "from the beginning, as there is no checkpoint"
    lost = (
        f"; {count_text(event.lost_examples, 'example is', 'examples are')} trained on again"
        if event.lost_examples
        else ""
    )
    return f"continuing {source}: epoch {event.epoch}, {count_text(event.examples, 'example')} seen{lost}"


@in_words.register
def _(event: events.NotConnected) -> str:
    return f"{event.task}: {event.why}"


@in_words.register
def _(event: events.CheckpointFailed) -> str:
    if event.step is None:  # it was written, and could not be copied from where it was
        return (
            f"the checkpoints of {event.task} could not be stored: {event.why}; until they are, the run can go on from "
            "older ones alone"
        )
    return f"a checkpoint could not be written: {event.why}; training continues"


@in_words.register
def _(event: events.CheckpointDamaged) -> str:
    return f"{event.file} is damaged ({event.why}); the one before it is used"


@in_words.register
def _(event: events.FaultDone) -> str:
    return f"on purpose: {event.kind} {event.target}"


@in_words.register
def _(event: events.FaultFailed) -> str:
    return f"could not {event.kind} {event.target}: {event.why}"


@in_words.register
def _(event: events.Interruption) -> str:
    when = f"in {event.notice_s:g} s" if event.notice_s else "without notice"
    return f"interruption {event.number}: the spot capacity goes {when}"


@in_words.register
def _(event: events.Waiting) -> str:
    return f"waiting for spot capacity, {event.capacity_in_s:.0f} s"


@in_words.register
def _(event: events.LimitExceeded) -> str:
    return f"{flag(event.limit.removesuffix('_s'))} {event.limit_s:g} is reached"


@in_words.register
def _(event: events.StateEntered) -> str | None:
    return f"{event.state.value} at {event.at}" if event.at else None


@in_words.register
def _(event: events.Uploading) -> str:
    return f"uploading {event.file}: {event.sent_bytes / 1e6:,.0f} of {event.bytes / 1e6:,.0f} MB"


@in_words.register
def _(event: events.TrainingJobCreated) -> str:
    return f"training job {event.name} in {event.region}"


@in_words.register
def _(event: events.JobSetCreated) -> str:
    return f"JobSet {event.name} in the namespace {event.namespace}"


@in_words.register
def _(event: events.PodPending) -> str:
    return f"the pod {event.pod} does not start: {event.why}"


@in_words.register
def _(event: events.OutOfReach) -> str:
    what = {
        "logs": "the job's logs cannot be read",
        "metrics": "the job's metrics cannot be read",
        "upload": "what the job reads is not uploaded yet, it is tried again",
        "create": "the job is not made yet, it is tried again",
        "quota": "the job is not made yet, it is tried again",
        "capacity": "the job did not begin, it is made again",
        "checkpoints": "the job's old checkpoints cannot be removed",
        "results": "the job's results cannot be downloaded yet",
        "stop": "the job cannot be stopped yet",
    }.get(event.what or "", "the job is out of reach, which does not stop it")
    return f"{what}: {event.why}"


@in_words.register
def _(event: events.Emulated) -> str:
    return f"{event.endpoint} is not AWS: what runs there is emulated, and nothing is billed"


@in_words.register
def _(event: events.ResultsMissing) -> str:
    return f"some of the results of the job are missing: {event.what}"


@in_words.register
def _(event: events.Billed) -> str:
    if event.emulated:
        return f"{event.billable_s:.0f} s would be billed, had instances taken as long"
    kept = f"; instances that are kept cost up to ${event.kept_usd:.4f} more" if event.kept_usd else ""
    return f"AWS billed {event.billable_s:.0f} s, ${event.cost_usd:.4f}{kept}"


@in_words.register
def _(_: events.MonitorEnded) -> str:
    return "the monitor ended early: resource use is not measured any more, training continues (see monitor-0.log)"

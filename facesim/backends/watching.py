"""Runs of this machine, looked at by another command than the one that runs them.

All that is known of them is in their directories: the claim says who runs a run and whether anybody does, its events
and samples say how far it is. What cannot be known from there is not guessed.
"""

from __future__ import annotations

import getpass
import os
import signal
import time
from collections.abc import Iterator

import psutil

from cluster import clock
from facesim.backends.base import Attached, Cancelled, LeftRunning, Line, Status, Target
from facesim.metrics.progress import Progress
from facesim.runs.accounting import of_kind, spent_s
from facesim.runs.claim import Holder, Look, names
from facesim.runs.directory import Run
from facesim.runs.events import Event, StateEntered, Submitted, events_in
from facesim.runs.states import RunState
from facesim.util.errors import FacesimError, InputError, reason
from facesim.util.files import LineTail

#: How often what others write is looked at.
_EVERY_S = 0.2


def status(target: Target) -> Status:
    """How a run of this machine is, by its directory."""
    run = _run(target)
    look, job, result, events = run.claim.look(), run.job(), run.result(), run.events()
    known = {
        "name": run.id,
        "directory": str(run.directory),
        "backend": job.backend.name,
        "strategy": job.strategy.name,
        "seed": job.experiment.seed,
        "tested_in_words": job.experiment.data_spec.tested_in_words,
        "running": look.held,
        "tags": dict(job.backend.tags),
        "began_unix_s": events[0].time_unix_s if events else None,
        "spans": _spans(events, running=look.held and result is None),
    }
    if result is not None:  # while somebody has it, it is just ending, or about to go on
        notes = (result.failure,) if result.failure else ()
        return Status(
            **known,
            state=result.state.value,
            measurement=result.measurement and result.measurement.value,
            total_s=result.total_s,
            images_per_s=result.images_per_s,
            held_out_accuracy=result.held_out_accuracy,
            process=look.names() if look.held else None,
            notes=(*notes, "somebody is about to continue it") if look.held and _is_older(run) else notes,
        )
    progress = Progress(run)
    progress.update()
    states = of_kind(events, StateEntered)
    if look.held:
        here = {"state": states[-1].state.value if states else RunState.STARTING.value, "process": look.names()}
        return Status(**known, **here, **progress.facts(), left_s=progress.left_s, total_s=_gone_on_s(events))
    elsewhere = tuple(holder for holder in look.holders if not holder.is_here)
    known["running"] = None if elsewhere else False
    return Status(
        **known,
        state=RunState.UNFINISHED.value,
        **progress.facts(),
        total_s=spent_s(events),
        notes=(_why_unfinished(run, look),),
    )


def watch(target: Target) -> Attached:
    """A run of this machine, and what shows how it goes on; nothing, if it has ended.

    Raises:
        InputError: nobody runs it, and it has no result; or somebody does on another machine.
    """
    run = _run(target)
    run.job()
    if not run.claim.look().held:
        # Its result is written before it is let go, so it is looked for afterwards.
        if run.result() is None:
            raise InputError(_why_unfinished(run, run.claim.look()))
        return Attached(run)
    return Attached(run, Watched(run), recorded=True)


class Watched:
    """A run that another command follows, as an execution: it is looked at, and left alone.

    `Execution.stop`, which is what Ctrl-C asks for, ends the looking.
    """

    def __init__(self, run: Run):
        self._run = run
        self._left = False

    def events(self, tick_s: float) -> Iterator[Event | None]:
        """What has happened since it was submitted for the last time, then what happens until its end.

        Raises:
            LeftRunning: the user stopped looking.
            InputError: it was killed: it has no result.
        """
        tail = LineTail(self._run.events_file)
        events = list(events_in(tail.new()))
        begins = [position for position, event in enumerate(events) if isinstance(event, Submitted)]
        events = events[begins[-1] :] if begins else events
        while True:
            held = self._run.claim.look().held  # before the events are read: none is missed
            events += events_in(tail.new())
            yield from events
            events = []
            if not held:
                break
            if self._left:
                raise LeftRunning(
                    f"{self._run.directory} is still run by {self._run.claim.look().names()}; `facesim attach "
                    f"{self._run.directory}` follows it again, `facesim cancel {self._run.directory}` ends it"
                )
            yield None
            time.sleep(min(tick_s, _EVERY_S))
        if self._run.result() is None:
            raise InputError(_why_unfinished(self._run, self._run.claim.look()))

    def stop(self) -> None:
        self._left = True

    def kill(self) -> None:
        self._left = True

    def close(self) -> None:
        pass


def lines(target: Target, source: str | None, follow: bool) -> Iterator[Line]:
    """What the tasks of a run of this machine printed, file by file; with `follow` what they print until its end, as
    it comes.

    Raises:
        InputError: there is no task `source`.
    """
    run = _run(target)
    due = [*run.job().tasks]
    if source is not None and source not in {*due, *_sources(run)}:
        there = ", ".join(sorted({*due, *_sources(run)}))
        raise InputError(f"{run.directory} has no task or host {source!r}; there are {there}")
    return _lines(run, source, follow)


def _lines(run: Run, source: str | None, follow: bool) -> Iterator[Line]:
    tails: dict[str, LineTail] = {}
    while True:
        going_on = follow and run.claim.look().held  # before the lines are read: none is missed
        for name in _sources(run):
            if source in (None, name):
                tail = tails.setdefault(name, LineTail(run.log_file(name)))
                for line in tail.new(whole=going_on):
                    yield Line(name, line.decode("utf-8", "replace"))
        if not going_on:
            return
        time.sleep(_EVERY_S)


def cancel(target: Target, within_s: float) -> Cancelled:
    """Drain a run of this machine: as Ctrl-C where it runs.

    Raises:
        InputError: nobody runs it, though it has no result; or a process that is another machine's or user's does, or
            one that cannot be verified.
        FacesimError: it goes on after `within_s`.
    """
    run = _run(target)
    run.job()
    look = run.claim.look()
    if not look.held:
        result = run.result()
        if result is None:
            raise InputError(_why_unfinished(run, look))
        return Cancelled(run.id, result.state.value, ended=True)
    process = _who_ends_it(run, look)
    try:
        process.send_signal(signal.SIGTERM)
    except psutil.NoSuchProcess:
        pass  # it has ended meanwhile
    except psutil.AccessDenied:
        raise InputError(f"{run.directory} is run by {look.names()}, which this user may not end") from None
    until_s = time.monotonic() + within_s
    while run.claim.look().held:
        if time.monotonic() > until_s:
            raise FacesimError(
                f"{run.directory} was asked to end and still runs after {within_s:g} s: "
                f"{run.claim.look().names()}; wait for it, or cancel it again, which ends it at once"
            )
        time.sleep(_EVERY_S / 4)
    result = run.result()
    if result is None:
        raise FacesimError(_why_unfinished(run, look))
    return Cancelled(run.id, result.state.value, ended=False)


def _who_ends_it(run: Run, look: Look) -> psutil.Process:
    """The process to ask: the command, or what is left of what it started.

    Raises:
        InputError: there is none that certainly runs the run, and belongs to this user.
    """
    if not any(holder.is_here for holder in look.alive):
        raise InputError(f"{run.directory} is run by {look.names()}; cancel it there")
    for holder in look.alive:
        process = holder.process
        if process is None:
            continue
        if _user(process) != os.getuid():
            raise InputError(
                f"{run.directory} is run by {holder} of another user than {getpass.getuser()}; ask that user to end it"
            )
        if run.claim.is_held_by(process):
            return process
    raise InputError(
        f"{run.directory} is said to be run by {look.names()}, which does not have it open: it may run in a container, "
        "or on another machine of the same name; end it there"
    )


def _user(process: psutil.Process) -> int | None:
    try:
        return process.uids().real
    except psutil.Error:
        return None


def _run(target: Target) -> Run:
    assert target.run is not None, "a backend without a list of its own knows runs by their directories alone"
    return target.run


def _sources(run: Run) -> list[str]:
    """The tasks, or hosts, that have printed something."""
    try:
        return sorted(file.stem for file in run.logs.glob("*.log"))
    except OSError as error:
        raise InputError(f"cannot read {run.logs}: {reason(error)}") from None


def _why_unfinished(run: Run, look: Look) -> str:
    """Of a run that nobody has and that has no result."""
    elsewhere: tuple[Holder, ...] = tuple(holder for holder in look.holders if not holder.is_here)
    if elsewhere:
        return (
            f"{run.directory} was begun by {names(elsewhere[:1])}; whether that still runs can be seen only there, "
            "and here it has no result yet"
        )
    who = f"{names(look.holders[:1])} is gone and" if look.holders else "who ran it is gone and"
    remedy = f"continue with `facesim run --resume {run.directory}`"
    return f"nothing of {run.directory} runs any more: {who} did not end it; {remedy}"


def _is_older(run: Run) -> bool:
    """Whether somebody has had the run for longer than it takes to let go of it after its result is written."""
    try:
        return time.time() - run.result_file.stat().st_mtime > 5.0
    except OSError:
        return False


def _gone_on_s(events: list[Event]) -> float:
    """Seconds until now."""
    if not events:
        return 0.0
    return spent_s(events) + max(0.0, clock.time_unix_s() - events[-1].time_unix_s)


def _spans(events: list[Event], running: bool) -> tuple[tuple[str, float, float | None], ...]:
    """The states that a run was in, since it was submitted for the last time."""
    begins = [position for position, event in enumerate(events) if isinstance(event, Submitted)]
    states = of_kind(events[begins[-1] :] if begins else events, StateEntered)
    ends: list[float | None] = [event.time_unix_s for event in states[1:]]
    ends.append(None if running or not events else events[-1].time_unix_s)
    return tuple((state.state.value, state.time_unix_s, end) for state, end in zip(states, ends, strict=False))

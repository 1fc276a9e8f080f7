"""How a task that hangs is noticed.

Every task's process beats: a thread of it tells the supervisor, every so often, how long ago the task last made
progress. A process that is stopped, or whose interpreter is stuck, does not beat; one that waits for what does not come
beats, and tells so. `Pulses` is the supervisor's end: it judges which task to hold responsible.

What a task does beside its steps, starting, evaluating, saving, may take long and is reported by `phase`. While it
lasts, the others, who may have to wait for it, are not judged. On the other hosts of a job, where a task waits for the
first host's end, nobody knows what the chief does: there only a process that does not answer is taken for hung.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

#: What tasks report of themselves by this module.
BEAT = "beat"

TRAINING = "training"
#: The phase of a task that only waits for others, for as long as it takes.
WAITING = "waiting"
_STARTING = "start-up"

#: A task may go on for as many of its steps without one.
_STEPS = 20
#: How long what is no step may take: start-up, the first step, for which everything is compiled, evaluating, saving.
_LONG_S = 300.0
#: Of the steps that are averaged.
_RECENT = 50
#: Steps that are heard of closer together were told at once, as those of a group are: the first of them took the time.
_AT_ONCE_S = 1e-4


def beat_s(hang_s: float) -> float:
    """Seconds between two beats."""
    return min(2.0, max(0.1, hang_s / 10))


class _Progress:
    """What this process has reported of its progress."""

    def __init__(self) -> None:
        self.doing = _STARTING
        self.last_s = time.monotonic()
        self.steps: deque[float] = deque(maxlen=_RECENT)
        self.fellows: dict[str, float] = {}  # when each was last heard of
        self.owing = 0
        self.lock = threading.Lock()


_progress = _Progress()


def progressed(fellow: str | None = None, owing: int = 0) -> None:
    """A step has been made: by this task or, as this task has just learnt, by `fellow`, who works for it. `owing` are
    the steps that fellows have been given and have not made yet.
    """
    with _progress.lock:
        now_s = time.monotonic()
        took_s = now_s - _progress.last_s
        if _progress.doing == TRAINING and took_s > _AT_ONCE_S:
            _progress.steps.append(took_s)
        _progress.last_s = now_s
        if fellow is not None:
            _progress.fellows[fellow] = now_s
            _progress.owing = owing


def expects(fellows: list[str]) -> None:
    """From now on these tasks work for this one."""
    with _progress.lock:
        _progress.fellows = dict.fromkeys(fellows, time.monotonic())
        _progress.owing = len(fellows)


@contextmanager
def phase(doing: str) -> Iterator[None]:
    """What this task does meanwhile: `TRAINING`, in which there are steps, or something else that may take long."""

    def enter(what: str) -> None:
        with _progress.lock:
            _progress.doing, _progress.last_s = what, time.monotonic()
            _progress.fellows = dict.fromkeys(_progress.fellows, _progress.last_s)

    before = _progress.doing
    enter(doing)
    try:
        yield
    finally:
        enter("other" if before == _STARTING else before)


def start_beating(tell: Callable[..., None], every_s: float) -> None:
    """Have a thread of this process report its progress for as long as it lives."""
    global _progress  # noqa: PLW0603
    _progress = _Progress()  # not what the process has learnt that this one was forked from

    def beat() -> None:
        while True:
            with _progress.lock:
                now_s, steps = time.monotonic(), _progress.steps
                content = {
                    "doing": _progress.doing,
                    "idle_s": now_s - _progress.last_s,
                    "steps": len(steps),
                    "step_s": sum(steps) / len(steps) if steps else 0.0,
                    "fellows": {name: now_s - last_s for name, last_s in _progress.fellows.items()},
                    "owing": _progress.owing,
                }
            try:
                tell(BEAT, **content)
            except OSError:  # nobody listens
                return
            time.sleep(every_s)

    threading.Thread(target=beat, name="beat", daemon=True).start()


@dataclass(frozen=True)
class Hung:
    """A task that is to be taken for dead, and why. `for_s` is how long it has done nothing, `limit_s` how long it may.
    It is `silent` when its process does not answer at all.
    """

    task: str
    for_s: float
    limit_s: float
    silent: bool
    doing: str


@dataclass
class _Pulse:
    """What is known of one task: when its process was started and last heard of, and what it reported then."""

    started_s: float
    heard_s: float
    last_beat: dict[str, Any] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        return self.last_beat["doing"] == TRAINING and self.last_beat["steps"] > 1


class Pulses:
    """Judges which of a host's tasks hang. None may be silent for `hang_s`, nor be without a step for that long and for
    `_STEPS` of its own steps, nor spend `_LONG_S`, or `hang_s` if that is more, on anything else.

    Args:
        tasks: names of those that have steps; others serve them.
        leader: the one that has fellows, if any has.
    """

    def __init__(self, hang_s: float, tasks: set[str], leader: str):
        self._hang_s, self._tasks, self._leader = hang_s, tasks, leader
        self._pulses: dict[str, _Pulse] = {}
        self._ended_s = -math.inf  # when the last one ended; others may have to wait for its successor
        self._aside_s = -math.inf  # when one was last seen at something else than training
        self._there_s = math.inf  # when this process last looked or heard
        self._since_s = -math.inf  # since when it has done so all the time

    def started(self, task: str) -> None:
        now_s = self._now_s()
        self._pulses[task] = _Pulse(now_s, now_s)

    def heard(self, task: str, beat: dict[str, Any]) -> None:
        if task in self._pulses:
            self._pulses[task].heard_s, self._pulses[task].last_beat = self._now_s(), beat

    def ended(self, task: str) -> None:
        if self._pulses.pop(task, None):
            self._ended_s = self._now_s()

    def hung(self) -> list[Hung]:
        """The tasks to be taken for dead now. To be asked again and again."""
        now_s = self._now_s()
        silent_s = {name: self._seconds(now_s, now_s - pulse.heard_s) for name, pulse in self._pulses.items()}
        silent = [name for name, seconds in silent_s.items() if seconds > self._hang_s]
        if silent:
            return [Hung(name, silent_s[name], self._hang_s, True, self._doing(name)) for name in silent]
        if any(seconds > self._hang_s / 2 for seconds in silent_s.values()):
            return []  # it may soon turn out that the others wait for this one
        return self._without_progress(now_s)

    def _now_s(self) -> float:
        """The time now. This process may have been stopped itself, alone or with all tasks, like a machine that is
        suspended: what did not happen meanwhile is held against nobody.
        """
        now_s = time.monotonic()
        if now_s - self._there_s > self._hang_s / 2:
            self._since_s = now_s
        self._there_s = now_s
        return now_s

    def _seconds(self, now_s: float, seconds: float) -> float:
        """Of the `seconds` until now those in which this process was there."""
        return min(seconds, now_s - self._since_s)

    def _idle_s(self, pulse: _Pulse, now_s: float) -> float:
        return self._seconds(now_s, now_s - pulse.heard_s + pulse.last_beat["idle_s"])

    def _doing(self, task: str) -> str:
        return self._pulses[task].last_beat.get("doing", _STARTING) if task in self._tasks else "serving"

    def _without_progress(self, now_s: float) -> list[Hung]:
        working = {name: pulse for name, pulse in self._pulses.items() if name in self._tasks and pulse.last_beat}
        long_s = max(self._hang_s, _LONG_S)
        aside = [(name, pulse) for name, pulse in working.items() if not pulse.trains]
        if aside:
            self._aside_s = now_s
            return [
                Hung(name, idle_s, long_s, False, pulse.last_beat["doing"])
                for name, pulse in aside
                if pulse.last_beat["doing"] != WAITING and (idle_s := self._idle_s(pulse, now_s)) > long_s
            ]
        if not working:
            return []
        longest = max(working, key=lambda name: self._idle_s(working[name], now_s))
        pulse = working[longest]
        # Until a moment ago it may have waited for another's evaluation, and have told nothing since.
        idle_s, limit_s = min(self._idle_s(pulse, now_s), now_s - self._aside_s), self._limit_s(pulse, now_s)
        if idle_s > limit_s:
            return [Hung(name, idle_s, limit_s, False, TRAINING) for name in self._debtors(longest, pulse)]
        leader = working.get(self._leader)
        return self._late(leader, now_s) if leader and self._idle_s(leader, now_s) < self._hang_s / 2 else []

    def _limit_s(self, pulse: _Pulse, now_s: float) -> float:
        """How long there may be no step: long, if a task has ended or been started since the last."""
        changed_s = max(self._ended_s, *(each.started_s for each in self._pulses.values()))
        if changed_s > now_s - self._idle_s(pulse, now_s):
            return max(self._hang_s, _LONG_S)
        return max(self._hang_s, _STEPS * pulse.last_beat["step_s"])

    def _debtors(self, task: str, pulse: _Pulse) -> list[str]:
        """Who holds up a task that has no steps any more: the fellows that owe it one, if these are not all of them;
        else nobody knows, and it is itself.
        """
        fellows = pulse.last_beat["fellows"]
        owing = pulse.last_beat["owing"]
        if not 0 < owing < len(fellows):
            return [task]
        oldest = sorted(fellows, key=lambda name: fellows[name], reverse=True)[:owing]
        return [name for name in oldest if name in self._pulses] or [task]

    def _late(self, leader: _Pulse, now_s: float) -> list[Hung]:
        """Fellows that do nothing while others do."""
        beat, late = leader.last_beat, []
        for name, ago_s in beat["fellows"].items():
            pulse = self._pulses.get(name)
            if pulse is None:
                continue
            idle_s = self._seconds(now_s, now_s - leader.heard_s + ago_s)
            again = pulse.started_s > now_s - idle_s  # not heard of since it was started again
            limit_s = max(self._hang_s, _LONG_S if again else _STEPS * len(beat["fellows"]) * beat["step_s"])
            since_s = min(idle_s, now_s - pulse.started_s)
            if since_s > limit_s:
                late.append(Hung(name, since_s, limit_s, False, TRAINING))
        return late if len(late) < len(beat["fellows"]) else []

"""Which task is held responsible when nothing goes on: the judgement alone, from what tasks have told."""

from __future__ import annotations

from typing import Any

import pytest

from cluster import pulse
from cluster.pulse import TRAINING, WAITING, Pulses


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now_s = 1000.0
        monkeypatch.setattr(pulse.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def beat(doing: str = TRAINING, idle_s: float = 0.0, step_s: float = 0.1, steps: int = 20, **fellows: Any) -> dict:
    owing = fellows.pop("owing", 0)
    return {"doing": doing, "idle_s": idle_s, "step_s": step_s, "steps": steps, "fellows": fellows, "owing": owing}


def look_on(clock: Clock, pulses: Pulses, seconds: float) -> None:
    """Let so much time pass in which nothing is told."""
    for _ in range(int(seconds)):
        clock.now_s += 1
        pulses.hung()


def judged(clock: Clock, beats: dict[str, dict], *, hang_s: float = 10, after_s: float = 1000, working=None):
    """Who hangs, when tasks that were started `after_s` ago tell this."""
    pulses = Pulses(hang_s, set(beats) if working is None else working, "chief-0")
    for name in beats:
        pulses.started(name)
    look_on(clock, pulses, after_s)
    for name, report in beats.items():
        pulses.heard(name, report)
    return [(hung.task, hung.silent) for hung in pulses.hung()]


def test_who_takes_a_step_now_and_then_does_not_hang(clock):
    assert judged(clock, {"chief-0": beat(idle_s=9)}) == []
    assert judged(clock, {"chief-0": beat(idle_s=11)}) == [("chief-0", False)]


@pytest.mark.parametrize("report", [beat(), beat(idle_s=70)], ids=["only who looks was stopped", "all were"])
def test_what_happened_while_nobody_looked_is_held_against_nobody(clock, report):
    pulses = Pulses(10, {"chief-0"}, "chief-0")
    pulses.started("chief-0")
    pulses.heard("chief-0", beat())
    assert pulses.hung() == []

    clock.now_s += 70
    assert pulses.hung() == []  # before it could hear of them
    pulses.heard("chief-0", report)
    clock.now_s += 1
    assert pulses.hung() == []

    for _ in range(11):
        clock.now_s += 1
        victims = pulses.hung()
    assert [hung.task for hung in victims] == ["chief-0"]


def test_who_is_slow_may_take_twenty_of_its_steps(clock):
    assert judged(clock, {"chief-0": beat(idle_s=39, step_s=2)}) == []
    assert judged(clock, {"chief-0": beat(idle_s=41, step_s=2)}) == [("chief-0", False)]


@pytest.mark.parametrize("doing", ["start-up", "evaluation", "checkpoint"])
def test_what_is_no_step_may_take_five_minutes_and_the_others_wait(clock, doing):
    peer = beat(idle_s=280)

    assert judged(clock, {"chief-0": beat(doing, idle_s=290), "worker-0": peer}) == []
    assert judged(clock, {"chief-0": beat(doing, idle_s=310), "worker-0": peer}) == [("chief-0", False)]


def test_who_waited_for_an_evaluation_is_given_time_to_make_its_next_step(clock):
    pulses = Pulses(10, {"chief-0", "worker-0"}, "chief-0")
    for name in ("chief-0", "worker-0"):
        pulses.started(name)
    look_on(clock, pulses, 1000)
    for waited_s in range(1, 101, 4):
        pulses.heard("chief-0", beat("evaluation", idle_s=waited_s))
        pulses.heard("worker-0", beat(idle_s=waited_s))
        assert pulses.hung() == []
        look_on(clock, pulses, 4)

    pulses.heard("chief-0", beat())  # the worker's next report is of before its next step

    assert pulses.hung() == []
    for waited_s in range(100, 112):
        pulses.heard("chief-0", beat(idle_s=waited_s - 100))
        pulses.heard("worker-0", beat(idle_s=waited_s))
        look_on(clock, pulses, 1)
    assert [hung.task for hung in pulses.hung()] == ["worker-0"]


def test_steps_that_are_told_at_once_took_their_time_together(clock, monkeypatch):
    monkeypatch.setattr(pulse, "_progress", pulse._Progress())
    with pulse.phase(TRAINING):
        for _ in range(3):
            clock.now_s += 75
            for _ in range(500):
                pulse.progressed()

        assert list(pulse._progress.steps) == [75] * 3


def test_who_waits_for_another_host_may_do_so_for_ever_and_nobody_beside_it_is_judged(clock):
    assert judged(clock, {"watcher-1": beat(WAITING, idle_s=9000), "worker-1": beat(idle_s=900)}) == []


def test_of_peers_that_wait_for_each_other_the_first_that_stopped_is_named(clock):
    assert judged(clock, {"chief-0": beat(idle_s=11.0), "worker-0": beat(idle_s=11.4)}) == [("worker-0", False)]


def test_a_fellow_that_does_nothing_while_others_do_is_named(clock):
    beats = {"chief-0": beat(**{"worker-0": 0.1, "worker-1": 30.0}), "worker-0": beat(), "worker-1": beat()}

    assert judged(clock, beats, working={"chief-0"}) == [("worker-1", False)]


def test_a_fellow_that_was_started_again_is_given_time(clock):
    pulses = Pulses(10, {"chief-0"}, "chief-0")
    for name in ("chief-0", "worker-0", "worker-1"):
        pulses.started(name)
    look_on(clock, pulses, 1000)
    pulses.started("worker-1")
    for after_s, expected in ((60, []), (241, ["worker-1"])):
        for _ in range(after_s):
            clock.now_s += 1
            for name in ("worker-0", "worker-1"):
                pulses.heard(name, beat())
            pulses.heard("chief-0", beat(**{"worker-0": 0.1, "worker-1": 900.0}))
            victims = pulses.hung()
        assert [hung.task for hung in victims] == expected


def test_who_waits_for_one_that_ended_is_given_time_until_its_successor_is_there(clock):
    pulses = Pulses(10, {"chief-0"}, "chief-0")
    for name in ("chief-0", "worker-0"):
        pulses.started(name)
    look_on(clock, pulses, 1000)
    pulses.ended("worker-0")
    pulses.heard("chief-0", beat(idle_s=11))
    assert pulses.hung() == []

    pulses.started("worker-0")
    pulses.heard("chief-0", beat(idle_s=12))
    assert pulses.hung() == []


def test_who_is_silent_is_named_before_those_who_wait_for_it(clock):
    pulses = Pulses(10, {"chief-0"}, "chief-0")
    for name in ("chief-0", "ps-0"):
        pulses.started(name)
    look_on(clock, pulses, 6)
    pulses.heard("chief-0", beat(idle_s=12))
    assert pulses.hung() == []  # ps-0 may be the cause
    look_on(clock, pulses, 5)
    pulses.heard("chief-0", beat(idle_s=17))

    assert [(hung.task, hung.silent) for hung in pulses.hung()] == [("ps-0", True)]

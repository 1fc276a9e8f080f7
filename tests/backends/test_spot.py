"""A run on spot capacity, with real processes: states, interruptions, waiting, limits, and what it is billed for."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.plan import Plan, Task
from cluster.processes import LocalNode
from facesim.backends.lifecycle import LifeCycle
from facesim.billing import make_bill
from facesim.billing.market import Capacity, Market, market
from facesim.runs.events import event_of
from facesim.spec.spot import Spot
from tests.conftest import still_running
from tests.support.events import named, pids, states

pytestmark = pytest.mark.slow

TICK_S = 0.05
M5 = "ml.m5.2xlarge"


class Stays:
    """Capacity for these times in turn, in seconds since the launch; the last for ever."""

    def __init__(self, *stays: tuple[float, float]):
        self._stays = list(stays)

    def grant(self, asked_s: float) -> Capacity:
        begin_s, end_s = self._stays.pop(0) if self._stays else (asked_s, math.inf)
        return Capacity(max(asked_s, begin_s), max(asked_s, end_s))


def task(directory: Path, role: str, function: str, *arguments: object) -> Task:
    log = str(directory / f"{role}-0.log")
    return Task(role, 0, f"tests.cluster.fake_tasks:{function}", arguments, log, function.startswith("serve"))


def life(directory: Path, *tasks: Task, capacity: Market | None = None, grace_s: float = 8.0, **limits) -> LifeCycle:
    """A life of a node that runs `tasks`, submitted anew after each interruption."""
    plan = directory / "plan.json"
    plan.write_text(Plan(tasks=tasks, leader="chief-0", grace_s=grace_s).to_json())
    return LifeCycle(lambda: LocalNode(plan, directory / "node.log", dict(os.environ)), capacity=capacity, **limits)


def follow(execution: LifeCycle, on: Callable[[dict], None] = lambda event: None) -> list[dict]:
    """The events of a life to its end, at which nothing of it may run any more."""
    events = []
    try:
        for event in execution.events(TICK_S):
            if event is not None:
                events.append(event)
                on(event)
    finally:
        execution.close()
    assert not still_running(pids(events))
    return events


ATTEMPT = ["Starting", "Downloading", "Training"]


def test_a_life_without_interruptions_has_sagemakers_states(tmp_path):
    events = follow(life(tmp_path, task(tmp_path, "chief", "work", 0.2), task(tmp_path, "ps", "serve")))

    assert states(events) == [*ATTEMPT, "Uploading"]
    assert events[-1]["event"] == "node_ended"
    assert events[-1]["outcome"] == "completed"
    assert len(named(events, "node_ended")) == 1


def test_a_spot_run_with_three_interruptions_goes_on_each_time_and_its_bill_adds_up(tmp_path):
    # Hosts come and go in minutes that pass as seconds: three lives of a minute, then one as long as it takes.
    lines = ["0,add,a", "60000,remove,a", "75000,add,b", "135000,remove,b", "150000,add,c", "210000,remove,c"]
    (tmp_path / "trace.csv").write_text("\n".join([*lines, "225000,add,d", "86400000,remove,d"]))
    where = market(Spot(trace=str(tmp_path / "trace.csv"), wait_s=0), hosts=1, seed=0)
    steps = 60  # of 0.06 s: more than three lives, whatever else this machine does
    execution = life(
        tmp_path, task(tmp_path, "chief", "work_in_steps", str(tmp_path), steps, 0.06), capacity=where, speed=60.0
    )

    events = follow(execution)
    ended = {"event": "state", "state": "Completed", "time_unix_s": time.time()}  # as a study notes it
    bill = make_bill(map(event_of, [*events, ended]), [(M5, 2)], discount=0.6)

    assert states(events) == [*ATTEMPT, "Interrupted"] * 3 + [*ATTEMPT, "Uploading"]
    assert events[-1]["outcome"] == "completed"
    assert (tmp_path / "steps").read_text() == "." * steps
    assert [event["number"] for event in named(events, "interruption")] == [1, 2, 3]
    assert bill.interruptions == 3
    begins = [each.begin_unix_s for each in bill.transitions]
    ends = [each.end_unix_s for each in bill.transitions]
    assert begins[1:] == ends[:-1]  # no second is missing, none is counted twice
    assert begins[0] == events[0]["time_unix_s"]
    assert ends[-1] == ended["time_unix_s"]
    assert bill.training_s + bill.waiting_s == pytest.approx(ends[-1] - begins[0], abs=1)
    assert bill.training_s == round(sum(each.seconds for each in bill.transitions if each.billable))
    waits = [each.seconds for each in bill.transitions if each.state == "Interrupted"]
    assert waits == [pytest.approx(0.25, abs=0.25)] * 3  # what the trace leaves of it after the processes have ended
    assert bill.billable_s == round(bill.training_s * 0.4)
    assert bill.cost_usd == pytest.approx(2 * 0.461 * bill.billable_s / 3600)


def test_without_notice_a_host_is_gone_before_its_tasks_can_save(tmp_path):
    execution = life(
        tmp_path, task(tmp_path, "chief", "note_sigterm", str(tmp_path)), capacity=Stays((0, 1)), max_run_s=2
    )

    events = follow(execution)

    assert "Interrupted" in states(events)
    assert (tmp_path / "asked").read_text() == "asked\n"  # at the limit, and at no interruption


def test_with_notice_the_leader_drains(tmp_path):
    where = Stays((0, 1), (0, 2.5))
    execution = life(
        tmp_path, task(tmp_path, "chief", "note_sigterm", str(tmp_path)), capacity=where, notice_s=5, max_run_s=6
    )
    begin = time.monotonic()

    events = follow(execution, lambda event: execution.stop() if event.get("number") == 2 else None)

    assert (tmp_path / "asked").read_text() == "asked\n" * 2
    assert time.monotonic() - begin < 5  # nobody waits for the notice to pass
    assert states(events)[: 2 * len(ATTEMPT) + 1] == [*ATTEMPT, "Interrupted", *ATTEMPT]
    assert "Uploading" not in states(events)  # draining is not being done
    assert events[-1]["outcome"] == "stopped"


def test_who_does_not_drain_within_the_notice_is_killed(tmp_path):
    chief = task(tmp_path, "chief", "serve_stubbornly")
    execution = life(tmp_path, chief, capacity=Stays((0, 0.8)), notice_s=0.5, grace_s=60)

    events = follow(execution, lambda event: execution.kill() if event.get("state") == "Interrupted" else None)

    (reclaim,) = named(events, "interruption")
    gone = next(event for event in events if event.get("state") == "Interrupted")
    assert 0.4 < gone["time_unix_s"] - reclaim["time_unix_s"] < 3


def test_work_that_is_done_is_not_interrupted_any_more(tmp_path):
    chief, peer = task(tmp_path, "chief", "work", 0.0), task(tmp_path, "worker", "work", 3.0)

    events = follow(life(tmp_path, chief, peer, capacity=Stays((0, 2))))

    assert not named(events, "interruption")
    assert events[-1]["outcome"] == "completed"
    assert named(events, "task_ended")[-1]["time_unix_s"] - events[0]["time_unix_s"] > 2


def test_a_task_that_fails_by_itself_ends_the_run(tmp_path):
    events = follow(life(tmp_path, task(tmp_path, "chief", "crash", 0.1), capacity=Stays((0, 600))))

    assert events[-1]["outcome"] == "failed"
    assert states(events) == ATTEMPT


def test_a_run_that_has_its_hosts_for_too_long_drains_and_says_so(tmp_path):
    chief = task(tmp_path, "chief", "drain", str(tmp_path))
    server = task(tmp_path, "ps", "serve_with_pid", str(tmp_path))

    events = follow(life(tmp_path, server, chief, max_run_s=1.0))

    assert (tmp_path / "drained").exists()
    assert events[-1]["outcome"] == "max_runtime_exceeded"
    assert [(e["limit"], e["limit_s"]) for e in named(events, "limit_exceeded")] == [("max_run_s", 1.0)]
    assert states(events) == [*ATTEMPT, "Stopping"]


def test_max_run_counts_every_attempt_and_no_waiting(tmp_path):
    chief = task(tmp_path, "chief", "work", 600)

    events = follow(life(tmp_path, chief, capacity=Stays((0, 1), (2.5, 600)), max_run_s=2.0))

    took_s = events[-1]["time_unix_s"] - events[0]["time_unix_s"]
    assert events[-1]["outcome"] == "max_runtime_exceeded"
    assert 3.4 < took_s < 6  # a second, a wait of one and a half, a second


def test_who_waits_too_long_for_capacity_gives_up(tmp_path):
    chief = task(tmp_path, "chief", "work", 600)

    events = follow(life(tmp_path, chief, capacity=Stays((0, 2), (600, 900)), max_wait_s=3.5))

    assert events[-1]["outcome"] == "max_wait_time_exceeded"
    assert states(events) == [*ATTEMPT, "Interrupted"]
    assert 3.4 < events[-1]["time_unix_s"] - events[0]["time_unix_s"] < 6


def test_max_wait_counts_running_too(tmp_path):
    events = follow(life(tmp_path, task(tmp_path, "chief", "work", 600), max_wait_s=1.0))

    assert events[-1]["outcome"] == "max_wait_time_exceeded"
    assert states(events) == [*ATTEMPT, "Stopping"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_who_waits_for_capacity_is_ended_at_once_by_a_signal(tmp_path, how):
    execution = life(tmp_path, task(tmp_path, "chief", "work", 600), capacity=Stays((600, 900)))
    before = signal.signal(signal.SIGALRM, lambda *_: getattr(execution, how)())
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    begin = time.monotonic()
    try:
        events = [event for event in execution.events(tick_s=60) if event is not None]
    finally:
        signal.signal(signal.SIGALRM, before)
        execution.close()

    assert time.monotonic() - begin < 2
    assert states(events) == ["Starting"]
    assert events[-1]["outcome"] == "stopped"


def test_a_run_that_is_stopped_while_it_drains_is_not_resumed(tmp_path):
    chief = task(tmp_path, "chief", "note_sigterm", str(tmp_path))
    execution = life(tmp_path, chief, capacity=Stays((0, 1)), notice_s=30)

    events = follow(execution, lambda event: execution.stop() if event["event"] == "interruption" else None)

    assert events[-1]["outcome"] == "stopped"
    assert len(named(events, "node_started")) == 1


def test_closing_may_be_repeated_and_come_first(tmp_path):
    execution = life(tmp_path, task(tmp_path, "chief", "work", 600))

    execution.close()
    execution.close()
    execution.stop()
    execution.kill()

    assert not (tmp_path / "node.log").exists()  # nothing was started


def test_closing_in_the_middle_leaves_nothing(tmp_path):
    execution = life(tmp_path, task(tmp_path, "chief", "serve_stubbornly"))
    pids = []
    for event in execution.events(TICK_S):
        if event is not None and "pid" in event:
            pids.append(event["pid"])
        if event is not None and event.get("state") == "Training":
            break

    execution.close()

    assert len(pids) == 2
    assert not still_running(pids, within_s=1)

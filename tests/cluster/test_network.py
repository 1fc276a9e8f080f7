"""What is done to the network of a task is really done to its packets, and to nobody else's."""

from __future__ import annotations

import pytest

from cluster.faults import Fault
from cluster.network import PROGRAMS, why_not
from cluster.topology import free_ports
from tests.cluster.test_node import follow, start, task
from tests.cluster.test_recovery import named


@pytest.fixture
def possible(request) -> None:
    if why := why_not(request.param):
        pytest.skip(f"{request.param}: {why}")


def disturbed(directory, fault: Fault) -> dict[str, dict]:
    """What two that ask their echoes tell, of which the first one's echo is disturbed."""
    from dataclasses import replace

    first, second = free_ports(2)
    node = start(
        directory,
        task(directory, "chief", "ask", first, 3.0),
        task(directory, "peer", "ask", second, 3.0),
        replace(task(directory, "worker", "serve_echo", first), port=first),
        replace(task(directory, "worker", "serve_echo", second, index=1), port=second),
        faults=(fault,),
    )
    events = follow(node)
    assert events[-1]["outcome"] == "completed"
    assert not named(events, "fault_failed")
    return {event["task"]: event for event in named(events, "asked")}


@pytest.mark.slow
@pytest.mark.parametrize(("possible", "fault", "at_least_s"), [
    ("partition", Fault("partition", ("worker-0",), at_s=0.5, for_s=1.0), 0.8),
    ("loss", Fault("loss", ("worker-0",), at_s=0.2, for_s=2.5, share=0.3), 0.15),  # TCP sends again after 0.2 s
    ("delay", Fault("delay", ("worker-0",), at_s=0.2, for_s=2.5, delay_s=0.2), 0.38),
], indirect=["possible"])  # fmt: skip
def test_the_packets_of_one_task_are_disturbed(tmp_path, possible, fault, at_least_s):
    asked = disturbed(tmp_path, fault)

    assert asked["chief-0"]["longest_s"] > at_least_s
    assert asked["peer-0"]["sent_again"] == 0
    assert asked["chief-0"]["sent_again"] > 0 or fault.kind == "delay"
    assert asked["peer-0"]["answers"] > asked["chief-0"]["answers"]


def test_a_system_that_cannot_says_why():
    for kind, program in PROGRAMS.items():
        why = why_not(kind)
        assert why is None or program in why or "private network" in why

"""What pods are at by their status, and when what they print was printed."""

from __future__ import annotations

import math

import pytest

from facesim.backends.kubernetes.pods import nanoseconds, trouble_of


def waiting(reason: str, message: str) -> dict:
    return {
        "spec": {"containers": [{"image": "a/facesim:1"}]},
        "status": {"containerStatuses": [{"state": {"waiting": {"reason": reason, "message": message}}}]},
    }


def unscheduled(message: str) -> dict:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"status": {"conditions": [condition]}}


def test_what_a_node_says_is_told_as_it_is():
    message = 'failed to pull: {"errors":[{"code":"DENIED"}]} {image}'

    assert trouble_of(waiting("ErrImagePull", message)).why.startswith(
        f"ErrImagePull: {message}; can nodes pull a/facesim:1? "
    )
    assert trouble_of(waiting("CreateContainerError", "{")).why == "CreateContainerError: {"


@pytest.mark.parametrize(
    ("message", "advice", "passes"),
    [
        ("0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.", "kubectl describe pvc", False),
        ('persistentvolumeclaim "faces" not found', "--storage-claim names a claim", False),
        ("0/3 nodes are available: 3 Insufficient cpu.", "nodes have so much free", True),
        ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", "--node-selector", True),
    ],
)
def test_a_pod_without_a_node_is_told_what_it_waits_for(message, advice, passes):
    trouble = trouble_of(unscheduled(message))

    assert trouble.why.startswith(f"{message}; ") and advice in trouble.why
    assert (trouble.patience_s == math.inf) is passes


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("2026-11-23T05:13:11.417778904Z", 1_795_410_791_417_778_904),
        ("2026-11-23T06:13:11.417778904+01:00", 1_795_410_791_417_778_904),
        ("2026-11-22T23:43:11.4-05:30", 1_795_410_791_400_000_000),
        ("2026-11-23T05:13:11Z", 1_795_410_791_000_000_000),
    ],
)
def test_the_time_of_a_line_is_that_of_the_node_s_own_clock(stamp, expected):
    assert nanoseconds(stamp) == expected

"""A plan as JSON: read by other versions than the one that wrote it, or refused in words."""

from __future__ import annotations

import json

import pytest

from cluster.faults import Fault
from cluster.plan import SCHEMA_VERSION, Plan, Task

PLAN = Plan(
    tasks=(Task("chief", 0, "module:function", ("a", 1), "chief-0.log", port=5000),),
    leader="chief-0",
    monitor=Task("monitor", 0, "module:watch", (), "monitor.log"),
    preload=("json",),
    faults=(Fault("kill", ("chief-0",), at_s=1.0),),
)


def read(tmp_path, content) -> Plan:
    (tmp_path / "plan.json").write_text(json.dumps(content), encoding="utf-8")
    return Plan.read(tmp_path / "plan.json")


def test_it_is_read_as_it_was_written_and_says_its_version(tmp_path):
    content = json.loads(PLAN.to_json())

    assert read(tmp_path, content) == PLAN
    assert content["schema_version"] == SCHEMA_VERSION


def test_what_is_not_known_is_left_out_and_what_is_missing_has_its_default(tmp_path):
    content = json.loads(PLAN.to_json())
    del content["schema_version"], content["hang_s"], content["tasks"][0]["replaceable"], content["faults"][0]["share"]
    for part in (content, content["tasks"][0], content["monitor"], content["faults"][0]):
        part["of_a_later_version"] = [1]

    assert read(tmp_path, content) == PLAN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no plan"),
        ({}, "no plan that can be run: .*tasks"),
        ({"tasks": [{}], "leader": "chief-0"}, "no plan that can be run"),
        ({"tasks": 5, "leader": "chief-0"}, "no plan that can be run"),
        ({**json.loads(PLAN.to_json()), "schema_version": SCHEMA_VERSION + 1}, "version 2, and 1 is the latest"),
    ],
)
def test_what_is_no_plan_is_told(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content)

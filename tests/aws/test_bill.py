"""What it can cost, before; what AWS says that it did cost, after."""

from __future__ import annotations

import pytest

from facesim.backends.sagemaker.bill import most_usd, refuse_above, reported
from facesim.util.errors import InputError


def request(seconds: int = 3600, **resources) -> dict:
    resources = resources or {"InstanceType": "ml.m5.2xlarge", "InstanceCount": 2}
    return {"ResourceConfig": resources, "StoppingCondition": {"MaxRuntimeInSeconds": seconds}}


GROUPS = {
    "InstanceGroups": [
        {"InstanceGroupName": "worker", "InstanceType": "ml.m5.2xlarge", "InstanceCount": 2},
        {"InstanceGroupName": "ps", "InstanceType": "ml.m5.large", "InstanceCount": 1},
    ]
}


def test_a_job_can_cost_all_its_instances_until_it_is_ended():
    assert most_usd(request(1800)) == pytest.approx(0.461)
    assert most_usd(request(3600, **GROUPS)) == pytest.approx(2 * 0.461 + 0.115)


def test_the_estimate_is_of_all_jobs_together():
    assert refuse_above(None, [request(), request()]) == (
        "the 2 training jobs can cost up to $1.84: --max-run ends each after 1 h"
    )


def test_what_costs_as_much_as_allowed_is_not_refused():
    assert "up to $0.92" in refuse_above(0.922, [request()])


def test_what_could_cost_more_is_refused_and_it_is_said_what_would_fit():
    with pytest.raises(InputError, match=r"up to \$1\.84.*more than --max-cost 1; it fits with --max-run 1952 "):
        refuse_above(1.0, [request(), request()])

    assert refuse_above(1.0, [request(1952), request(1952)])


def test_the_bill_multiplies_wall_clock_by_instances():
    told = {
        "TrainingTimeInSeconds": 292,
        "BillableTimeInSeconds": 119,
        "EnableManagedSpotTraining": True,
        "ResourceConfig": GROUPS,
    }

    bill = reported(told)

    assert bill["instance_s"] == 3 * 119
    assert bill["cost_usd"] == pytest.approx((2 * 0.461 + 0.115) * 119 / 3600)
    assert bill["savings_percent"] == pytest.approx(59.2, abs=0.05)


def test_a_job_that_never_trained_costs_nothing():
    bill = reported({"ResourceConfig": GROUPS})

    assert (bill["billable_s"], bill["cost_usd"], bill["savings_percent"]) == (0, 0.0, 0.0)

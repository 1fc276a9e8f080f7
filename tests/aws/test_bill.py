"""What it can cost, before; what AWS says that it did cost, after."""

from __future__ import annotations

import re

import pytest

from facesim.backends.sagemaker.bill import AFTER_S, most, refuse_above, reported
from facesim.backends.training_job import job_json
from facesim.billing.own_prices import own_file
from facesim.runs.events import Billed
from facesim.runs.messages import in_words
from facesim.spec.job import make_job
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


HOURLY = 2 * 0.461
READS = 22 / 60 * 0.00001  # the job's and two hosts' metrics, each minute
LOGS = 2 * 0.005 * 0.5 / 3600


def test_a_job_can_cost_all_its_instances_until_it_is_ended_and_has_saved():
    whole = most(request(1800))

    assert whole.instances == pytest.approx(HOURLY * (1800 + AFTER_S) / 3600)
    assert most(request(3600, **GROUPS)).instances == pytest.approx((2 * 0.461 + 0.115) * (3600 + AFTER_S) / 3600)
    assert whole.requests == pytest.approx((READS + LOGS) * (1800 + AFTER_S))
    assert whole.total == sum(whole)


def test_volumes_are_paid_for_by_size_and_time_where_instances_have_no_disk_of_their_own():
    shape = {"InstanceType": "ml.m5.2xlarge", "InstanceCount": 2, "VolumeSizeInGB": 100}

    assert most(request(3600, **shape)).volumes == pytest.approx(2 * 100 * 0.14 * (3600 + AFTER_S) / (730 * 3600))
    assert most(request(3600, **{**shape, "InstanceType": "ml.g5.xlarge"})).volumes == 0


def test_instances_that_are_kept_are_paid_for():
    kept = most(request(3600, InstanceType="ml.m5.large", InstanceCount=1, KeepAlivePeriodInSeconds=1800))

    assert kept.kept == pytest.approx(0.115 / 2)


def test_checkpoints_are_written_to_s3_for_money():
    often = {**request(3600), "HyperParameters": {"job": job_json(make_job(backend="sagemaker", checkpoint_s=1))}}

    more = most(often).requests - most(request(3600)).requests
    assert more == pytest.approx((3600 + AFTER_S) * 20 * 0.000005)


def test_the_estimate_is_of_all_jobs_together():
    assert refuse_above(None, [request(), request()]).startswith(
        "the 2 training jobs can cost up to $1.97: --max-run ends each after 1 h, and it has 3 minutes more to save"
    )
    assert "the 100 GB of data cost $2.30 a month in S3" in refuse_above(None, [request()], data_gb=100)


def test_what_costs_as_much_as_allowed_is_not_refused():
    whole = most(request()).total

    assert f"up to ${whole:.2f}" in refuse_above(whole, [request()])


def test_what_could_cost_more_is_refused_and_it_is_said_what_would_fit():
    with pytest.raises(
        InputError, match=r"up to \$1\.97.*more than --max-cost 1; it fits with --max-run (\d+) "
    ) as refusal:
        refuse_above(1.0, [request(), request()])

    fits = int(re.search(r"--max-run (\d+) ", str(refusal.value))[1])
    assert refuse_above(1.0, [request(fits), request(fits)])
    with pytest.raises(InputError):
        refuse_above(1.0, [request(fits + 2), request(fits + 2)])
    with pytest.raises(InputError, match="it may fit with smaller instances"):
        refuse_above(0.001, [request()])


def test_a_cap_is_refused_where_only_prices_of_another_region_are_known(tmp_path, monkeypatch):
    estimate = refuse_above(None, [request()], regions=["sa-east-1"])
    assert estimate.endswith(
        "prices are those of us-east-1, not of sa-east-1: facesim prices refresh --region sa-east-1 asks AWS for them, "
        "which needs no account"
    )
    assert "prices are" not in refuse_above(5.0, [request()], regions=["us-east-1"])

    with pytest.raises(
        InputError, match=r"--max-cost 5 cannot be kept to: prices are those of us-east-1.*prices\.toml"
    ):
        refuse_above(5.0, [request()], regions=["us-east-1", "sa-east-1"])

    monkeypatch.setenv("FACESIM_PRICES", str(tmp_path / "prices.toml"))
    own_file().write_text('["ml.m5.2xlarge"]\nusd_per_hour = 0.7\n')
    assert "up to $1.4" in refuse_above(5.0, [request()], regions=["sa-east-1"])


def test_the_bill_multiplies_wall_clock_by_instances():
    description = {
        "TrainingTimeInSeconds": 292,
        "BillableTimeInSeconds": 119,
        "EnableManagedSpotTraining": True,
        "ResourceConfig": GROUPS,
    }

    bill = reported(description)

    assert bill["instance_s"] == 3 * 119
    assert bill["cost_usd"] == pytest.approx((2 * 0.461 + 0.115) * 119 / 3600)
    assert bill["savings_percent"] == pytest.approx(59.2, abs=0.05)


def test_the_volumes_of_a_job_are_in_its_bill():
    description = {
        "TrainingTimeInSeconds": 3600,
        "BillableTimeInSeconds": 3600,
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 50},
    }

    assert reported(description)["volume_usd"] == pytest.approx(2 * 50 * 0.14 / 730)


@pytest.mark.parametrize(
    ("pool", "kept_s"),
    [
        (None, 1800),
        ({"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 2}, 1800),
        ({"Status": "Reused", "ResourceRetainedBillableTimeInSeconds": 40, "ReusedByJob": "another"}, 40),
        ({"Status": "Terminated", "ResourceRetainedBillableTimeInSeconds": 700}, 700),
    ],
)
def test_instances_that_are_kept_are_named_beside_the_bill(pool, kept_s):
    kept = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "KeepAlivePeriodInSeconds": 1800}
    times = {"TrainingTimeInSeconds": 60, "BillableTimeInSeconds": 60}

    bill = reported({**times, "ResourceConfig": kept, **({"WarmPoolStatus": pool} if pool else {})})

    assert bill["kept_usd"] == pytest.approx(2 * 0.115 * kept_s / 3600)
    assert f"instances that are kept cost up to ${bill['kept_usd']:.4f} more" in in_words(Billed(**bill))
    assert "kept" not in in_words(Billed(**reported({**times, "ResourceConfig": GROUPS})))


def test_a_job_that_never_trained_costs_nothing():
    bill = reported({"ResourceConfig": GROUPS})

    assert (bill["billable_s"], bill["cost_usd"], bill["savings_percent"]) == (0, 0.0, 0.0)

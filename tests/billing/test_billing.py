"""Billing: the catalogue, and the numbers of the paper's own SageMaker logs as golden values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesim.billing import (
    assumed_spot_discount,
    cost_usd,
    instance,
    instances,
    make_bill,
    price_usd,
    spot_cost_usd,
    spot_savings_percent,
)
from facesim.billing.bill import submitted
from facesim.runs.accounting import spent_s
from facesim.runs.events import TaskEnded
from facesim.spec.spot import Spot
from facesim.util.errors import InputError
from tests.support.events import course, restored

M5 = "ml.m5.2xlarge"


@pytest.mark.parametrize(("training_s", "billable_s", "shown_percent"), [(292, 119, 59.2), (576, 258, 55.2)])
def test_savings_are_those_that_the_papers_logs_show(training_s, billable_s, shown_percent):
    assert round(spot_savings_percent(training_s, billable_s), 1) == shown_percent


def test_savings_of_a_job_that_never_trained_are_zero():
    assert spot_savings_percent(0, 0) == 0


def test_the_papers_cluster_cost_twice_what_its_single_instance_did():
    single = cost_usd("ml.m5.2xlarge", hosts=1, billable_s=119)
    cluster = cost_usd("ml.m5.2xlarge", hosts=2, billable_s=258 / 2)

    assert round(cluster / single, 1) == 2.2


def test_an_hour_costs_the_price_of_an_hour_for_each_host():
    assert cost_usd("ml.m5.large", hosts=3, billable_s=3600) == pytest.approx(3 * 0.115)


def test_spot_takes_the_assumed_discount_off_unless_another_is_given():
    on_demand = cost_usd("ml.c5.xlarge", 2, 100)

    assert spot_cost_usd("ml.c5.xlarge", 2, 100) == pytest.approx(on_demand * 0.43)
    assert spot_cost_usd("ml.c5.xlarge", 2, 100, discount=0.9) == pytest.approx(on_demand * 0.1)


def test_the_assumed_discount_is_the_mean_of_the_papers_savings():
    mean = (spot_savings_percent(292, 119) + spot_savings_percent(576, 258)) / 2

    assert assumed_spot_discount() == pytest.approx(mean / 100, abs=0.005)


def test_an_instance_knows_its_shape():
    papers = instance("ml.m5.2xlarge")

    assert (papers.vcpu, papers.memory_gib, papers.network_base_gbps, papers.accelerator) == (8, 32, 2.5, None)


def test_only_the_price_that_was_checked_is_called_verified():
    assert [i.name for i in instances().values() if i.price_verified] == ["ml.m5.large"]


def test_an_unknown_instance_type_names_those_known_and_the_closest():
    with pytest.raises(InputError, match=r"'m5\.2xlarge' is not .*ml\.m5\.24xlarge.*did you mean ml\.m5\.2xlarge\?"):
        instance("m5.2xlarge")


def test_the_catalogue_cannot_be_changed_by_who_reads_it():
    with pytest.raises(TypeError):
        instances()["ml.free"] = None


#: What the paper's two jobs were, as far as their logs tell: the cluster's seconds are two hosts'.
PAPERS = {
    "single": (1, [("Starting", 90), ("Downloading", 30), ("Training", 250), ("Uploading", 12), ("Completed", 0)]),
    "cluster": (2, [("Starting", 95), ("Downloading", 28), ("Training", 249), ("Uploading", 11), ("Completed", 0)]),
}


@pytest.mark.parametrize(
    ("job", "discount", "training_s", "billable_s", "savings_percent"),
    [("single", 1 - 119 / 292, 292, 119, 59.2), ("cluster", 1 - 129 / 288, 576, 258, 55.2)],
)
def test_a_bill_shows_what_the_papers_logs_do(job, discount, training_s, billable_s, savings_percent):
    hosts, lived = PAPERS[job]

    bill = make_bill(course(*lived), [(M5, hosts)], discount)

    assert (hosts * bill.training_s, hosts * bill.billable_s) == (training_s, billable_s)
    assert round(bill.savings_percent, 1) == savings_percent


def test_the_papers_bills_say_that_the_cluster_cost_twice_as_much():
    single, cluster = (
        make_bill(course(*PAPERS[job][1]), [(M5, PAPERS[job][0])], discount).cost_usd
        for job, discount in (("single", 1 - 119 / 292), ("cluster", 1 - 129 / 288))
    )

    assert cluster / single == pytest.approx(258 / 119)
    assert round(cluster / single, 1) == 2.2
    assert cluster == pytest.approx(0.461 * 258 / 3600)


def test_download_training_and_upload_are_billed_and_waiting_is_not():
    lived = [("Starting", 60.0), ("Downloading", 5.0), ("Training", 100.2), ("Interrupted", 300.0), ("Starting", 30.0)]
    lived += [("Downloading", 4.0), ("Training", 50.1), ("Uploading", 7.0), ("Completed", 0.0)]

    bill = make_bill(course(*lived), [(M5, 3)])

    assert bill.training_s == bill.billable_s == round(5 + 100.2 + 4 + 50.1 + 7)
    assert bill.waiting_s == 60 + 300 + 30
    assert bill.interruptions == 1
    assert bill.on_demand_usd == bill.cost_usd == pytest.approx(3 * 0.461 * 166 / 3600)
    assert [each.state for each in bill.transitions if not each.billable] == ["Starting", "Interrupted", "Starting"]


def test_a_run_that_never_had_capacity_costs_nothing():
    bill = make_bill(course(("Starting", 600), ("MaxWaitTimeExceeded", 0)), [(M5, 2)], 0.6)

    assert (bill.training_s, bill.cost_usd, bill.savings_percent) == (0, 0, 0)


def test_each_group_of_a_heterogeneous_job_has_its_own_price():
    groups = [("ml.g4dn.xlarge", 2), ("ml.c5.xlarge", 1)]

    bill = make_bill(course(("Training", 3600), ("Completed", 0)), groups)

    assert bill.hosts == 3
    assert bill.on_demand_usd == pytest.approx(2 * 0.7364 + 0.204)
    assert price_usd(groups, 1800) == pytest.approx(bill.on_demand_usd / 2)


def test_work_that_interruptions_threw_away_is_counted_and_priced():
    events = course(("Training", 100), ("Interrupted", 50), ("Training", 200), ("Completed", 0))
    lost = [restored(1_790_000_150.0, lost_s=seconds) for seconds in (20.0, 10.0)]

    bill = make_bill([*events, *lost], [(M5, 2)], discount=0.6)

    assert bill.lost_work_s == 30
    assert bill.lost_work_usd == pytest.approx(2 * 0.461 * 30 / 3600 * 0.4)
    assert bill.lost_work_usd < bill.cost_usd


def test_the_cost_to_a_moment_counts_what_was_billed_until_then():
    bill = make_bill(
        course(("Starting", 10), ("Training", 100), ("Interrupted", 50), ("Training", 100), ("Completed", 0)), [(M5, 1)]
    )
    launched = bill.transitions[0].begin_unix_s

    def seconds(since_launch_s: float) -> float:
        return bill.cost_until_usd(launched + since_launch_s) / 0.461 * 3600

    assert seconds(5) == 0
    assert seconds(60) == pytest.approx(50)
    assert seconds(140) == pytest.approx(100)
    assert seconds(200) == pytest.approx(140)
    assert seconds(999) == pytest.approx(200)


def test_clocks_that_disagree_a_little_make_no_negative_seconds():
    events = course(("Starting", 1.0), ("Training", -0.2), ("Uploading", 1.0), ("Completed", 0))

    assert all(each.seconds >= 0 for each in make_bill(events, [(M5, 1)]).transitions)


def test_a_run_that_is_resumed_later_is_not_billed_for_the_time_between():
    first = course(("Starting", 5), ("Training", 100), ("Stopped", 0))
    second = course(("Training", 50), ("Completed", 0), began_unix_s=first[-1].time_unix_s + 9000)

    bill = make_bill([*first, *second], [(M5, 1)])

    assert (bill.training_s, bill.waiting_s) == (150, 5)


def test_each_time_that_a_run_was_submitted_is_billed_with_the_instances_that_it_had_then():
    two = course(("Training", 11.7), ("Stopped", 0), **submitted([(M5, 2)], None))
    three = course(("Training", 19.3), ("Completed", 0), **submitted([(M5, 3)], None))

    bill = make_bill([*two, *three], [(M5, 3)])

    assert bill.instance_s == 2 * 12 + 3 * 19
    assert bill.on_demand_usd == bill.cost_usd == pytest.approx(0.461 * (2 * 12 + 3 * 19) / 3600)
    content = bill.to_dict(0.57)
    assert [life["groups"][0]["count"] for life in content["lives"]] == [2, 3]
    assert content["instance_s"] == bill.instance_s


def test_a_life_on_demand_is_not_billed_as_the_spot_capacity_of_the_next():
    before = course(("Training", 100), ("Stopped", 0), **submitted([(M5, 1)], None))
    after = course(("Training", 100), ("Completed", 0), **submitted([(M5, 1)], Spot(discount=0.5)))

    assert make_bill([*before, *after], [(M5, 1)], 0.5).billable_s == 100 + 50


def test_a_clock_that_was_set_back_makes_nothing_negative():
    events = course(("Training", 100), ("Interrupted", 10), ("Training", -5000), ("Completed", 0))
    back = restored(1_790_000_000.0 - 4000)

    bill = make_bill([*events[:-1], back, events[-1]], [(M5, 1)])

    assert bill.training_s >= 100
    assert bill.restart_s >= 0
    assert spent_s([events[0], back]) == 0


def test_a_run_that_was_killed_is_billed_until_its_last_sign_of_life():
    killed = course(("Starting", 5), ("Training", 30))
    sign = TaskEnded(time_unix_s=killed[-1].time_unix_s + 20, task="chief-0")

    assert make_bill([*killed, sign], [(M5, 1)]).training_s == 20


def test_starting_again_after_an_interruption_is_counted_from_having_hosts_until_training_goes_on():
    events = course(
        ("Training", 100), ("Interrupted", 50), ("Starting", 5), ("Downloading", 4), ("Training", 60), ("Completed", 0)
    )
    went_on = restored(1_790_000_000.0 + 100 + 50 + 5 + 4 + 3)

    bill = make_bill([*events[:-1], went_on, events[-1]], [(M5, 2)])

    assert bill.restart_s == 7
    assert bill.restart_usd == pytest.approx(2 * 0.461 * 7 / 3600)


STATE = st.sampled_from(["Starting", "Downloading", "Training", "Interrupted", "Stopping", "Uploading"])


@given(st.lists(st.tuples(STATE, st.floats(0, 1e5)), max_size=30), st.floats(0, 0.99))
def test_whatever_a_run_lives_through_its_bill_adds_up(lived, discount):
    bill = make_bill(course(*lived, ("Completed", 0)), [(M5, 2)], discount)

    billed = sum(each.seconds for each in bill.transitions if each.billable)
    assert abs(bill.training_s - billed) <= 0.5 + 1e-3
    assert abs(bill.training_s + bill.waiting_s - sum(seconds for _, seconds in lived)) <= 1 + 1e-3
    assert 0 <= bill.cost_usd <= bill.on_demand_usd
    assert bill.cost_until_usd(float("inf")) == pytest.approx(bill.cost_usd, abs=2 * 0.461 * 1.01 / 3600)


def test_a_bill_keeps_the_prices_that_it_was_made_with():
    (group,) = make_bill(course(("Training", 60), ("Completed", 0)), [(M5, 2)]).to_dict(0.57)["groups"]

    assert group["usd_per_hour"] == 0.461
    assert group["price_verified"] is False
    assert (group["instance_type"], group["count"], group["price_region"]) == (M5, 2, "us-east-1")

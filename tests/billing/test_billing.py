"""Billing: the catalogue, and the numbers of the paper's own SageMaker logs as golden values."""

import pytest

from facesim.billing import assumed_spot_discount, cost_usd, instance, instances, spot_cost_usd, spot_savings_percent
from facesim.errors import InputError


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
    with pytest.raises(InputError, match=r"'m5\.2xlarge' is not .*ml\.c5\.9xlarge.*did you mean ml\.m5\.2xlarge\?"):
        instance("m5.2xlarge")


def test_the_catalogue_cannot_be_changed_by_who_reads_it():
    with pytest.raises(TypeError):
        instances()["ml.free"] = None

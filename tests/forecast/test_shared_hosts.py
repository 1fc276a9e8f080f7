"""Forecasts of what tasks share that are on one host: its processor, its link; and of what they send."""

from __future__ import annotations

import pytest

from facesim.forecast.hosts import hosts
from facesim.forecast.model import forecast_job, forecast_jobs
from facesim.forecast.profile_data import Machine, Server
from facesim.forecast.shapes import ClusterShape
from facesim.forecast.speeds import Table
from tests.forecast.conftest import changed


def test_tasks_beside_each_other_share_the_hosts_cores(profile, this_machine):
    shape = ClusterShape(strategy="ps-async", workers=1, instance_type="here")
    hungry = changed(profile, cpu_s_per_update={"worker": 0.3, "ps": 0.1})

    forecast = forecast_job(hungry, shape, epochs=1000, known_hosts=this_machine)

    assert forecast.update_s == pytest.approx(0.4 / 2)
    assert forecast.bound == "host CPU"


def test_a_worker_that_shares_its_host_with_no_other_needs_what_it_needs_alone(profile, this_machine):
    here = ClusterShape(strategy="ps-async", workers=1, instance_type="here")
    together = here.model_copy(update={"workers": 4, "one_host": True})
    crowded = changed(profile, cpu_s_per_update={"worker": 0.3, "ps": 0.02, "chief": 0.005})

    crowded_s, alone_s = (
        [each.update_s for each in forecast_jobs(known, [here, together], known_hosts=this_machine)]
        for known in (crowded, changed(crowded, worker_cpu_s=0.2))
    )

    assert crowded_s[0] - alone_s[0] == pytest.approx((0.3 - 0.2) / 2)
    assert crowded_s[1] == alone_s[1] > 0.3 / 2


@pytest.mark.parametrize("strategy", ["ps-async", "ps-sync"])
def test_each_server_beside_workers_does_what_an_update_asks_beside_its_messages(profile, this_machine, strategy):
    constants = {"message_s": 1e-4, "byte_s": 1e-9, "saturation_s": 0.01}
    free, apart = (changed(profile, server=Server(update_s=update_s, **constants)) for update_s in (0.0, 0.02))
    shapes = [ClusterShape(strategy=strategy, workers=8, ps=ps, instance_type="here") for ps in (1, 8)]

    (one, eight), (same, more) = (
        [each.update_s for each in forecast_jobs(known, shapes, known_hosts=this_machine)] for known in (free, apart)
    )

    assert free.servers_cpu_s(1) == apart.servers_cpu_s(1) == pytest.approx(0.02)
    assert apart.servers_cpu_s(8) > 3 * free.servers_cpu_s(8) > 0.06
    assert one == pytest.approx(same) and more > eight


def test_what_is_pushed_takes_no_longer_than_its_own_bytes(profile, this_machine):
    slow = this_machine["here"].model_copy(update={"network_base_gbps": 0.1, "network_peak_gbps": 0.1, "goodput": 1.0})
    shape = ClusterShape(strategy="ps-async", workers=1, instance_type="here", ps_instance_type="here")
    variables = [{**each.model_dump(), "factor_rows": float(len(each.shape) == 2)} for each in profile.variables]
    factored = changed(profile, variables=variables)

    saved_s = [forecast_job(known, shape, known_hosts={"here": slow}).update_s for known in (profile, factored)]

    (whole,), (less,) = profile.loads(1), factored.loads(1)
    assert less.push_bytes < 0.3 * whole.push_bytes
    assert saved_s[0] - saved_s[1] == pytest.approx((whole.push_bytes - less.push_bytes) / 12.5e6, rel=0.05)


def test_a_worker_beside_the_server_shares_its_hosts_processor_with_what_all_others_ask_of_it(profile, this_machine):
    one_core = this_machine["here"].model_copy(update={"cores": 1, "vcpu": 1, "relative_speed": 1.0})
    changes = changed(
        profile,
        machine=Machine(cores=1, sgemm_gflops=75),
        server=Server(message_s=0, byte_s=1e-12, saturation_s=1e-6),
        cpu_s_per_update={"worker": 0.06, "ps": 0.01, "chief": 0.005},
    )

    forecast = forecast_job(
        changes, ClusterShape(strategy="ps-async", workers=2, instance_type="here"), known_hosts={"here": one_core}
    )

    # The other needs 15 ms of that processor in a step of 75 ms if it is alone; the first is always at it. So the first
    # takes 75 (1 + 1/5) = 90 ms, the other 60 + 15 (1 + 1) = 90 ms; links without a limit take nothing.
    assert 1 / forecast.update_s == pytest.approx(2 / 0.09, rel=0.001)


@pytest.mark.parametrize("strategy", ["ps-async", "ps-sync"])
def test_what_a_worker_has_to_do_with_the_bytes_passes_while_its_link_is_at_them(profile, this_machine, strategy):
    slow = this_machine["here"].model_copy(update={"network_base_gbps": 0.1, "network_peak_gbps": 0.1})
    shape = ClusterShape(strategy=strategy, workers=2, instance_type="here", ps_instance_type="here")

    steps_s = [
        forecast_job(changed(profile, cpu_s_per_update={"worker": cpu_s}), shape, known_hosts={"here": slow}).update_s
        for cpu_s in (0.12, 0.16)  # 60 ms of two cores, as it computes alone, and 20 ms more
    ]

    assert steps_s[1] == pytest.approx(steps_s[0], abs=0.001)  # the slowest of two is not the mean


def test_two_servers_send_a_worker_no_more_than_its_own_link_takes(profile, this_machine):
    slow = this_machine["here"].model_copy(update={"network_base_gbps": 0.1, "network_peak_gbps": 0.1, "goodput": 1.0})
    free = changed(profile, cpu_s_per_update={}, server=Server(message_s=0, byte_s=1e-12, saturation_s=1e-6))
    one, two, four = (
        forecast_job(
            free,
            ClusterShape(strategy="ps-async", workers=workers, ps=2, instance_type="here", ps_instance_type="here"),
            known_hosts={"here": slow},
        ).update_s
        for workers in (1, 2, 4)
    )

    whole_s = sum(profile.loads(1)[0][2:4]) / slow.base_bytes_per_s  # pulled and pushed over the worker's own link
    assert one == pytest.approx(whole_s + 0.06, rel=0.01)
    # However many workers, both links together carry no more than twice as much; a few leave one of them idle at times.
    assert one / 2 < two < one and whole_s / 4 < four < two


def test_a_worker_whose_sending_takes_its_processor_is_slower_by_that(profile, this_machine):
    shape = ClusterShape(strategy="ps-async", workers=2, instance_type="here", ps_instance_type="here")
    computing = changed(profile, cpu_s_per_update={"worker": 0.12})  # 60 ms of two cores, as it computes alone
    sending = changed(profile, cpu_s_per_update={"worker": 0.16})

    steps = [2 * forecast_job(each, shape, known_hosts=this_machine).update_s for each in (computing, sending)]

    assert steps[1] - steps[0] == pytest.approx(0.02, abs=0.004)


def test_messages_are_wrapped_which_counts_where_variables_are_small(profile, this_machine):
    shape = ClusterShape(strategy="ps-async", workers=2, instance_type="here")
    (load,) = profile.loads(1)

    forecast = forecast_job(profile, shape, known_hosts=this_machine)

    beyond = forecast.wire_bytes_per_update - load.pull_bytes - load.push_bytes
    assert 500 < beyond / (load.pull_messages + load.push_messages) < 1000


def test_what_is_pushed_for_a_dense_layer_depends_on_how_many_examples_a_worker_has(profile, this_machine):
    variables = [{**each.model_dump(), "factor_rows": float(each.shape == (4608, 1024))} for each in profile.variables]
    factored, kernel_bytes = changed(profile, variables=variables), 4 * 4608 * 1024
    one, many = (
        ClusterShape(strategy=name, workers=workers, instance_type="here")
        for name, workers in (("ps-async", 1), ("ps-sync", 16))
    )

    def saved_bytes(shape: ClusterShape, batch: int) -> float:
        """Of an update of one worker, against a profile of workers that push gradients."""
        each = [
            forecast_job(known, shape, batch=batch, known_hosts=this_machine).wire_bytes_per_update
            for known in (profile, factored)
        ]
        return (each[0] - each[1]) / shape.workers

    one_message = pytest.approx(0, abs=1000)  # two are pushed in place of one
    assert saved_bytes(one, 32) - (kernel_bytes - 4 * 32 * (4608 + 1024)) == one_message
    assert saved_bytes(one, 64) - (kernel_bytes - 4 * 64 * (4608 + 1024)) == one_message
    assert saved_bytes(one, 512) == 0  # too much to multiply for a server
    assert saved_bytes(many, 512) == pytest.approx(saved_bytes(one, 32))
    pull_s, push_s = factored.service_s(1)
    assert pull_s.sum() + push_s.sum() == pytest.approx(profile.served.saturation_s)
    more_s = factored.service_s(1, 64)[1] - push_s  # as many bytes more, and operations
    expected_s = factored.served.byte_s / 2 * 4 * 32 * (4608 + 1024) + 2 * 32 * 4608 * 1024 / 75e9
    assert more_s == pytest.approx(factored.saturation_factor * expected_s)


def test_workers_that_add_up_sum_factors_and_multiply_those_of_all(profile, two_types):
    variables = [{**each.model_dump(), "factor_rows": float(each.shape == (4608, 1024))} for each in profile.variables]
    factored, kernel_bytes = changed(profile, variables=variables), 4 * 4608 * 1024
    alike = ClusterShape(strategy="allreduce", workers=4, instance_type="here")
    mixed = alike.model_copy(update={"other_workers": (("slow", 1),)})

    def saved(shape: ClusterShape, batch: int) -> tuple[float, float]:
        """Bytes that a worker sends less, and seconds that it computes more, than one that sums gradients."""
        known = [Table(each, [shape], hosts() | two_types, batch) for each in (profile, factored)]
        return known[0].sum_bytes[0] - known[1].sum_bytes[0], known[1].compute_s[0] - known[0].compute_s[0]

    others_s = 3 / 4 * 2 * 32 * 4608 * 1024 / (1e9 * profile.machine.sgemm_gflops)
    assert saved(alike, 32) == pytest.approx((kernel_bytes - 4 * 32 * (4608 + 1024), others_s))
    assert saved(alike, 30) == pytest.approx(saved(alike, 32))  # eight rows for each all the same
    assert saved(alike, 512) == saved(mixed, 32) == (0, 0)
    assert saved(alike.model_copy(update={"strategy": "local-sgd", "local_steps": 4}), 32) == (0, 0)


def test_the_worker_beside_the_only_server_does_not_wait_for_the_network(profile, this_machine):
    slow = this_machine["here"].model_copy(update={"network_base_gbps": 0.1, "network_peak_gbps": 0.1})
    beside = ClusterShape(strategy="ps-async", workers=4, instance_type="here")
    apart = beside.model_copy(update={"ps_instance_type": "here"})
    changes = changed(profile, cpu_s_per_update={"worker": 0.12, "ps": 0.02, "chief": 0.0})

    forecasts = forecast_jobs(changes, [beside, apart], known_hosts={"here": slow})

    link_per_s = slow.base_bytes_per_s / profile.param_bytes
    assert 1 / forecasts[1].update_s < link_per_s
    # One worker computes for 60 ms and waits for its server; three share the link.
    assert 1 / forecasts[0].update_s > link_per_s + 0.5 / 0.06

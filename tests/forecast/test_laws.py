"""The formulas: their limits, and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesim.forecast import laws


def test_a_servers_work_counts_messages_and_bytes_and_the_link_only_where_that_is_slower():
    assert laws.service_s(100, 2e6, 1e-4, 1e-9) == pytest.approx(0.012)
    assert laws.service_s(100, 2e6, 1e-4, 1e-9, link_bytes_per_s=1e8, goodput=0.8) == pytest.approx(0.025)


def test_the_smooth_knee_has_both_asymptotes():
    assert laws.knee_updates_per_s(1, 10, 1e-3, 4.5) == pytest.approx(10, rel=1e-6)
    assert laws.knee_updates_per_s(1000, 10, 0.02, 4.5) == pytest.approx(50, rel=1e-6)
    assert laws.knee_updates_per_s(4, 10, 0, 4.5) == pytest.approx(40)


times = st.floats(1e-4, 1.0)


@given(times, times, times, st.integers(1, 64), st.floats(1, 4), st.floats(1, 3))
def test_asynchronous_speed_stays_within_the_bounds_of_any_closed_network(
    compute, pull, push, workers, overlap, latency
):
    speed = workers / laws.ps_async_step_s(compute, [pull], [push], workers, overlap, latency)

    assert speed <= 1 / (pull + push) * (1 + 1e-6)  # the server is never more than busy
    assert speed <= workers / max(compute, pull, push) * (1 + 1e-6)


@given(times, times, st.floats(1, 4), st.floats(1, 3))
def test_more_asynchronous_workers_are_never_slower(compute, service, overlap, latency):
    counts = np.arange(1, 33)

    speeds = counts / laws.ps_async_step_s(compute, [service / 2], [service / 2], counts, overlap, latency)

    assert (np.diff(speeds) > -1e-6 * speeds[:-1]).all()


def test_a_sequential_step_of_one_worker_is_the_sum_of_its_parts():
    assert laws.ps_async_step_s(0.1, [0.01, 0.02], [0.03, 0.01], 1) == pytest.approx(0.1 + 0.02 + 0.03)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_computing_is_found_again_from_the_step_that_it_gives(workers):
    step_s = float(laws.ps_async_step_s(0.08, [0.004], [0.009], workers, 1.3, 1.8))

    assert laws.compute_from_step_s(step_s, [0.004], [0.009], workers, 1.3, 1.8) == pytest.approx(0.08, rel=1e-6)


def test_a_step_that_the_servers_alone_explain_leaves_no_computing():
    assert laws.compute_from_step_s(0.01, [0.02], [0.02]) == 0


@pytest.mark.parametrize("step_s", np.geomspace(1e3, 1e8, 20))
def test_of_a_step_beside_which_servers_are_nothing_all_is_computing(step_s):
    assert laws.compute_from_step_s(step_s, [1e-5], [1e-5], overlap=1.833) == pytest.approx(step_s)


def test_a_sequential_step_is_exact_with_one_server_and_the_approximation_close_to_it():
    exact = laws.exact_mva(0.1, [0.02], 16)
    counts = np.arange(1, 17)

    sequential = counts / laws.sequential_step_s(0.1, [0.01], [0.01], counts)
    approximate = counts / laws.ps_async_step_s(0.1, [0.01], [0.01], counts)

    assert sequential == pytest.approx(exact)
    assert np.abs(approximate / exact - 1).max() < 0.07


def test_a_sequential_step_does_for_many_shapes_at_once_what_it_does_for_each():
    compute, pull, workers = np.array([0.1, 0.2]), np.array([[0.01, 0.02], [0.03, 0.001]]), np.array([3, 7])

    together = laws.sequential_step_s(compute, pull, 2 * pull, workers)

    for row in range(2):
        assert together[row] == pytest.approx(
            float(laws.sequential_step_s(compute[row], pull[row], 2 * pull[row], workers[row]))
        )


def test_exact_mean_value_analysis_of_two_customers_by_hand():
    # One station of 1 s, thinking 1 s: X1 = 1/2, its queue 1/2; X2 = 2 / (1 + 1.5).
    assert laws.exact_mva(1.0, [1.0], 2) == pytest.approx([0.5, 0.8])


def test_workers_that_are_alike_in_two_kinds_are_as_fast_as_in_one():
    mixed = laws.mixed_updates_per_s([0.1, 0.1], [2, 3], [0.01], [0.01])

    assert mixed == pytest.approx(float(5 / laws.ps_async_step_s(0.1, [0.01], [0.01], 5)), rel=1e-6)


def test_a_faster_kind_adds_more():
    slow, fast = (laws.mixed_updates_per_s([0.1, each], [2, 2], [1e-4], [1e-4]) for each in (0.1, 0.05))

    assert fast == pytest.approx(1.5 * slow, rel=0.01)


def test_the_slowest_of_many_is_waited_for_and_a_backup_worker_shortens_the_wait():
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.normal(1.0, 0.1, (20_000, 8)), axis=1).mean(axis=0)

    assert laws.slowest_s(1.0, 0.1, 8) == pytest.approx(drawn[7], rel=0.005)
    assert laws.slowest_s(1.0, 0.1, 8, 6) == pytest.approx(drawn[5], rel=0.005)
    assert laws.slowest_s(1.0, 0.5, 1) == 1.0


def test_servers_beside_the_workers_carry_less_than_those_on_their_own_hosts():
    assert laws.barrier_transfer_s(100.0, 4, 2, 10.0, own_hosts=True) == pytest.approx(20)
    assert laws.barrier_transfer_s(100.0, 4, 2, 10.0, own_hosts=False) == pytest.approx(15)
    assert laws.barrier_transfer_s(100.0, 1, 1, 10.0, own_hosts=False) == 0


def test_a_ring_sends_each_byte_twice_but_for_its_own_share():
    assert laws.ring_s(100.0, 4, 10.0, 0.5) == pytest.approx(15 + 3)
    assert laws.tree_s(100.0, 4, 10.0, 0.5) == pytest.approx(15 + 1)
    assert laws.ring_s(100.0, 1, 10.0, 0.5) == 0


def test_an_allreduce_hides_in_the_backward_pass_as_far_as_it_overlaps():
    assert laws.allreduce_step_s(0.3, 0, 4, 0.1, overlap=1) == pytest.approx(0.4)
    assert laws.allreduce_step_s(0.3, 0, 4, 0.1, overlap=50) == pytest.approx(0.3, rel=1e-3)


def test_local_steps_share_one_exchange():
    assert laws.local_sgd_step_s(0.1, 0, 4, 0.8, 8) == pytest.approx(0.2)


def test_a_link_is_at_peak_until_its_bucket_is_empty():
    assert laws.burst_transfer_s(100, 10, 50, 80) == pytest.approx(2)  # exactly emptied: gains 40 a second
    assert laws.burst_transfer_s(200, 10, 50, 80) == pytest.approx(2 + 10)
    assert laws.burst_transfer_s(100, 50, 50, 0) == pytest.approx(2)


def test_updates_that_send_less_than_the_base_rate_never_leave_the_burst_phase():
    burst, base = laws.two_phase_s(1000, 1.0, 3.0, 5.0, 10.0, 80.0)
    assert (burst, base) == (1000, 0)

    burst, base = laws.two_phase_s(1000, 1.0, 3.0, 50.0, 10.0, 80.0)
    assert (burst, base) == (2, pytest.approx(998 * 3))


def test_tasks_on_one_host_share_its_cores():
    assert laws.capacity_updates_per_s(2, 0.1) == pytest.approx(20)
    assert laws.capacity_updates_per_s(2, 0) == math.inf


def test_spot_capacity_costs_half_an_interval_and_a_restart_each_time():
    assert laws.spot_stretch(2, 0.5, 60, 90) == pytest.approx(1 + 120 / 3600)


def test_a_worker_whose_own_link_is_slow_gains_nothing_from_more_servers():
    for law in (laws.ps_async_step_s, laws.sequential_step_s):
        assert law(0.1, [0.01] * 8, [0.01] * 8, 1, least_s=0.08) == pytest.approx(0.26)
        assert law(0.1, [0.01] * 8, [0.01] * 8, 1, least_s=(0.08, 0.02)) == pytest.approx(0.2)


def test_workers_that_share_only_a_server_are_the_network_that_is_solved_exactly():
    counts, nothing, halves = np.arange(1, 17), np.zeros((2, 16, 1)), np.full((2, 16, 1), 0.01)

    steps_s, slower = laws.shared_hosts_step_s(np.full((2, 16), 0.1), nothing, halves, halves, counts)

    assert 1 / steps_s[0] + (counts - 1) / steps_s[1] == pytest.approx(laws.exact_mva(0.1, [0.02], 16))
    assert slower[0, 1:] == pytest.approx(slower[1, 1:])


def test_a_worker_and_the_server_beside_it_share_a_processor_by_hand():
    # The first computes 3 s where the server makes 1 s for each update; another computes 3 s elsewhere. Alone the other
    # is at the server 1/4 of its time, the first always at this processor: 4 (1 + 1/4) = 5 s, and 3 + 1 (1 + 1) = 5 s.
    none = np.zeros((2, 1, 1))
    turns, pull = np.array([[[3.0]], [[0.0]]]), np.full((2, 1, 1), 1.0)

    steps_s, slower = laws.shared_hosts_step_s([[0.0], [3.0]], turns, pull, none, [2])

    assert steps_s[:, 0] == pytest.approx([5, 5])
    assert slower[:, 0, 0] == pytest.approx([1.25, 2])


def test_what_nobody_delays_is_no_longer_with_others_there_and_may_pass_meanwhile():
    none, pull = np.zeros((2, 1, 1)), np.full((2, 1, 1), 1.0)

    alone_s, more_s, hidden_s = (
        laws.shared_hosts_step_s([[1.0], [1.0]], none, pull, none, [2], (apart_s, 0.0))[0][0, 0]
        for apart_s in (0.0, 4.0, -0.5)
    )

    assert alone_s == pytest.approx(1 + 1 * (1 + 1 / 2))  # the other is there half of its 2 s
    assert more_s == pytest.approx(1 + 1 * (1 + 1 / 6) + 4)
    assert hidden_s == pytest.approx(1 + 1 * (1 + 1 / 1.5) - 0.5)

"""Event simulation: it agrees with the formulas where both apply, and does what they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facesim.forecast import laws
from facesim.forecast.simulate import Stragglers, simulate_async, simulate_barriers, simulate_spot
from facesim.spec.spot import Spot
from facesim.util.errors import InputError


@pytest.mark.parametrize("workers", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("cv", [0.3, 1.0])
def test_asynchronous_workers_are_as_fast_as_exact_mean_value_analysis_says(workers, cv):
    run = simulate_async([0.1] * workers, [0.008], [0.012], 20_000, cv=cv)

    # Exact for servers that share their processor, whatever the distribution of computing.
    expected = laws.exact_mva(0.1, [0.008, 0.012], workers) if workers == 1 else laws.exact_mva(0.1, [0.02], workers)
    assert run.updates_per_s == pytest.approx(expected[-1], rel=0.025)


def test_and_mixed_hosts_as_the_formula_for_them():
    run = simulate_async([0.05] * 3 + [0.1] * 3, [0.002], [0.003], 20_000, cv=0.2)

    assert run.updates_per_s == pytest.approx(laws.mixed_updates_per_s([0.05, 0.1], [3, 3], [0.002], [0.003]), rel=0.03)


@pytest.mark.parametrize("compute_s", [[0.1] * 8, [0.05] * 4 + [0.2] * 4])
def test_mean_staleness_is_one_less_than_the_workers_whatever_their_speeds(compute_s):
    run = simulate_async(compute_s, [0.001], [0.001], 20_000, cv=0.2)

    shares = run.staleness_shares()

    assert (shares * np.arange(len(shares))).sum() == pytest.approx(7, abs=0.05)
    assert shares.sum() == pytest.approx(1)


def test_slow_workers_are_staler_than_fast_ones():
    run = simulate_async([0.05, 0.05, 0.05, 0.4], [0.001], [0.001], 4000, cv=0.1)

    staleness = run.staleness[run.steady]

    assert staleness[run.workers[run.steady] == 3].mean() > 3 * staleness[run.workers[run.steady] == 0].mean()


def test_the_order_of_updates_can_be_replayed():
    run = simulate_async([0.1] * 4, [0.01], [0.01], 500, cv=0.3, seed=3)

    last_of = {}
    for version, (worker, read) in enumerate(zip(run.workers.tolist(), run.versions_read.tolist())):
        # A worker reads after its own update was applied, and before its next.
        assert last_of.get(worker, 0) == read <= version
        last_of[worker] = version + 1
    again = simulate_async([0.1] * 4, [0.01], [0.01], 500, cv=0.3, seed=3)
    assert (again.workers == run.workers).all() and (again.versions_read == run.versions_read).all()


def test_a_server_that_holds_everything_is_the_bottleneck():
    even = simulate_async([0.05] * 16, [0.004, 0.004], [0.004, 0.004], 5000, cv=0.1)
    uneven = simulate_async([0.05] * 16, [0.0, 0.008], [0.0, 0.008], 5000, cv=0.1)

    assert even.updates_per_s == pytest.approx(1 / 0.008, rel=0.02)
    assert uneven.updates_per_s == pytest.approx(1 / 0.016, rel=0.02)


@pytest.mark.parametrize(("workers", "backup"), [(4, 0), (16, 0), (16, 2)])
def test_barriers_take_what_the_order_statistic_says(workers, backup):
    simulated = simulate_barriers([0.1] * workers, 0.02, 20_000, cv=0.1, backup_workers=backup)

    expected = 0.02 + laws.slowest_s(0.1, 0.1, workers, workers - backup)
    assert simulated.mean() == pytest.approx(expected, rel=0.01)


def test_local_steps_even_stragglers_out():
    simulated = simulate_barriers([0.1] * 8, 0.04, 16_000, cv=0.3, local_steps=8)

    assert simulated.mean() / 8 == pytest.approx(float(laws.local_sgd_step_s(0.1, 0.3, 8, 0.04, 8)), rel=0.01)


def test_a_straggler_holds_barriers_up_and_backup_workers_let_it_come_late():
    slow = Stragglers(probability=0.02, factor=5)

    waited = simulate_barriers([0.1] * 8, 0.0, 10_000, cv=0.05, stragglers=slow).mean()
    backed = simulate_barriers([0.1] * 8, 0.0, 10_000, cv=0.05, stragglers=slow, backup_workers=1).mean()

    # One of eight is slow in 1 - 0.98^8 = 15 % of the updates.
    assert waited == pytest.approx(0.1 * (0.85 * 1.07 + 0.15 * 5), rel=0.03)
    assert backed < 1.1 * 0.1


def test_at_least_one_worker_is_waited_for():
    with pytest.raises(InputError, match="at least one"):
        simulate_barriers([0.1] * 2, 0.0, 10, backup_workers=2)


def test_a_job_that_loses_no_host_takes_its_own_time():
    runs = simulate_spot(1000, 4, Spot(rate=0, discount=0.5), start_s=50, upload_s=10, write_s=0.3, jobs=3)

    assert runs.total_s == pytest.approx([50 + 1000 * 1.01 + 10] * 3)
    assert runs.billable_s == pytest.approx([535] * 3)
    assert not runs.interruptions.any()


def test_spot_jobs_are_lengthened_as_the_formula_says():
    spot = Spot(rate=0.5, wait_s=0)

    runs = simulate_spot(7200, 4, spot, start_s=60, checkpoint_s=120, write_s=1.2, jobs=2000, seed=1)

    expected = 60 + 7200 * laws.spot_stretch(4, 0.5, 120, 60, 1.2)
    assert runs.training_s.mean() == pytest.approx(expected, rel=0.01)
    assert runs.interruptions.mean() == pytest.approx(4 * 0.5 * expected / 3600, rel=0.1)
    low, high = runs.interval()
    assert low < runs.total_s.mean() < high


def test_without_checkpoints_an_interruption_loses_everything_and_a_long_job_never_ends():
    runs = simulate_spot(36_000, 8, Spot(rate=2, wait_s=0), checkpoint_s=0, jobs=2)

    assert (runs.total_s == math.inf).all()


def test_told_before_they_go_hosts_lose_nothing():
    untold, with_hint = (
        simulate_spot(7200, 2, Spot(rate=1, notice_s=notice), checkpoint_s=600, write_s=1, jobs=200)
        for notice in (0, 60)
    )

    assert untold.lost_s.mean() > 0
    assert not with_hint.lost_s.any()


def test_capacity_saves_what_prices_say_where_these_are_known(monkeypatch, tmp_path):
    prices = tmp_path / "prices.toml"
    prices.write_text('["ml.m5.xlarge"]\nusd_per_hour = 0.2\nspot_usd_per_hour = 0.05\n')
    monkeypatch.setenv("FACESIM_PRICES", str(prices))

    known, assumed = (
        simulate_spot(1000, 2, Spot(rate=0), groups=groups, jobs=1).billable_s[0]
        for groups in ([("ml.m5.xlarge", 2)], [("ml.m5.2xlarge", 2)])
    )

    assert known == 250
    assert assumed == 430

"""The order of asynchronous updates: recorded and read again, simulated, and what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facesim.forecast.replay import order_of, simulated_orders
from facesim.forecast.simulate import simulate_async
from facesim.training.order import Order, OrderRecorder, load_orders, read_orders, write_orders
from facesim.util.errors import InputError


def order(workers, read, batches):
    return Order(np.array(workers), np.array(read), np.array(batches))


@pytest.mark.parametrize(
    ("read", "batches", "message"), [([0, 2], [0, 1], "did not exist"), ([0, 1], [0, 0], "each of 2 batches once")]
)
def test_what_cannot_have_been_is_refused(read, batches, message):
    with pytest.raises(InputError, match=message):
        order([0, 0], read, batches)


def test_what_is_recorded_is_read_again_by_epochs(tmp_path):
    file = tmp_path / "order.csv"
    recorder = OrderRecorder(file)
    for row in [(1, 0, 0, 0, 0), (1, 1, 1, 0, 1), (2, 1, 0, 2, 2), (2, 0, 1, 2, 3)]:
        recorder.add(*row)
    recorder.flush()

    first, second = read_orders(file)

    assert (list(first.workers), list(first.versions_read), list(first.batches)) == ([0, 1], [0, 0], [0, 1])
    assert list(second.batches) == [1, 0]
    assert list(second.staleness) == [0, 1]


def test_epochs_between_which_workers_went_on_are_one_order(tmp_path):
    file = tmp_path / "order.csv"
    recorder = OrderRecorder(file)
    for row in [
        (1, 0, 0, 0, 0), (2, 0, 1, 1, 1), (1, 1, 2, 0, 2), (2, 1, 1, 2, 3),  # nobody waited at the end of the first
        (3, 0, 0, 4, 4), (3, 1, 0, 5, 5),
        (4, 1, 0, 5, 6), (4, 0, 1, 6, 7),  # one read before the last update of the epoch before
        (5, 0, 0, 8, 8),
    ]:  # fmt: skip
        recorder.add(*row)
    recorder.flush()

    two, next_two, rest = read_orders(file)

    assert (list(two.batches), list(two.versions_read)) == ([0, 2, 1, 3], [0, 1, 0, 2])
    assert (list(next_two.batches), list(next_two.versions_read)) == ([0, 1, 3, 2], [0, 1, 1, 2])
    assert list(rest.batches) == [0]  # as far as it went: every update until it was stopped is known


def test_what_came_after_the_checkpoint_from_which_a_run_goes_on_is_replaced(tmp_path):
    file = tmp_path / "order.csv"
    before = OrderRecorder(file)
    for row in [(1, 0, 0, 0, 0), (1, 1, 0, 1, 1), (2, 0, 0, 2, 2)]:
        before.add(*row)
    before.flush()
    with file.open("a") as torn:
        torn.write("2,1,0")
    after = OrderRecorder(file)
    for row in [(2, 1, 1, 2, 2), (2, 0, 0, 2, 3)]:
        after.add(*row)
    after.flush()

    _, second = read_orders(file)

    assert list(second.workers) == [1, 0]
    assert list(second.batches) == [1, 0]


def test_an_epoch_that_was_not_ended_is_left_out_and_a_gap_is_told(tmp_path):
    file = tmp_path / "order.csv"
    recorder = OrderRecorder(file)
    recorder.add(1, 0, 0, 0, 0)
    recorder.add(2, 1, 0, 1, 1)  # the second batch, and no first one
    recorder.flush()
    assert len(read_orders(file)) == 1

    recorder.add(2, 2, 0, 1, 4)
    recorder.flush()
    with pytest.raises(InputError, match="gaps"):
        read_orders(file)
    with pytest.raises(InputError, match="only ps-async records one"):
        read_orders(tmp_path / "none.csv")


def test_a_strategy_without_an_order_writes_no_file(tmp_path):
    OrderRecorder(tmp_path / "order.csv").flush()

    assert not (tmp_path / "order.csv").exists()


def test_orders_are_kept_in_a_file(tmp_path):
    kept = [order([0, 1], [0, 0], [1, 0]), order([0, 0, 1], [0, 1, 1], [0, 2, 1])]

    write_orders(tmp_path / "orders.npz", kept)

    for before, after in zip(kept, load_orders(tmp_path / "orders.npz"), strict=True):
        np.testing.assert_array_equal(before.versions_read, after.versions_read)
        np.testing.assert_array_equal(before.batches, after.batches)


@settings(deadline=None)
@given(
    speeds=st.lists(st.floats(0.3, 3.0), min_size=1, max_size=6),
    updates=st.integers(1, 40),
    cv=st.sampled_from([0.0, 0.1, 0.8]),
    dispatch_s=st.sampled_from([0.0, 0.0, 0.5]),
    seed=st.integers(0, 3),
)
def test_a_simulated_epoch_has_every_batch_once_and_ends_with_its_last(speeds, updates, cv, dispatch_s, seed):
    epoch, count = None, updates + len(speeds)
    while epoch is None:
        run = simulate_async(speeds, [0.02], [0.05], count, cv=cv, dispatch_s=dispatch_s, seed=seed)
        epoch, count = order_of(run, updates, len(speeds)), 2 * count

    assert len(epoch) == updates
    assert sorted(epoch.batches) == list(range(updates))
    # A worker has one batch at a time: it reads at the earliest after its own last update.
    for worker in set(epoch.workers):
        batches = np.flatnonzero(epoch.workers == worker)
        since = epoch.versions_read[batches][1:] - (batches[:-1] + 1)
        assert np.all(since >= 0)
        assert dispatch_s or not since.any()


@settings(deadline=None)
@given(read=st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_every_gradient_is_computed_after_its_version_is_made_and_before_it_is_applied(read):
    versions = [min(value, place) for place, value in enumerate(read)]
    epoch = order([0] * len(read), versions, range(len(read)))

    events = epoch.events()

    assert [update for update, applies in events if applies] == list(range(len(read)))
    assert set(np.flatnonzero(epoch.is_read())) == set(versions)
    for update, version in enumerate(versions):
        computed = events.index((update, False))
        assert computed < events.index((update, True))
        if version:
            assert events.index((version - 1, True)) < computed


def test_mean_staleness_of_simulated_workers_is_one_less_than_they_are(profile):
    orders = simulated_orders(profile, workers=5, ps=1, updates=300, epochs=2, seed=1)

    for epoch in orders:
        assert epoch.staleness[50:-10].mean() == pytest.approx(4, abs=0.1)
    assert not np.array_equal(orders[0].workers, orders[1].workers)
    again = simulated_orders(profile, workers=5, ps=1, updates=300, epochs=2, seed=1)
    np.testing.assert_array_equal(orders[1].versions_read, again[1].versions_read)


def test_one_worker_is_never_late(profile):
    (epoch,) = simulated_orders(profile, workers=1, ps=2, updates=20, epochs=1)

    assert list(epoch.batches) == list(range(20))
    assert set(epoch.staleness) == {0}


def test_impossible_clusters_are_refused(profile):
    with pytest.raises(InputError, match="workers is 0"):
        simulated_orders(profile, workers=0, ps=1, updates=5, epochs=1)
    with pytest.raises(InputError, match="2 positive numbers"):
        simulated_orders(profile, workers=2, ps=1, updates=5, epochs=1, relative_speeds=[1.0])


def test_workers_that_wait_for_their_next_step_are_less_stale(profile):
    waiting = profile.model_copy(update={"in_step_share": 0.5})

    (epoch,) = simulated_orders(waiting, workers=5, ps=1, updates=400, epochs=1, shared_cores=True)
    (busy,) = simulated_orders(waiting, workers=5, ps=1, updates=400, epochs=1)

    assert epoch.staleness[50:-10].mean() == pytest.approx(0.5 * 4, rel=0.2)
    assert busy.staleness[50:-10].mean() == pytest.approx(4, abs=0.1)


def test_an_epoch_that_a_simulation_did_not_end_is_none():
    run = simulate_async([0.1, 10.0], [0.001], [0.001], 4, cv=0.1)

    assert order_of(run, 2, 2) is None
    epoch = order_of(simulate_async([0.1, 10.0], [0.001], [0.001], 400, cv=0.1), 2, 2)
    assert (list(epoch.workers), list(epoch.batches)) == ([0, 1], [0, 1])

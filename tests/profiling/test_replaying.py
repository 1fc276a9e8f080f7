"""A cluster's training made again in one process: from the order that a real run recorded, and from a simulated one."""

from __future__ import annotations

import numpy as np
import pytest

from facesim.forecast.replay import simulated_orders
from facesim.preflight.inputs import prepare_inputs
from facesim.profiling.accuracy import Curve, curve_of, forecast_accuracy, replay
from facesim.runs.directory import Run
from facesim.spec.job import make_job
from facesim.training.order import Order, read_orders
from tests.conftest import completed_run, facesim_here, parse
from tests.integration.cells import train_cells

#: Without dropout and batch statistics, and with enough updates an epoch that workers are in their stride.
PLAIN = {"model": "plain-cnn", "image_size": 32, "batch": 4, "learning_rate": 0.001, "epochs": 6}
#: Each worker normalises its own part of a batch, which makes much of rounding: so slow that nothing comes of it.
NORMALISED = {"model": "resnet-small", "learning_rate": 1e-8}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("loaded")]


def replayed(options, orders, folder, epochs=None) -> Curve:
    job = make_job(**options)
    return replay(job, orders, folder, prepare_inputs(job, lambda *_: None), lambda: None, epochs)


@pytest.fixture(scope="module")
def asynchronous(tmp_path_factory, faces) -> Run:
    """A real run of three workers."""
    flags = [part for name, value in PLAIN.items() for part in (f"--{name.replace('_', '-')}", value)]
    shape = ("--strategy", "ps-async", "--workers", 3)
    return completed_run(tmp_path_factory.mktemp("asynchronous"), "--data", faces, *flags, *shape)


def test_the_order_of_a_real_run_is_on_record(asynchronous):
    orders = read_orders(asynchronous.order_file)

    counted = asynchronous.outcome().counted
    assert sum(len(order) for order in orders) == counted.updates
    assert len(orders) == PLAIN["epochs"]
    staleness = np.concatenate([order.staleness for order in orders])
    assert {late: int(count) for late, count in enumerate(np.bincount(staleness)) if count} == {
        int(late): count for late, count in counted.staleness.items()
    }
    assert {worker for order in orders for worker in order.workers.tolist()} == {0, 1, 2}


def test_replaying_the_order_of_a_real_run_makes_its_loss_curve(asynchronous, faces, tmp_path):
    real = curve_of(asynchronous)
    options = PLAIN | {"data": str(faces), "strategy": "ps-async", "workers": 3}

    again = replayed(options, read_orders(asynchronous.order_file), tmp_path / "again")

    assert again.staleness_mean == pytest.approx(real.staleness_mean)
    # What a pull reads in part before and in part after an update by another is all that differs.
    np.testing.assert_allclose(again.loss, real.loss, rtol=0.05, atol=0.03)
    # Another order would not do: updates that are all as late as they can be learn slower.
    count = len(read_orders(asynchronous.order_file)[0])
    latest = Order(np.zeros(count, int), np.zeros(count, int), np.arange(count))
    late = replayed(options, [latest] * PLAIN["epochs"], tmp_path / "late")
    distance = np.abs(np.array(again.loss) - real.loss).mean()
    assert distance < np.abs(np.array(late.loss) - real.loss).mean() / 2


def test_a_replay_is_the_same_to_the_bit_each_time_and_one_worker_s_is_single(faces, tmp_path, profile):
    options = PLAIN | {"data": str(faces), "epochs": 2}
    clustered = options | {"strategy": "ps-async", "workers": 1}
    orders = simulated_orders(profile, workers=1, ps=1, updates=16, epochs=2)

    first, second = (replayed(clustered, orders, tmp_path / name) for name in ("first", "second"))
    single = replayed(options, None, tmp_path / "single")

    assert first == second
    np.testing.assert_allclose(first.loss, single.loss, rtol=1e-4)


def test_the_first_epochs_that_are_replayed_are_those_of_the_whole_training(faces, tmp_path, profile):
    options = PLAIN | {"data": str(faces), "epochs": 5, "schedule": "cosine", "strategy": "ps-async", "workers": 2}
    orders = simulated_orders(profile, workers=2, ps=1, updates=16, epochs=5)

    whole = replayed(options, orders, tmp_path / "whole")
    first = replayed(options, orders[:2], tmp_path / "first", epochs=2)

    assert len(first.held_out_accuracy) == 2
    assert first.loss == whole.loss[:2] and first.held_out_loss == whole.held_out_loss[:2]


@pytest.mark.parametrize(
    ("strategy", "shape", "network"),
    [
        ("local-sgd", {"workers": 2, "local_steps": 3}, {}),
        pytest.param("ps-sync", {"workers": 2}, NORMALISED, marks=pytest.mark.exhaustive),
        pytest.param("allreduce", {"workers": 2}, {}, marks=pytest.mark.exhaustive),
    ],
)
def test_workers_that_make_updates_together_do_so_in_one_process(strategy, shape, network, faces, tmp_path):
    options = PLAIN | {"data": str(faces), "epochs": 2} | network
    real = train_cells(tmp_path / "real", strategy, shape, {"run": options})["run"]

    again = replayed(options | {"strategy": strategy} | shape, None, tmp_path / "again")

    np.testing.assert_allclose(again.loss, curve_of(real).loss, rtol=1e-3)
    np.testing.assert_allclose(again.held_out_loss, curve_of(real).held_out_loss, rtol=1e-3)


@pytest.mark.exhaustive
def test_a_forecast_of_accuracy_marks_what_it_did_not_replay(faces, tmp_path, profile):
    job = make_job(**PLAIN | {"data": str(faces), "strategy": "ps-async", "workers": 4, "epochs": 12})
    inputs = prepare_inputs(job, lambda *_: None)
    small = profile.model_copy(update={"examples": 64})

    forecast = forecast_accuracy(job, small, tmp_path, inputs, seeds=2, replayed_epochs=4)

    assert (forecast.seeds, forecast.replayed_epochs, len(forecast.mean), forecast.extrapolated) == (2, 4, 12, True)
    assert np.all((forecast.low <= forecast.mean) & (forecast.mean <= forecast.high))


def test_the_command_forecasts_accuracy_and_when_it_is_reached(faces, tmp_path, profile):
    file = tmp_path / "profile.json"
    profile.model_copy(update={"model": "plain-cnn", "examples": 64, "batch": 4}).save(file)
    flags = ("--data", faces, "--model", "plain-cnn", "--image-size", 32, "--batch", 4, "--learning-rate", 0.002)

    forecast = parse(
        facesim_here(
            "replay", *flags, "--workers", 2, "--epochs", 3, "--seeds", 1, "--to-accuracy", 0.01, "--profile", file,
            "--here", "--json",
        )
    )  # fmt: skip

    assert forecast["measurement"] == "forecast"
    assert len(forecast["held_out_accuracy"]["mean"]) == 3
    assert (forecast["seeds"], forecast["extrapolated"]) == (1, False)
    assert 1 <= forecast["epochs_to_accuracy"] <= 3
    assert forecast["time_to_accuracy_s"] > 0

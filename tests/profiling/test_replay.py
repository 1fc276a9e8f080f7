"""From replays to a forecast of accuracy: intervals over seeds, continuation of a prefix, time to an accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from facesim.forecast.replay import accuracy_forecast, extrapolated
from facesim.util.errors import InputError
from tests.conftest import facesim_here


def curve(epochs, left=0.05, falling=0.6, exponent=0.8):
    return 1 - (left + falling * np.arange(1, epochs + 1.0) ** -exponent)


def test_a_prefix_of_a_power_law_tells_the_rest():
    whole = curve(60)

    extrapolation = extrapolated(whole[:15], 60)

    np.testing.assert_array_equal(extrapolation[:15], whole[:15])
    np.testing.assert_allclose(extrapolation[15:], whole[15:], atol=0.01)


def test_a_continuation_stays_an_accuracy_and_too_short_a_prefix_is_refused():
    assert extrapolated([0.5, 0.9, 0.99, 1.0, 1.0], 200).max() <= 1.0
    with pytest.raises(InputError, match="at least 4"):
        extrapolated([0.5, 0.6], 10)


def test_the_interval_is_for_a_further_run_and_a_single_seed_has_none():
    rows = [curve(10) + shift for shift in (-0.02, 0.0, 0.02)]

    forecast = accuracy_forecast(rows, 10)

    np.testing.assert_allclose(forecast.mean, curve(10))
    # t(2) at 80 % is 1.886, s is 0.02.
    np.testing.assert_allclose(forecast.high - forecast.mean, 1.886 * 0.02 * np.sqrt(4 / 3), atol=1e-4)
    assert (forecast.seeds, forecast.replayed_epochs, forecast.extrapolated) == (3, 10, False)
    alone = accuracy_forecast(rows[:1], 10)
    np.testing.assert_array_equal(alone.low, alone.mean)


def test_what_was_not_replayed_is_marked():
    forecast = accuracy_forecast([curve(8)], 30)

    assert forecast.extrapolated
    assert (forecast.replayed_epochs, len(forecast.mean)) == (8, 30)


def test_time_to_an_accuracy_is_epochs_to_it_times_their_seconds():
    forecast = accuracy_forecast([[0.2, 0.5, 0.8, 0.9]], 4)

    assert forecast.epochs_to(0.75) == 3
    assert forecast.time_to_s(0.75, epoch_s=10, start_s=4) == 34
    assert forecast.epochs_to(0.95) is None
    assert forecast.time_to_s(0.95, epoch_s=10) is None


@pytest.mark.parametrize("rows", [[], [[]], [[0.1, 0.2], [0.1]]])
def test_replays_that_do_not_fit_together_are_refused(rows):
    with pytest.raises(InputError, match="same number of epochs"):
        accuracy_forecast(rows, 5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--strategy", "independent"), "replay that"),
        (("--to-accuracy", "2000"), "no accuracy"),
        (("--model", "compact-cnn", "--profile"), "is of paper-cnn"),
        (("--replayed-epochs", "2"), "4"),
        (("--data", "s3://a-bucket/faces"), "is read by hosts alone"),
        (
            ("--instance-type", "ml.g5.xlarge", "--to-accuracy", "0.5", "--seeds", "1", "--epochs", "4", "--profile"),
            "nobody knows how fast ml.g5.xlarge trains",
        ),
    ],
)
def test_what_cannot_be_replayed_is_told_before_anything_starts(flags, message, profile, tmp_path, faces):
    if flags[-1] == "--profile":
        profile.save(tmp_path / "profile.json")
        flags = (*flags, tmp_path / "profile.json")
    data = () if "--data" in flags else ("--data", faces)

    command = facesim_here("replay", *data, *flags)

    assert command.code == 2
    assert message in command.errors and "replaying" not in command.output

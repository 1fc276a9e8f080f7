"""Intervals: by offered load, in quadrature, from a user's own runs."""

from __future__ import annotations

import pytest

from facesim.forecast.constants import FILE, constants
from facesim.forecast.intervals import (
    bounds,
    published_widths,
    quadrature,
    read_residuals,
    save_residuals,
    widths_from_runs,
)
from facesim.util.errors import InputError


def test_the_more_load_is_offered_the_less_sure_a_forecast_is():
    assert published_widths().at([0.1, 0.5, 0.7, 0.95, 3.0]).tolist() == [0.05, 0.05, 0.06, 0.11, 0.11]


def test_independent_causes_add_in_quadrature():
    assert quadrature(0.03, 0.04) == pytest.approx(0.05)


def test_bounds_of_a_speed_and_of_its_time_are_the_same():
    low, high = bounds(4.0, 0.25)

    assert (low, high) == (pytest.approx(3.2), pytest.approx(5.0))
    assert bounds(1 / 4.0, 0.25) == (pytest.approx(1 / high), pytest.approx(1 / low))


def test_a_users_own_runs_replace_published_widths_where_there_are_enough():
    widths = widths_from_runs([0.1] * 9 + [0.7] + [2.0] * 2, [0.01] * 8 + [-0.3] + [-0.2] + [0.01] * 2)

    assert widths.low == pytest.approx(0.01)  # the 8th of 9
    assert widths.middle == pytest.approx(0.25)  # 0.8 of what was measured; one run only, but wider than published
    assert widths.high == published_widths().high


def test_residuals_survive_their_file_and_a_damaged_one_is_refused(tmp_path):
    file = tmp_path / "residuals.json"
    save_residuals(file, [(0.1, 0.02)] * 5)

    assert read_residuals(file).low == pytest.approx(0.02)
    file.write_text('{"rows": [[1]]}')
    with pytest.raises(InputError, match="does not hold residuals"):
        read_residuals(file)


def test_every_constant_says_where_it_is_from():
    import json

    for name in json.loads(FILE.read_text()):
        published = constants(name)
        assert published.source and published.date and published.values
        assert isinstance(published.assumed, bool)

"""How sure a forecast is: 80 % intervals from how far off such forecasts were, widened by what is not known.

A forecast is the less sure the more load is offered to the servers: rho = w X1 D, what the workers would ask of the
busiest server if none waited. Relative half-widths of independent causes add in quadrature.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facesim.forecast.constants import constants
from facesim.util.errors import InputError
from facesim.util.files import read_text, write_json

#: How many standard deviations an 80 % interval of a normal distribution reaches to each side.
Z80 = 1.2816

#: 80 % half-width of a measurement repeated: run to run, published speeds vary by 2.7 % (one standard deviation).
REPEATED = 0.027 * Z80

#: Bounds of the classes of offered load.
CLASSES = (0.5, 0.9)

#: So many residuals of a class are needed for its own width; the (n+1)-quantile of fewer is not defined at 80 %.
_LEAST_RESIDUALS = 4

#: No forecast of the same thing is so many times too high.
_MOST_RESIDUAL = 1000.0


class Widths(NamedTuple):
    """Relative 80 % half-widths of a speed by class of offered load: below 0.5, up to 0.9, above."""

    low: float
    middle: float
    high: float

    def at(self, offered_load: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(self)[np.searchsorted(CLASSES, np.asarray(offered_load, dtype=float), side="left")]


def published_widths() -> Widths:
    """The half-widths of forecasts of published measurements; see `constants.json`."""
    values = constants("residuals").values
    return Widths(values["low"], values["middle"], values["high"])


def fitted_width(values: Mapping[str, float]) -> float:
    """The half-width of a forecast with fitted constants: what it was off by where they were not fitted to it. That a
    measurement is not the same again is in that already.
    """
    return float(values.get("half_width", published_widths().high))


def covering(sizes: ArrayLike) -> float:
    """The size that a further one of its kind does not exceed, 8 times in 10: the ceil(0.8 (n+1))-th of the n `sizes`;
    the largest, where that would be one more than there are.

    Source: split conformal prediction (Lei et al., "Distribution-free predictive inference for regression", 2018).
    """
    ordered = np.sort(np.asarray(sizes, dtype=float))
    return float(ordered[min(len(ordered), math.ceil(0.8 * (len(ordered) + 1))) - 1])


def widths_from_runs(offered_load: Sequence[float], residuals: Sequence[float]) -> Widths:
    """The half-widths that a user's own runs give, from forecast / measured - 1: in each class the 80 % quantile of by
    how much the larger of the two is beyond the other, as `bounds` takes it.

    A class with fewer than four runs keeps the published width, or the widest of the user's own if that is wider.
    """
    published = published_widths()
    classes = np.searchsorted(CLASSES, np.asarray(offered_load, dtype=float), side="left")
    sizes = np.expm1(np.abs(np.log1p(np.asarray(residuals, dtype=float))))
    widths = []
    for number, published_width in enumerate(published):
        width = published_width
        class_sizes = sizes[classes == number]
        if len(class_sizes) >= _LEAST_RESIDUALS:
            width = covering(class_sizes)
        elif len(class_sizes):
            width = max(width, covering(class_sizes))
        widths.append(width)
    return Widths(*widths)


def quadrature(*half_widths: ArrayLike) -> NDArray[np.float64]:
    """Relative half-widths of independent causes, together."""
    return np.sqrt(sum(np.square(np.asarray(each, dtype=float)) for each in half_widths))


def bounds(value: ArrayLike, half_width: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(low, high) around a positive value: value / (1 + h) and value (1 + h), so that speed and time agree."""
    value, factor = np.asarray(value, dtype=float), 1 + np.asarray(half_width, dtype=float)
    return value / factor, value * factor


def save_residuals(file: Path, rows: Sequence[tuple[float, float]]) -> None:
    """Keep (offered load, forecast / measured - 1) of a user's own runs, for `read_residuals`."""
    write_json(file, {"schema_version": 1, "rows": [list(row) for row in rows]})


def read_residuals(file: Path) -> Widths:
    """The half-widths from a file of `save_residuals`.

    Raises:
        InputError: the file is missing or not such a file.
    """
    try:
        content: Any = json.loads(read_text(file))
        rows = [(float(load), float(residual)) for load, residual in content["rows"]]
        usable = content["schema_version"] == 1 and all(
            0 <= load < math.inf and -1 < residual <= _MOST_RESIDUAL for load, residual in rows
        )
    except (OSError, ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        raise InputError(f"{file} does not hold residuals of forecasts; delete it, or calibrate again")
    return widths_from_runs([load for load, _ in rows], [residual for _, residual in rows])

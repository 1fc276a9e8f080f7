"""A forecast beside what was measured: points, curves, their errors, regret of a choice, coverage of intervals."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Rows = list[dict[str, Any]]

#: Numbers above these are mistakes.
_MOST, _MOST_COUNTED = 1e15, 100_000

#: What rows count: these numbers are whole.
COUNTS = frozenset({"workers", "ps", "gpus", "nodes"})


@dataclass(frozen=True)
class Point:
    """One shape: what was forecast and what was measured, in the same unit; `half_width` is relative, for 80 %.

    `usd_per_h` is the price of the shape, in any currency: only ratios count. A point that is `given` was an input.
    """

    shape: str
    forecast: float
    measured: float
    half_width: float | None = None
    usd_per_h: float | None = None
    given: bool = False

    @property
    def error(self) -> float:
        return self.forecast / self.measured - 1

    @property
    def covered(self) -> bool:
        factor = 1 + (self.half_width or 0.0)
        return self.forecast / factor <= self.measured <= self.forecast * factor


@dataclass(frozen=True)
class Curve:
    """Shapes of one model on one kind of machine. `reason` says why there is no forecast, where there is none.

    `choice` names the curves among whose shapes one would choose. `speed`: more is better; else it is seconds or
    dollars, and less is better.
    """

    study: str
    name: str
    points: tuple[Point, ...] = ()
    reason: str | None = None
    choice: str | None = None
    speed: bool = True
    note: str = ""

    @property
    def judged(self) -> list[Point]:
        return [point for point in self.points if not point.given]

    @property
    def mean_error(self) -> float:
        return statistics.fmean(abs(point.error) for point in self.judged)

    @property
    def worst_error(self) -> float:
        return max(abs(point.error) for point in self.judged)


def regrets(curves: Iterable[Curve]) -> dict[str, dict[str, float]]:
    """How much is lost, relative to the best shape, by choosing the one that is forecast to be fastest, or cheapest."""
    groups: dict[str, list[tuple[bool, Point]]] = {}
    for curve in curves:
        if curve.choice:
            groups.setdefault(f"{curve.study}: {curve.choice}", []).extend((curve.speed, each) for each in curve.points)
    choices = {}
    for name, members in groups.items():
        if len(members) > 1:
            choices[name] = {"fastest": _regret([(_slowness(speed, each), 1.0) for speed, each in members])}
            if all(each.usd_per_h for _, each in members):
                priced = [(_slowness(speed, each), each.usd_per_h) for speed, each in members]
                choices[name]["cheapest"] = _regret(priced)
    return choices


def _slowness(speed: bool, point: Point) -> tuple[float, float]:
    """Seconds for the same work, (forecast, measured), up to a factor."""
    return (1 / point.forecast, 1 / point.measured) if speed else (point.forecast, point.measured)


def _regret(priced: Sequence[tuple[tuple[float, float], float]]) -> float:
    costs = [(forecast * price, measured * price) for (forecast, measured), price in priced]
    return min(costs)[1] / min(measured for _, measured in costs) - 1


def summary(curves: Sequence[Curve]) -> dict[str, Any]:
    """Everything that is reported, as JSON can hold it."""
    studies: dict[str, list[Curve]] = {}
    for curve in curves:
        studies.setdefault(curve.study, []).append(curve)
    return {"studies": {study: _study(members) for study, members in studies.items()}, "regret": regrets(curves)}


def _study(curves: Sequence[Curve]) -> dict[str, Any]:
    judged = [curve for curve in curves if curve.judged]
    points = [point for curve in judged for point in curve.judged]
    with_interval = [point for point in points if point.half_width is not None]
    return {
        "mean_error": statistics.fmean(curve.mean_error for curve in judged) if judged else None,
        "worst_curve": max(curve.mean_error for curve in judged) if judged else None,
        "worst_point": max(curve.worst_error for curve in judged) if judged else None,
        "coverage": sum(point.covered for point in with_interval) / len(with_interval) if with_interval else None,
        "points": len(points),
        "points_with_interval": len(with_interval),
        "curves": [_curve(curve) for curve in curves],
    }


def _curve(curve: Curve) -> dict[str, Any]:
    record: dict[str, Any] = {"name": curve.name}
    if curve.note:
        record["note"] = curve.note
    if not curve.judged:
        return record | {"reason": curve.reason or "nothing but the inputs was measured"}
    return record | {
        "mean_error": curve.mean_error,
        "worst_error": curve.worst_error,
        "points": [
            {
                "shape": point.shape,
                "forecast": point.forecast,
                "measured": point.measured,
                "error": point.error,
                "half_width_80": point.half_width,
            }
            for point in curve.judged
        ],
    }


def positive(row: dict[str, Any], name: str) -> float | None:
    """A number of a row that must be positive; None where it is missing or is not."""
    value = row.get(name)
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _MOST
    return float(value) if usable else None


def counted(row: dict[str, Any], name: str) -> float | None:
    """A number of things, of which there is at least one; None where it is missing or cannot be."""
    value = positive(row, name)
    return value if value is not None and value == int(value) and value <= _MOST_COUNTED else None


def lacking(row: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Those of the names of which the row has no number above 0, or no whole one of what it counts."""
    return [name for name in names if (counted if name in COUNTS else positive)(row, name) is None]


class Group(NamedTuple):
    """Rows of one curve: what they have in common, and in words what tells them from others that have that as well."""

    common: tuple[str, ...]
    apart: str
    rows: Rows


def grouped(rows: Rows, common: Sequence[str], apart: Mapping[str, str]) -> list[Group]:
    """Rows by the names in `common`, and each of these by the names in `apart`, whose values are formats of the words.

    A row that does not tell a name in `apart` is as the others, where all of these tell the same.
    """
    alike: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        alike.setdefault(tuple(_text(row, name) for name in common), []).append(row)
    groups = []
    for key, members in alike.items():
        told = {name: {_text(row, name) for row in members} - {_UNKNOWN} for name in apart}
        split = [name for name, values in told.items() if len(values) > 1]
        parts: dict[str, Rows] = {}
        for row in members:
            parts.setdefault(", ".join(apart[name].format(_text(row, name)) for name in split), []).append(row)
        groups += [Group(key, words and f", {words}", each) for words, each in parts.items()]
    return groups


_UNKNOWN = "?"


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None:
        return _UNKNOWN
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def mean_of(rows: Rows, name: str) -> float:
    return statistics.fmean(row[name] for row in rows)


def notes(*parts: str) -> str:
    """What there is to say of a curve."""
    return "; ".join(part for part in parts if part)


def not_forecast(count: int, which: str) -> str:
    """That so many rows, which are no input either, are not forecast."""
    return f"{which} are not forecast ({count})" if count else ""


def from_mean(rows: Rows) -> str:
    """That what a curve starts from was measured more than once."""
    return f"from the mean of {len(rows)} rows" if len(rows) > 1 else ""

"""What `benchmarks.forecast_docker` says of its results: errors by shape, what disturbed them, a table in Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from benchmarks.dilation import Figures

#: By how much hosts may become faster or slower during a run that tells how right its forecast was.
_STEADY = 0.07

_FIGURES = tuple(field.name for field in fields(Figures))


def disturbances_of(result: dict[str, Any]) -> list[str]:
    """Why a result tells little of how right its forecast was; empty if nothing disturbed it."""
    change = result.get("speed_change", 0.0)
    became = [f"its hosts became {abs(change):.0%} {'faster' if change > 0 else 'slower'}".replace("%", " %")]
    return [*result["measured"]["disturbances"], *(became if abs(change) > _STEADY else [])]


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Errors by shape (of several rounds the median, and the least and the most), their means and the worst, and how
    many shapes were disturbed: in every round, else those rounds are left out.
    """
    names = list(dict.fromkeys(result["name"] for result in results))
    rows, sizes = [], {name: [] for name in _FIGURES}
    for name in names:
        of_shape = [result for result in results if result["name"] == name]
        same_name = [result for result in of_shape if not disturbances_of(result)] or of_shape
        errors, spread = {}, {}
        for figure in _FIGURES:
            values = [result["errors"][figure] for result in same_name if result["errors"][figure] is not None]
            errors[figure] = _median(values)
            spread[figure] = (min(values), max(values)) if values else None
            if values:
                sizes[figure].append(abs(errors[figure]))
        rows.append(
            {
                "name": name,
                "rounds": len(same_name),
                "bound": same_name[-1]["bound"],
                "cpu_factor": same_name[-1]["measured"]["cpu_factor"],
                "forecast": _medians([result["forecast"] for result in same_name]),
                "measured": _medians([result["measured"]["figures"] for result in same_name]),
                "errors": errors,
                "spread": spread,
                "error_with_cpu": _median([result.get("error_with_cpu") for result in same_name]),
                "inside_interval": _inside(same_name),
                "disturbances": sorted({text for result in same_name for text in disturbances_of(result)}),
            }
        )
    with_cpu = [abs(row["error_with_cpu"]) for row in rows if row["error_with_cpu"] is not None]
    return {
        "shapes": rows,
        "error_with_cpu": {"mean": statistics.fmean(with_cpu), "worst": max(with_cpu)} if with_cpu else {},
        "mean": {name: statistics.fmean(each) if each else None for name, each in sizes.items()},
        "worst": {name: max(each) if each else None for name, each in sizes.items()},
        "disturbed": sum(bool(row["disturbances"]) for row in rows),
    }


def _medians(rounds: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {name: _median([each[name] for each in rounds]) for name in rounds[0]}


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _inside(results: list[dict[str, Any]]) -> bool | None:
    """Whether the training time that was measured lies in the forecast's 80 % interval."""
    lines = [
        abs(math.log(1 + result["errors"]["training_s"])) <= math.log(1 + result["half_width"])
        for result in results
        if result["errors"]["training_s"] is not None
    ]
    return sum(lines) * 2 > len(lines) if lines else None


def table(report: dict[str, Any]) -> Iterator[str]:
    """The report as a table in Markdown."""
    told = "told the run's CPU time"
    yield (
        f"| shape | bound | factor | updates/s: forecast, measured | error | {told} | training | bytes | stale | "
        "disturbed |"
    )
    yield "|---" * 10 + "|"
    for row in report["shapes"]:
        predicted, was, errors = row["forecast"], row["measured"], row["errors"]
        speeds = ", ".join(_number(each["updates_per_s"]) for each in (predicted, was))
        yield (
            f"| {row['name']} | {row['bound']} | {row['cpu_factor']:.3g} | {speeds} | "
            f"{_percent(errors['updates_per_s'])}{_spread(row)} | {_percent(row['error_with_cpu'])} | "
            f"{_percent(errors['training_s'])} | "
            f"{_percent(errors['wire_bytes_per_update'])} | {_updates(errors['staleness'])} | "
            f"{'; '.join(row['disturbances']) or 'no'} |"
        )
    for name in ("mean", "worst"):
        of = report[name]
        yield (
            f"| **{name}** | | | | {_percent(of['updates_per_s'], '')} | "
            f"{_percent(report['error_with_cpu'].get(name), '')} | {_percent(of['training_s'], '')} | "
            f"{_percent(of['wire_bytes_per_update'], '')} | {_updates(of['staleness'], '')} | "
            f"{report['disturbed']} of {len(report['shapes'])} |"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _spread(row: dict[str, Any]) -> str:
    least_most = row["spread"]["updates_per_s"]
    return f" ({', '.join(map(_percent, least_most))})" if least_most and row["rounds"] > 1 else ""


def _percent(value: float | None, sign: str = "+") -> str:
    return "-" if value is None else f"{100 * value:{sign}.1f} %"


def _updates(value: float | None, sign: str = "+") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"

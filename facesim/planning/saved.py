"""What earlier commands left for later forecasts: residuals of the user's own runs, instances that were measured, how
long jobs take outside of their script. In the user's folder for what is kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from facesim.forecast.hosts import HostType, hosts
from facesim.forecast.intervals import Widths, published_widths, read_residuals
from facesim.util.errors import InputError
from facesim.util.files import read_toml, write_json, write_text
from facesim.util.folders import is_kept, state_folder

#: Seconds outside of the script that a forecast can be given: `model.forecast_jobs`.
OUTSIDE = ("starting_s", "download_s", "upload_s")

#: No job is outside of its script for so long.
MOST_OUTSIDE_S = 30 * 86400.0


def folder() -> Path:
    return state_folder() / "forecast"


def residuals_file() -> Path:
    """(offered load, forecast / measured - 1) of the user's own runs."""
    return folder() / "residuals.json"


def instances_file() -> Path:
    """Speeds of instance types that were measured, as a user's own TOML file of them."""
    return folder() / "instances.toml"


def outside_file() -> Path:
    """Seconds of jobs at AWS outside of their script, as measured."""
    return folder() / "outside.json"


def saved_widths() -> Widths:
    """Half-widths from the user's own runs, if `facesim calibrate` has learnt from some; else the published ones.

    Raises:
        InputError: the file of those is damaged, or this user may not look.
    """
    file = residuals_file()
    return read_residuals(file) if is_kept(file) else published_widths()


def saved_hosts(own_file: Path | None = None) -> dict[str, HostType]:
    """The catalogue's host types, over them what was measured, over that the user's own file.

    Raises:
        InputError: a file cannot be used.
    """
    measured = instances_file()
    # Prices are kept elsewhere: that of a type that was measured may have gone since.
    known = hosts(measured, only_known=True) if is_kept(measured) else hosts()
    return known if own_file is None else hosts(own_file, known)


def saved_outside() -> dict[str, float]:
    """Seconds of a job outside of its script, where they were measured.

    Raises:
        InputError: the file is damaged.
    """
    file = outside_file()
    if not is_kept(file):
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or not content.keys() <= {*OUTSIDE}:
            raise ValueError
        seconds = {name: float(value) for name, value in content.items()}
        if not all(0 <= value < MOST_OUTSIDE_S for value in seconds.values()):
            raise ValueError
        return seconds
    except (OSError, ValueError, TypeError):
        raise InputError(f"{file} does not hold times of jobs; delete it, or calibrate again") from None


def save_speeds(speeds: Mapping[str, float], source: str) -> None:
    """Keep speeds of instance types, in cores of the catalogue's reference."""
    today = time.strftime("%Y-%m-%d")
    save_types(
        {
            name: {"relative_speed": float(f"{speed:.6g}"), "speed_source": source, "speed_date": today}
            for name, speed in speeds.items()
        }
    )


def save_types(learnt: Mapping[str, Mapping[str, str | float]]) -> None:
    """Keep what is known better than the catalogue has it: fields of `HostType`, beside those that are kept already.

    Raises:
        InputError: the file of those cannot be used.
    """
    file = instances_file()
    if is_kept(file):
        hosts(file, only_known=True)  # looks at it
        tables = read_toml(file, "--instances")["instances"]
    else:
        tables = {}
    for name, fields in learnt.items():
        tables[name] = tables.get(name, {}) | dict(fields)
    lines = ["# Written by facesim calibrate; delete a table to have the catalogue's assumption again."]
    for name, fields in sorted(tables.items()):
        lines += ["", f"[instances.{json.dumps(name, ensure_ascii=False)}]"]
        lines += [f"{field} = {json.dumps(value)}" for field, value in fields.items()]  # as TOML has it, too
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "\n".join(lines) + "\n")


def save_outside(outside_s: Mapping[str, float]) -> None:
    """Keep seconds outside of the script, by name as in `OUTSIDE`, beside those that are kept already."""
    file = outside_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**saved_outside(), **outside_s})

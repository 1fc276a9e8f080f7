"""The constants of the forecast: `constants.json`, each with its source, its date and what it was measured on.

`python -m benchmarks.forecast --calibrate` writes those that were fitted to published measurements. For each model of
those there are also the constants fitted without it, so that a forecast of it can be judged fairly.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from facesim.util.errors import FacesimError

FILE = Path(__file__).with_name("constants.json")


@dataclass(frozen=True)
class Constants:
    """A set of constants: their values by name, where they are from, and values fitted without one model each."""

    values: Mapping[str, float]
    source: str
    date: str
    assumed: bool
    without: Mapping[str, Mapping[str, float]]

    def for_model(self, model: str | None) -> Mapping[str, float]:
        """The values that were fitted without `model`, in any spelling, if it was among what they were fitted to."""
        wanted = plain_name(model or "")
        return next((values for name, values in self.without.items() if plain_name(name) == wanted), self.values)


def plain_name(name: str) -> str:
    """One spelling: `ResNet-50, batch 64` is resnet50batch64."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def constants(name: str, file: Path = FILE) -> Constants:
    """The constants called `name`, such as `tf1_parameter_server`.

    Raises:
        FacesimError: there are none of that name.
    """
    known = _read(file, file.stat().st_mtime_ns)
    if name not in known:
        raise FacesimError(f"there are no constants {name!r} in {file}; it has {', '.join(known)}")
    return known[name]


@functools.lru_cache(maxsize=4)
def _read(file: Path, written_ns: int) -> dict[str, Constants]:
    content = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Constants(each["values"], each["source"], each["date"], each["assumed"], each.get("without", {}))
        for name, each in content.items()
    }

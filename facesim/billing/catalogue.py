"""The instance types that a shape may name: what each has and what an hour costs. The data is `instances.json`."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from facesim.errors import InputError

_FILE = Path(__file__).with_name("instances.json")


@dataclass(frozen=True)
class Instance:
    """One instance type. The price is SageMaker's for training, on demand, in the catalogue's region."""

    name: str
    vcpu: int
    memory_gib: float
    network_base_gbps: float | None  # None: not published
    network_peak_gbps: float
    price_usd_per_hour: float
    price_verified: bool  # tied to a result of AWS's Pricing API
    accelerator: str | None


def instances() -> Mapping[str, Instance]:
    """Every instance type of the catalogue by its name, cheapest of each family first."""
    return _instances()


def instance(name: str) -> Instance:
    """The instance type called `name`, such as `ml.m5.2xlarge`.

    Raises:
        InputError: the catalogue does not have it.
    """
    known = instances()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"instance type {name!r} is not in the catalogue: it must be one of {', '.join(known)}{hint}")
    return known[name]


def assumed_spot_discount() -> float:
    """The part of the on-demand cost, 0-1, that managed spot training is assumed to save.

    An assumption, not a price: `instances.json` says where it comes from.
    """
    return float(_catalogue()["assumed_spot_discount"])


@functools.cache
def _catalogue() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


@functools.cache
def _instances() -> Mapping[str, Instance]:
    return MappingProxyType({row["name"]: Instance(**row) for row in _catalogue()["instances"]})

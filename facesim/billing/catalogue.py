"""The instance types that a shape may name: what each has and what an hour costs.

Shapes and prices are packaged as `instances.json`, which says which prices are verified. `facesim prices refresh`
leaves what AWS' Pricing API said in the user's cache folder, and from then on that wins.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from facesim.util.errors import InputError
from facesim.util.files import read_text
from facesim.util.folders import cache_folder

_FILE = Path(__file__).with_name("instances.json")


@dataclass(frozen=True)
class Instance:
    """One instance type. The price is SageMaker's for training, on demand, in `price_region`.

    `relative_speed` is its sustained training speed in cores of a reference, None where that is not known; where a
    full bucket of the network lasts `network_burst_s` at peak. `hardware_constant` tells where these are from.
    """

    name: str
    vcpu: int
    memory_gib: float
    network_base_gbps: float | None  # None: not published
    network_peak_gbps: float
    accelerator: str | None
    price_usd_per_hour: float
    price_verified: bool  # tied to a result of AWS's Pricing API
    price_region: str
    price_date: str
    price_source: str
    cores: int  # physical; a vCPU is a hyperthread
    gpus: int
    relative_speed: float | None
    network_burst_s: float | None  # None: it does not burst, or that is not known
    local_storage_gb: int | None = None  # of disks of its own; None: it has none, and is given a volume


def instances() -> Mapping[str, Instance]:
    """Every instance type of the catalogue by its name, cheapest of each family first.

    Raises:
        InputError: there are refreshed prices, but they cannot be read.
    """
    file = refreshed_file()
    return _instances(file, file.stat().st_mtime_ns if file.exists() else None)


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
    return float(_packaged()["assumed_spot_discount"])


def hardware_constant(name: str) -> Mapping[str, Any]:
    """Where a constant of the hardware is from: `source`, `date`, `assumed`, and `value` where all types share it."""
    return _packaged()["hardware"][name]


def refreshed_file() -> Path:
    """Where refreshed prices are kept: `{"region": ..., "date": ..., "source": ..., "usd_per_hour": {name: price}}`."""
    return cache_folder() / "prices.json"


@functools.cache
def _packaged() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=8)
def _instances(file: Path, written_ns: int | None) -> Mapping[str, Instance]:
    """The packaged catalogue under the prices in `file`, which was `written_ns`; None: there is no such file."""
    packaged = _packaged()
    origin = {f"price_{name}": packaged[name] for name in ("region", "date", "source")}
    rows = {row["name"]: origin | row for row in packaged["instances"]}
    if written_ns is not None:
        refreshed = _read_refreshed(file)
        origin = {f"price_{name}": refreshed[name] for name in ("region", "date", "source")}
        for name, price in refreshed["usd_per_hour"].items():
            if name in rows:
                rows[name] |= origin | {"price_usd_per_hour": price, "price_verified": True}
    return MappingProxyType({name: Instance(**row) for name, row in rows.items()})


def _read_refreshed(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
        texts = [content[name] for name in ("region", "date", "source")]
        prices = content["usd_per_hour"].values()
        whole = all(isinstance(text, str) for text in texts) and all(math.isfinite(p) and p > 0 for p in prices)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(
            f"the refreshed prices in {file} cannot be read; run facesim prices refresh again, or delete the file to "
            "return to the packaged prices"
        )
    return content

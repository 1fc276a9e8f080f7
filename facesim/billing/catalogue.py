"""The instance types that a shape may name: what each has and what an hour costs.

What they have is packaged as `instance_types.json`, for every type that SageMaker trains on
(`facesim.billing.instance_types` made it). Prices are packaged as `instances.json`, which says which are verified.
`facesim prices refresh` leaves what AWS' price list says in the user's cache folder, and from then on that wins; what
the user says in `prices.toml` (`facesim.billing.own_prices`) wins over both. A type is usable where its price is known.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from facesim.billing.own_prices import own_file, read_own
from facesim.util.errors import InputError
from facesim.util.files import read_text, written_ns
from facesim.util.folders import cache_folder

_FILE = Path(__file__).with_name("instances.json")
_TYPES = Path(__file__).with_name("instance_types.json")


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
    relative_speed: float | None = None
    own_speed: bool = False  # that is the user's
    network_burst_s: float | None = None  # None: it does not burst, or that is not known
    local_storage_gb: int | None = None  # of disks of its own; None: it has none, and is given a volume
    gpu_memory_gib: float | None = None  # of one accelerator
    spot_discount: float | None = None  # 0-1, of AWS' advisor or the user's; None: not known
    interruptions_percent: float | None = None  # of hosts that are reclaimed in a month, at the most; None: not known

    @property
    def cuda(self) -> bool:
        """Whether its accelerators are GPUs that CUDA computes on."""
        return self.gpus > 0 and not (self.accelerator or "").startswith(("Trainium", "Inferentia"))


def instances() -> Mapping[str, Instance]:
    """Every instance type whose price is known, by its name.

    Raises:
        InputError: there are refreshed or own prices, but they cannot be read.
    """
    files = ((refreshed_file(), "FACESIM_CACHE"), (own_file(), "FACESIM_PRICES"))
    return _instances(*((file, written_ns(file, variable)) for file, variable in files))


def instance(name: str) -> Instance:
    """The instance type called `name`, such as `ml.m5.2xlarge`.

    Raises:
        InputError: there is no such type, or its price is not known.
    """
    known = instances()
    if name in known:
        return known[name]
    if name in types():
        raise InputError(
            f"the price of instance type {name!r} is not known here: `facesim prices refresh` loads AWS' price list, "
            f"which needs no account; or say it in {own_file()}, as [{json.dumps(name)}] usd_per_hour = ..."
        )
    raise InputError(f"instance type {name!r} is not in the catalogue{_meant(name)}")


def foreign_prices(region: str, names: Iterable[str]) -> str | None:
    """That prices of these instance types are those of another AWS region, and what to do; None where they are of this
    one, or the user's own.
    """
    others = sorted({instance(name).price_region for name in names} - {region, "own"})
    if not others:
        return None
    return (
        f"prices are those of {', '.join(others)}, not of {region}: facesim prices refresh --region {region} asks AWS "
        "for them, which needs no account"
    )


def refuse_foreign(limit: str, usd: float, foreign: str | None) -> None:
    """See that a limit in dollars, given with the option `limit`, is not by the prices of another place, as `foreign`
    says in words (`foreign_prices`).

    Raises:
        InputError: it is.
    """
    if foreign:
        raise InputError(
            f"{limit} {usd:g} cannot be kept to: {foreign}; or say them in {own_file()}, or leave {limit} out",
            field=limit.removeprefix("--").replace("-", "_"),
            value=usd,
        )


def _meant(name: str) -> str:
    """What may have been meant by a name that there is not: of the same family, or else one that is written like it."""
    every = [*dict.fromkeys([*types(), *instances()])]
    family = _family(name)
    alike = [other for other in every if _family(other) == family]
    close = difflib.get_close_matches(name, alike or every, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    if alike:
        return f": of the family {family} there are {', '.join(alike)}{hint}"
    families = ", ".join(dict.fromkeys(map(_family, every)))
    return f": families are {families} (`facesim prices` lists the types){hint}; {own_file()} may describe others"


def _family(name: str) -> str:
    """`ml.m5.2xlarge`, `m5.2xlarge` -> `m5`."""
    return name.removeprefix("ml.").partition(".")[0]


@functools.cache
def types() -> Mapping[str, Mapping[str, Any]]:
    """What every instance type has that SageMaker trains on, as fields of an `Instance`, with no price."""
    content = json.loads(_TYPES.read_text(encoding="utf-8"))
    rows = content["types"].items()
    return MappingProxyType({name: dict(zip(content["columns"], row, strict=True)) for name, row in rows})


def assumed_spot_discount() -> float:
    """The part of the on-demand cost, 0-1, that managed spot training is assumed to save.

    An assumption, not a price: `instances.json` says where it comes from.
    """
    return float(_packaged()["assumed_spot_discount"])


def hardware_constant(name: str) -> Mapping[str, Any]:
    """Where a constant of the hardware is from: `source`, `date`, `assumed`, and `value` where all types share it."""
    return _packaged()["hardware"][name]


def other_prices() -> Mapping[str, Any]:
    """What is paid beside instances, in dollars: volumes, S3, CloudWatch; with `source` and `date`."""
    return _packaged()["other_prices"]


def refreshed_file() -> Path:
    """Where refreshed prices are kept: `{"region": ..., "date": ..., "source": ..., "usd_per_hour": {name: price},
    "spot": {name: {"spot_discount": ..., "interruptions_percent": ...}}}`.
    """
    return cache_folder() / "prices.json"


@functools.cache
def _packaged() -> dict[str, Any]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


#: What prices.toml must say of a type that facesim does not know.
_REQUIRED = ("price_usd_per_hour", "vcpu", "memory_gib", "network_peak_gbps")


@functools.lru_cache(maxsize=8)
def _instances(refreshed: tuple[Path, int | None], own_prices: tuple[Path, int | None]) -> Mapping[str, Instance]:
    """The packaged catalogue under refreshed prices, under the user's own; each in a file as it was at a time."""
    packaged = _packaged()
    origin = {f"price_{name}": packaged[name] for name in ("region", "date", "source")}
    rows = {row["name"]: origin | types()[row["name"]] | row for row in packaged["instances"]}
    if refreshed[1] is not None:
        content = _read_refreshed(refreshed[0])
        origin = {f"price_{name}": content[name] for name in ("region", "date", "source")}
        for name, price in content["usd_per_hour"].items():
            if name in types():
                row = rows.setdefault(name, {"name": name, **types()[name]})
                row |= origin | {"price_usd_per_hour": price, "price_verified": True}
        for name, spot in content.get("spot", {}).items():
            if name in rows:
                rows[name] |= {key: spot[key] for key in ("spot_discount", "interruptions_percent") if key in spot}
    if own_prices[1] is not None:
        for name, fields in read_own(own_prices[0]).items():
            row = {"name": name, **types().get(name, {}), **rows.get(name, {}), **fields}
            if missing := [field for field in _REQUIRED if field not in row]:
                words = ", ".join(field.removeprefix("price_") for field in missing)
                raise InputError(
                    f"{own_prices[0]}: [{json.dumps(name)}] must say what is not known of the type: {words}"
                )
            row.setdefault("cores", max(1, row["vcpu"] // 2))
            row.setdefault("network_base_gbps", row["network_peak_gbps"])
            for less, most in (("cores", "vcpu"), ("network_base_gbps", "network_peak_gbps")):
                if (row[less] or 0) > row[most]:
                    raise InputError(
                        f"{own_prices[0]}: [{json.dumps(name)}] {less} is {row[less]:g}; it must be at most {most}, "
                        f"{row[most]:g}: say both"
                    )
            rows[name] = {"gpus": 0, "accelerator": None, **row}
    return MappingProxyType({name: Instance(**row) for name, row in rows.items()})


def _read_refreshed(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
        texts = [content[name] for name in ("region", "date", "source")]
        prices = content["usd_per_hour"].values()
        whole = all(isinstance(text, str) for text in texts) and all(math.isfinite(p) and p > 0 for p in prices)
        for spot in content.get("spot", {}).values():
            whole = whole and 0 <= spot["spot_discount"] < 1 and 0 < spot.get("interruptions_percent", 1) <= 100
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(
            f"the refreshed prices in {file} cannot be read; run facesim prices refresh again, or delete the file to "
            "return to the packaged prices"
        )
    return content

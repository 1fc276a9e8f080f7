"""What hosts a forecast knows: the catalogue's instance types, and the user's own, with prices, from a TOML file.

Every constant says where it is from and whether it is assumed; an assumed one widens the forecast's interval.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator

from facesim.billing.catalogue import Instance, assumed_spot_discount, hardware_constant, instances
from facesim.billing.own_prices import MOST_USD_PER_HOUR, Gbps, Speed
from facesim.billing.own_prices import SOURCE as OWN_PRICES
from facesim.util.errors import InputError
from facesim.util.files import read_toml

#: How far off the ratio of two machines' speeds may be, as an 80 % half-width, by where the speed is from.
_SPEED_HALF_WIDTHS = {"measured": 0.05, "vendor": 0.15, "assumed": 0.25}

#: Where a constant is from that the user gives.
_THE_USER = "the user"

Price = Annotated[float, Field(ge=0, le=MOST_USD_PER_HOUR)]


class HostType(BaseModel):
    """One type of host.

    `relative_speed` is its sustained training speed in cores of the catalogue's reference, None where nobody knows.
    The network has a base and a peak rate, and from a full bucket peak lasts `network_burst_s`; a single flow gets no
    more than `single_flow_gbps`. `goodput` is the payload's share of what a link carries, 0-1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    name: str
    vcpu: int = Field(ge=1)
    cores: int = Field(ge=1)
    memory_gib: float = Field(gt=0)
    gpus: int = Field(0, ge=0)
    relative_speed: Speed | None = None
    speed_origin: Literal["measured", "vendor", "assumed"] = "assumed"
    speed_source: str = ""
    speed_date: str = ""
    bf16: bool = False  # whether its cores compute in bfloat16: AVX512_BF16
    amx: bool = False  # and whether with matrix units
    network_base_gbps: Gbps
    network_peak_gbps: Gbps
    network_burst_s: float | None = Field(None, ge=0, le=1e7)
    network_assumed: bool = False
    single_flow_gbps: Gbps | None = None
    goodput: float = Field(0.87, gt=0, le=1)
    price_usd_per_hour: Price
    price_verified: bool = False
    price_source: str = ""
    price_date: str = ""
    spot_usd_per_hour: Price | None = None
    spot_assumed: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> HostType:
        if self.network_peak_gbps < self.network_base_gbps:
            raise ValueError(
                f"network_peak_gbps {self.network_peak_gbps:g} must be at least network_base_gbps, "
                f"{self.network_base_gbps:g}"
            )
        if self.cores > self.vcpu:
            raise ValueError(f"cores {self.cores}, which are physical, must be at most vcpu, {self.vcpu}")
        if self.spot_usd_per_hour is not None and self.spot_usd_per_hour > self.price_usd_per_hour:
            raise ValueError(
                f"spot_usd_per_hour {self.spot_usd_per_hour:g} must be at most price_usd_per_hour, "
                f"{self.price_usd_per_hour:g}"
            )
        return self

    @property
    def speed_half_width(self) -> float:
        """Relative, for 80 %: how far off the host's speed may be."""
        return _SPEED_HALF_WIDTHS[self.speed_origin]

    @property
    def own_price(self) -> bool:
        """Whether its price is one that the user gives for it."""
        return self.price_source == _THE_USER

    @property
    def base_bytes_per_s(self) -> float:
        """Payload that its link carries for ever, in one direction."""
        return self.network_base_gbps * self.goodput * 1e9 / 8

    @property
    def peak_bytes_per_s(self) -> float:
        """Payload that its link carries while it has credit."""
        return (self.network_peak_gbps if self.network_burst_s else self.network_base_gbps) * self.goodput * 1e9 / 8

    @property
    def flow_bytes_per_s(self) -> float:
        """Payload of a single flow at most."""
        return (self.single_flow_gbps or self.network_peak_gbps) * self.goodput * 1e9 / 8

    @property
    def bucket_bytes(self) -> float:
        """Payload above the base rate that a full bucket is good for; 0 where there is none."""
        return (self.network_burst_s or 0.0) * (self.peak_bytes_per_s - self.base_bytes_per_s)

    def usd_per_hour(self, spot: bool) -> float:
        """The price on demand; as spot capacity the spot price, or what the assumed discount leaves."""
        if not spot:
            return self.price_usd_per_hour
        if self.spot_usd_per_hour is not None:
            return self.spot_usd_per_hour
        return self.price_usd_per_hour * (1 - assumed_spot_discount())

    def assumptions(self, spot: bool, network: bool = True) -> list[str]:
        """In words, what about this type of host is not measured and matters; of its `network` where that is used."""
        notes = []
        if self.speed_origin != "measured":
            notes.append(f"the speed of {self.name} is {self.speed_origin}, within {100 * self.speed_half_width:.0f} %")
        if network and self.network_assumed and self.network_peak_gbps > self.network_base_gbps:
            notes.append(
                f"how long the network of {self.name} bursts is assumed: {self.network_peak_gbps:g} Gbit/s for "
                f"{self.network_burst_s or 0:g} s, then {self.network_base_gbps:g}"
            )
        if not self.price_verified:
            notes.append(f"the price of {self.name} is unverified ({self.price_date or 'no date'})")
        if spot and (self.spot_usd_per_hour is None or self.spot_assumed):
            notes.append(f"the spot price of {self.name} is assumed")
        return notes


def hosts(
    file: str | Path | None = None, below: Mapping[str, HostType] | None = None, *, only_known: bool = False
) -> dict[str, HostType]:
    """The host types by name: those `below`, the catalogue's if left out, with those of a TOML file over them. With
    `only_known` what the file has of a type that is not below, and has no price there, is left for when it has one.

    The file has a table for each type, `[instances."NAME"]`, of the fields of `HostType`; of a type that is in the
    catalogue only what differs need be given. What the user gives is taken as measured.

    Raises:
        InputError: the file cannot be read, or has a field that is unknown, or a value that is not allowed.
    """
    types = dict(below or {name: _from_catalogue(kind) for name, kind in instances().items()})
    if file is None:
        return types
    content = read_toml(file, "--instances")
    tables = content.get("instances")
    if not tables or not isinstance(tables, Mapping) or set(content) != {"instances"}:
        raise InputError(f'--instances {file} must have tables [instances."NAME"], and nothing else')
    for name, table in tables.items():
        if not name or name != name.strip() or not name.isprintable():
            raise InputError(
                f"--instances {file}: a type cannot be called {name!r}: give it a name that can be printed, "
                "with no space around it"
            )
        if not isinstance(table, Mapping):
            raise InputError(
                f'--instances {file}: instances.{name} is {table!r}; it must be a table [instances."NAME"]'
            )
        if "name" in table:
            raise InputError(f"--instances {file}: {name}.name: a type is called as its table is; leave it out")
        if only_known and name not in types and "price_usd_per_hour" not in table:
            continue
        known = types[name].model_dump() if name in types else {"name": name}
        types[name] = _checked(file, name, known, {**_as_measured(table), **table})
    return types


def host(name: str, known: Mapping[str, HostType]) -> HostType:
    """The type called `name` among those that are known.

    Raises:
        InputError: it is not.
    """
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise InputError(f"instance type {name!r} is not known: it must be one of {', '.join(known)}{hint}")
    return known[name]


def _as_measured(table: Mapping[str, object]) -> dict[str, object]:
    origins: dict[str, object] = {}
    if "relative_speed" in table:
        origins |= {"speed_origin": "measured", "speed_source": _THE_USER}
    if table.keys() & {"network_base_gbps", "network_peak_gbps", "network_burst_s"}:
        origins["network_assumed"] = False
    if "price_usd_per_hour" in table:
        origins |= {"price_verified": True, "price_source": _THE_USER, "price_date": ""}
        origins |= {"spot_usd_per_hour": None, "spot_assumed": True}  # what is known of it was below another price
    if "spot_usd_per_hour" in table:
        origins["spot_assumed"] = False
    return origins


def _checked(file: str | Path, name: str, known: Mapping[str, object], given: Mapping[str, object]) -> HostType:
    try:
        return HostType.model_validate({**known, **given})
    except pydantic.ValidationError as error:
        raise InputError(f"--instances {file}: {name}{_what_is_wrong(error)}") from None


def _what_is_wrong(error: pydantic.ValidationError) -> str:
    first = error.errors()[0]
    field = "".join(f".{part}" for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = ", ".join(each for each in HostType.model_fields if each != "name")
        return f"{field}: there is no such field; there are {fields}"
    if first["type"] == "missing":
        return f"{field} is missing: a type that is not in the catalogue needs it"
    value = f", not {first['input']!r}" if field else ""
    return f"{field}: {first['msg'].removeprefix('Value error, ')}{value}"


def _from_catalogue(kind: Instance) -> HostType:
    speed, burst = hardware_constant("relative_speed"), hardware_constant("network_burst_s")
    return HostType(
        name=kind.name,
        vcpu=kind.vcpu,
        cores=kind.cores,
        memory_gib=kind.memory_gib,
        gpus=kind.gpus,
        relative_speed=kind.relative_speed,
        speed_origin="assumed" if speed["assumed"] and not kind.own_speed else "measured",
        speed_source=OWN_PRICES if kind.own_speed else speed["source"],
        speed_date="" if kind.own_speed else speed["date"],
        bf16=hardware_constant("bf16")["value"],
        amx=hardware_constant("amx")["value"],
        network_base_gbps=kind.network_base_gbps or kind.network_peak_gbps,
        network_peak_gbps=kind.network_peak_gbps,
        network_burst_s=kind.network_burst_s,
        network_assumed=burst["assumed"],
        single_flow_gbps=hardware_constant("single_flow_gbps")["value"],
        goodput=hardware_constant("goodput")["value"],
        price_usd_per_hour=kind.price_usd_per_hour,
        price_verified=kind.price_verified,
        price_source=kind.price_source,
        price_date=kind.price_date,
        spot_usd_per_hour=None if kind.spot_discount is None else kind.price_usd_per_hour * (1 - kind.spot_discount),
        spot_assumed=kind.spot_discount is None,
    )

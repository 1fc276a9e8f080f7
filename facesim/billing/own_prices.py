"""The user's own prices, and instance types that facesim does not know: `prices.toml`.

["ml.m5.2xlarge"]
usd_per_hour = 0.41
spot_usd_per_hour = 0.15

["ml.z9.48xlarge"]
usd_per_hour = 90
vcpu = 192
memory_gib = 2048
network_peak_gbps = 3200
gpus = 8
accelerator = "Z9"
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import pydantic
from pydantic import BaseModel, ConfigDict, Field

from facesim.util.errors import InputError
from facesim.util.files import read_toml
from facesim.util.folders import path_named_by

SOURCE = "the user's prices.toml"

#: What no host is beyond by orders of magnitude: more, or less, is a slip of the finger.
Speed = Annotated[float, Field(ge=1e-3, le=1e6)]
Gbps = Annotated[float, Field(ge=1e-4, le=1e5)]
MOST_USD_PER_HOUR = 1e6


class _TypeTable(BaseModel):
    """What a table may say; what it leaves out of a type that is known stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    usd_per_hour: float | None = Field(None, gt=0, le=MOST_USD_PER_HOUR)
    spot_usd_per_hour: float | None = Field(None, ge=0)
    interruptions_percent: float | None = Field(None, gt=0, le=100)
    vcpu: int | None = Field(None, ge=1)
    cores: int | None = Field(None, ge=1)
    memory_gib: float | None = Field(None, gt=0)
    network_base_gbps: Gbps | None = None
    network_peak_gbps: Gbps | None = None
    gpus: int | None = Field(None, ge=0)
    accelerator: str | None = None
    gpu_memory_gib: float | None = Field(None, gt=0)
    local_storage_gb: int | None = Field(None, ge=1)
    relative_speed: Speed | None = None


def own_file() -> Path:
    """The file of the user's own prices, `FACESIM_PRICES` or one of the user's configuration. It need not exist."""
    return path_named_by("FACESIM_PRICES", platformdirs.user_config_path("facesim") / "prices.toml")


def read_own(file: Path) -> dict[str, dict[str, Any]]:
    """What the file says of instance types, by name, as fields of `facesim.billing.catalogue.Instance`.

    Raises:
        InputError: it cannot be read, or says something that is unknown or not allowed.
    """
    date = time.strftime("%Y-%m-%d", time.gmtime(file.stat().st_mtime))
    types = {}
    for name, table in read_toml(file, "prices").items():
        where = f'{file}: ["{name}"]'
        if not name or name != name.strip() or not name.isprintable():
            raise InputError(
                f"{file}: a type cannot be called {name!r}: give it a name that can be printed, with no space around it"
            )
        if not isinstance(table, dict):
            raise InputError(
                f'{where} must be a table, of an instance type, such as ["ml.m5.2xlarge"]; it is {table!r}'
            )
        try:
            fields = _TypeTable.model_validate(table).model_dump(exclude_none=True)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            field, allowed = ".".join(map(str, first["loc"])), ", ".join(_TypeTable.model_fields)
            raise InputError(f"{where} {field} = {first['input']!r}: {first['msg']}; it may have {allowed}") from None
        price, spot = fields.pop("usd_per_hour", None), fields.pop("spot_usd_per_hour", None)
        if price is not None:
            fields |= {
                "price_usd_per_hour": price, "price_verified": True, "price_region": "own", "price_date": date,
                "price_source": SOURCE,
            }  # fmt: skip
        if spot is not None:
            if price is None or spot >= price:
                raise InputError(f"{where} spot_usd_per_hour = {spot:g} needs a usd_per_hour above it")
            fields["spot_discount"] = 1 - spot / price
        if "relative_speed" in fields:
            fields["own_speed"] = True
        types[name] = fields
    return types

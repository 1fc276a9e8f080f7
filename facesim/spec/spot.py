"""Spot capacity, as a user asks for it. What it then does is `facesim.billing.market`."""

from __future__ import annotations

from pydantic import model_validator

from facesim.spec.base import Frozen, LocalPath
from facesim.spec.options import option


class Spot(Frozen):
    """Managed spot training: how capacity comes and goes, and what it saves.

    At most one of these says how long a host lives: `rate`, reclaims of a host an hour; `lifetimes`, a file of observed
    ones or `weibull:SHAPE,SCALE_HOURS`; `trace`, a file of hosts that come and go. Without any it is the packaged
    trace. After an interruption new capacity takes `wait_s` in the mean, exponentially distributed, and in a trace at
    least until there are hosts enough. A host has notice `notice_s` before it is reclaimed; 0: none.

    `speed` is how many times as fast as the clock the market's time passes. It compresses lifetimes and waiting; the
    notice is of the clock: a checkpoint takes as long as it takes. `discount` is the part saved, 0-1; left out, the
    catalogue's assumption.
    """

    rate: float | None = option(
        None, "reclaims of a host an hour", "Cost and spot", shown="a made-up day's trace", ge=0
    )
    lifetimes: LocalPath | None = option(
        None, "lifetimes of hosts, JSON or CSV, or weibull:SHAPE,HOURS", "Cost and spot", metavar="FILE", commas=True
    )
    trace: LocalPath | None = option(
        None, "hosts that come and go: CSV of ms,add|remove,node", "Cost and spot", metavar="FILE", commas=True
    )
    wait_s: float = option(120.0, "mean wait for capacity after a reclaim", "Cost and spot", ge=0)
    notice_s: float = option(0.0, "notice before a reclaim; 0 is none", "Cost and spot", ge=0)
    speed: float = option(1.0, "how many times faster time passes for the capacity", "Cost and spot", gt=0)
    discount: float | None = option(
        None, "share of the price that spot saves", "Cost and spot", shown="assumed 0.57", ge=0, lt=1
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Spot:
        given = [f"--spot-{name}" for name in ("rate", "lifetimes", "trace") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} contradict each other; give one of them")
        return self

"""Rows of {model, gpus, workers, ps, gpus_per_worker, batch_per_gpu, images_per_s, strategy}: synchronous parameter
servers from one host to several, and one host's GPUs from one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from benchmarks.published.curves import (
    Curve,
    Group,
    Point,
    Rows,
    counted,
    from_mean,
    grouped,
    lacking,
    mean_of,
    not_forecast,
    notes,
)
from benchmarks.published.sizes import param_bytes
from facesim.forecast.constants import constants
from facesim.forecast.intervals import fitted_width
from facesim.forecast.laws import barrier_transfer_s, mirrored_step_s, ps_sync_step_s

SERVERS, ONE_HOST, OTHER = "ps-sync", "one host, several GPUs", "other"

#: What rows of one curve have in common, and what tells curves apart beside it.
_COMMON, _HOSTS = ("hardware", "model", "data", "batch_per_gpu"), {"instance": "{}"}


def study_of(row: dict[str, Any]) -> str:
    strategy = str(row.get("strategy"))
    if "single_machine" in strategy:
        return ONE_HOST
    return SERVERS if "ps_sync" in strategy else OTHER


def lacks(row: dict[str, Any]) -> list[str]:
    told = [name for name in ("workers", "ps") if row.get(name) is not None and study_of(row) == SERVERS]
    return lacking(row, ("gpus", "batch_per_gpu", "images_per_s", *told))


def served(rows: Rows) -> list[Group]:
    """Rows of one curve each: hosts with synchronous servers."""
    usable = [row for row in rows if study_of(row) == SERVERS and not lacks(row)]
    return grouped(usable, _COMMON, {"strategy": "{}"} | _HOSTS)


def of_one_host(rows: Rows) -> list[Group]:
    """Rows of one curve each: the GPUs of one host."""
    usable = [row for row in rows if study_of(row) == ONE_HOST and not lacks(row)]
    return grouped(usable, (*_COMMON, "strategy"), _HOSTS)


def update_s(*rows: dict[str, Any]) -> float:
    """Seconds of one update of all GPUs; of several rows of one shape, at their mean speed."""
    return rows[0]["gpus"] * rows[0]["batch_per_gpu"] / mean_of([*rows], "images_per_s")


def hosts_of(row: dict[str, Any]) -> float:
    """How many hosts a row is of: one, where neither it nor the number of its GPUs tells."""
    a_host = counted(row, "gpus_per_worker")
    return counted(row, "workers") or (math.ceil(row["gpus"] / a_host) if a_host else 1)


def curves(files: Rows, content: dict[str, Any]) -> Iterator[Curve]:
    rows = content["rows"]
    for (hardware, model, data, batch), apart, members in served(rows):
        yield from _served(f"{_name(hardware, model, batch, data)}{apart}", model, members)
    for (hardware, model, data, batch, strategy), apart, members in of_one_host(rows):
        kind = strategy.removeprefix("single_machine_").replace("_", " ")
        yield _one_host(f"{_name(hardware, model, batch, data)}, {kind}{apart}", model, members)
    others = [row for row in rows if study_of(row) == OTHER]
    for (hardware, model, data, batch, strategy), apart, _ in grouped(others, (*_COMMON, "strategy"), _HOSTS):
        of = "rows without a strategy" if strategy == "?" else repr(strategy)
        yield Curve(OTHER, f"{_name(hardware, model, batch, data)}{apart}", reason=f"no formula for {of}")


def _name(hardware: str, model: str, batch: str, data: str) -> str:
    return f"{hardware} {model}, batch {batch}" + ("" if data == "synthetic" else f", {data} data")


def served_update_s(row: dict[str, Any], host_s: float, values: Any) -> float:
    """Seconds of a synchronous update of a row, from those of one host alone."""
    workers = hosts_of(row)
    servers = counted(row, "ps") or workers
    sent = barrier_transfer_s(param_bytes(row) or 0.0, workers, servers, values["bytes_per_s"], own_hosts=False)
    return float(ps_sync_step_s(host_s, values["cv"], workers, sent, sent, overlap=values["overlap"]))


def alone_and_several(rows: Rows) -> tuple[Rows, Rows]:
    """Rows of one host, and of several."""
    alone = [row for row in rows if hosts_of(row) == 1]
    return alone, [row for row in rows if hosts_of(row) > 1]


def _served(name: str, model: str, rows: Rows) -> Iterator[Curve]:
    """A curve for each number of GPUs that hosts of several have."""
    alone, several = alone_and_several(rows)
    sizes = dict.fromkeys(map(gpus_of_a_host, several))
    if not several:
        yield Curve(SERVERS, name, reason="only one host was measured")
    for gpus in sizes:
        alike = [row for row in several if gpus_of_a_host(row) == gpus]
        of_size = f", {gpus:g} GPUs a host" if len(sizes) > 1 else ""
        yield _served_by_alike(f"{name}{of_size}", model, gpus, alone, alike)


def _served_by_alike(name: str, model: str, gpus: float, alone: Rows, several: Rows) -> Curve:
    """Of hosts with so many GPUs each, from such a host that is `alone`."""
    given = [row for row in alone if row["gpus"] == gpus]
    if not given:
        return Curve(SERVERS, name, reason=f"no row of one host with {gpus:g} GPUs, from which it would start")
    if param_bytes(given[0]) is None:
        return Curve(SERVERS, name, reason=f"how many parameters {model} has is not known")
    host_s = update_s(*given)
    values = constants("tf_sync_server").for_model(f"{model}, batch {given[0]['batch_per_gpu']:g}")
    width = fitted_width(values)
    points = [_point(row, host_s, width, given=True) for row in given]
    points += [_point(row, served_update_s(row, host_s, values), width) for row in several]
    note = notes(from_mean(given), not_forecast(len(alone) - len(given), "rows of one host with other GPUs"))
    return Curve(SERVERS, name, tuple(points), choice=name, note=note)


def gpus_of_a_host(row: dict[str, Any]) -> float:
    return counted(row, "gpus_per_worker") or row["gpus"] / hosts_of(row)


def _one_host(name: str, model: str, rows: Rows) -> Curve:
    given = [row for row in rows if row["gpus"] == 1]
    if not given:
        return Curve(ONE_HOST, name, reason="one GPU was not measured")
    sum_bytes = param_bytes(given[0])
    if sum_bytes is None:
        return Curve(ONE_HOST, name, reason=f"how many parameters {model} has is not known")
    alone_s = update_s(*given)
    values = constants("one_host_bus").for_model(model)
    width = fitted_width(values)
    points = [_point(row, alone_s, width, given=True) for row in given]
    for row in rows:
        if row["gpus"] > 1:
            step = float(mirrored_step_s(alone_s, values["cv"], row["gpus"], sum_bytes, values["bytes_per_s"]))
            points.append(_point(row, step, width))
    return Curve(ONE_HOST, name, tuple(points), choice=name, note=from_mean(given))


def _point(row: dict[str, Any], step_s: float, width: float, given: bool = False) -> Point:
    """A point in images a second; the price counts GPUs, for hosts are all alike."""
    gpus = row["gpus"]
    images = gpus * row["batch_per_gpu"]
    shape = f"{gpus:g} GPUs on {hosts_of(row):g} hosts"
    return Point(shape, images / step_s, images / update_s(row), width, gpus, given)

"""Rows of {model, gpus, workers, ps, gpus_per_worker, batch_per_gpu, images_per_s, strategy}: synchronous parameter
servers from one host to several, and one host's GPUs from one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from benchmarks.published.curves import Curve, Point, counted, positive
from benchmarks.published.sizes import param_bytes
from facesim.forecast.constants import constants
from facesim.forecast.intervals import fitted_width
from facesim.forecast.laws import barrier_transfer_s, mirrored_step_s, ps_sync_step_s

SERVERS, ONE_HOST = "ps-sync", "one host, several GPUs"

Rows = list[dict[str, Any]]


def grouped(rows: Rows) -> dict[tuple[str, ...], Rows]:
    """Rows of one curve each: synchronous servers, or the GPUs of one host."""
    groups: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        strategy = str(row.get("strategy", ""))
        study = ONE_HOST if "single_machine" in strategy else SERVERS
        parts = ("hardware", "model", "strategy", "data", "batch_per_gpu")
        if study == SERVERS and "ps_sync" not in strategy:
            study = f"not forecast: {strategy or 'no strategy'}"
        groups.setdefault((study, *(str(row.get(part, "?")) for part in parts)), []).append(row)
    return groups


def update_s(row: dict[str, Any]) -> float | None:
    """Seconds of one update of all GPUs; None: the row does not tell enough."""
    speed, gpus, batch = (positive(row, name) for name in ("images_per_s", "gpus", "batch_per_gpu"))
    return gpus * batch / speed if speed and gpus and batch else None


def curves(files: Rows, content: dict[str, Any]) -> Iterator[Curve]:
    for (study, hardware, model, strategy, data, batch), rows in grouped(content["rows"]).items():
        name = f"{hardware} {model}, batch {batch}" + ("" if data == "synthetic" else f", {data} data")
        if study == SERVERS:
            yield from _served(name, model, [row for row in rows if update_s(row)])
        elif study == ONE_HOST:
            kind = strategy.removeprefix("single_machine_").replace("_", " ")
            yield _one_host(f"{name}, {kind}", model, [row for row in rows if update_s(row)])
        else:
            yield Curve("other", name, reason=f"no formula for {study.removeprefix('not forecast: ')!r}")


def served_update_s(row: dict[str, Any], host_s: float, values: Any) -> float:
    """Seconds of a synchronous update of a row, from those of one host alone."""
    workers = counted(row, "workers") or 1
    servers = counted(row, "ps") or workers
    sent = barrier_transfer_s(param_bytes(row) or 0.0, workers, servers, values["bytes_per_s"], own_hosts=False)
    return float(ps_sync_step_s(host_s, values["cv"], workers, sent, sent, overlap=values["overlap"]))


def _served(name: str, model: str, rows: Rows) -> Iterator[Curve]:
    """A curve for each number of GPUs that hosts of several have."""
    alone = [row for row in rows if (counted(row, "workers") or 1) == 1]
    several = [row for row in rows if (counted(row, "workers") or 1) > 1]
    sizes = dict.fromkeys(map(_gpus_of_a_host, several))
    if not several:
        yield Curve(SERVERS, name, reason="only one host was measured")
    for gpus in sizes:
        alike = [row for row in several if _gpus_of_a_host(row) == gpus]
        of_size = f", {gpus or math.nan:g} GPUs a host" if len(sizes) > 1 else ""
        yield _served_by_alike(f"{name}{of_size}", model, gpus, alone, alike)


def _served_by_alike(name: str, model: str, gpus: float | None, alone: Rows, several: Rows) -> Curve:
    """Of hosts with so many GPUs each, from such a host that is `alone`."""
    given = next((row for row in alone if counted(row, "gpus") == gpus), None)
    if given is None:
        return Curve(SERVERS, name, reason=f"no row of one host with {gpus or '?'} GPUs, from which it would start")
    if param_bytes(given) is None:
        return Curve(SERVERS, name, reason=f"how many parameters {model} has is not known")
    host_s = update_s(given)
    assert host_s is not None
    values = constants("tf_sync_server").for_model(f"{model}, batch {given['batch_per_gpu']:g}")
    width = fitted_width(values)
    points = [_point(given, host_s, width, given=True)]
    points += [_point(row, served_update_s(row, host_s, values), width) for row in several]
    return Curve(SERVERS, name, tuple(points), choice=name)


def _gpus_of_a_host(row: dict[str, Any]) -> float | None:
    gpus, workers = counted(row, "gpus"), counted(row, "workers")
    return counted(row, "gpus_per_worker") or (gpus / workers if gpus and workers else None)


def _one_host(name: str, model: str, rows: Rows) -> Curve:
    given = next((row for row in rows if counted(row, "gpus") == 1), None)
    if given is None:
        return Curve(ONE_HOST, name, reason="one GPU was not measured")
    if param_bytes(given) is None:
        return Curve(ONE_HOST, name, reason=f"how many parameters {model} has is not known")
    alone_s, sum_bytes = update_s(given), param_bytes(given)
    assert alone_s is not None and sum_bytes is not None
    values = constants("one_host_bus").for_model(model)
    width = fitted_width(values)
    points = [_point(given, alone_s, width, given=True)]
    for row in rows:
        gpus = counted(row, "gpus") or 1
        if gpus > 1:
            step = float(mirrored_step_s(alone_s, values["cv"], gpus, sum_bytes, values["bytes_per_s"]))
            points.append(_point(row, step, width))
    return Curve(ONE_HOST, name, tuple(points), choice=name)


def _point(row: dict[str, Any], step_s: float, width: float, given: bool = False) -> Point:
    """A point in images a second; the price counts GPUs, for hosts are all alike."""
    gpus, measured_s = counted(row, "gpus") or 1.0, update_s(row)
    assert measured_s is not None
    images = gpus * row["batch_per_gpu"]
    shape = f"{gpus:g} GPUs on {positive(row, 'workers') or 1:g} hosts"
    return Point(shape, images / step_s, images / measured_s, width, gpus, given)

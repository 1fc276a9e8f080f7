"""Sums of gradients over the network, from one host to several: Horovod's rows of {gpu, model, gpus, mpi, images_per_s,
gpus_per_node} and PyTorch's of {model, nodes, gpus, max_gpus_per_node, batch_per_gpu, step_ms}.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

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
    positive,
)
from benchmarks.published.sizes import bytes_to_sum
from facesim.forecast.constants import constants
from facesim.forecast.intervals import REPEATED, fitted_width, quadrature
from facesim.forecast.laws import allreduce_step_s, ring_s, tree_s
from facesim.util.words import count_text

HOROVOD, DDP = "allreduce, Horovod", "allreduce, PyTorch DDP"

#: The rows do not tell it; tf_cnn_benchmarks' own default for most networks.
ASSUMED_BATCH = 64

#: What tells rows of one model apart, where they are from more than one kind of host.
_HOSTS = {"gpu": "{}", "hardware": "{}", "instance": "{}"}


def constants_for(mpi: str) -> str:
    """The constants of a library of messages, by what rows call it."""
    return f"horovod_{_library(mpi).lower()}"


def _library(mpi: str) -> str:
    """Which library it is. Of one that is neither it is assumed that it is as fast as MPI."""
    return "NCCL" if "nccl" in mpi.lower() else "MPI"


def horovod_lacks(row: dict[str, Any]) -> list[str]:
    return lacking(row, ("gpus", "images_per_s"))


def horovod_groups(rows: Rows) -> list[Group]:
    """Rows of one curve each: of a GPU, a model and a library of messages."""
    apart = {"batch_per_gpu": "batch {}", "gpus_per_node": "{} GPUs a host", "vm": "{}"}
    return grouped([row for row in rows if not horovod_lacks(row)], ("gpu", "model", "mpi"), apart)


def batch_of(rows: Rows) -> tuple[float, bool]:
    """The batch of a GPU of a curve's rows, and whether they tell it."""
    told = next((batch for row in rows if (batch := positive(row, "batch_per_gpu"))), None)
    return told or ASSUMED_BATCH, told is not None


def horovod_step_s(nodes: float, node_s: float, sum_bytes: float, values: Mapping[str, float]) -> float:
    """Seconds of a step on `nodes` hosts, from those on one."""
    sent = tree_s(sum_bytes, nodes, values["bytes_per_s"], values["alpha_s"])
    return float(allreduce_step_s(node_s, 0.0, nodes, sent, values["overlap"]))


def base_of(rows: Rows) -> tuple[Rows, float]:
    """The rows of one whole host, and how many GPUs that has."""
    sizes = [size for row in rows if (size := counted(row, "gpus_per_node"))]
    size = max(sizes, default=4.0)
    return [row for row in rows if row["gpus"] == size], size


def horovod(files: Rows, content: dict[str, Any]) -> Iterator[Curve]:
    for (gpu, model, mpi), apart, rows in horovod_groups(content["rows"]):
        batch, told = batch_of(rows)
        name = f"{gpu} {model}, {mpi}{apart}"
        library = _library(mpi)
        study = f"{HOROVOD} over {library}"
        given, size = base_of(rows)
        several = [row for row in rows if row["gpus"] > size]
        sum_bytes = bytes_to_sum(model, rows[0], given, several, f"one whole host, with {size:g} GPUs")
        if isinstance(sum_bytes, str):
            yield Curve(study, name, reason=sum_bytes)
        else:
            values = constants(constants_for(mpi)).for_model(model)
            node_s = size * batch / mean_of(given, "images_per_s")
            width = fitted_width(values)
            points = [_point(row, node_s, batch, width, given=True) for row in given]
            for row in several:
                nodes = max(2.0, math.ceil(row["gpus"] / size))
                points.append(_point(row, horovod_step_s(nodes, node_s, sum_bytes, values), batch, width))
            note = notes(
                "" if told else f"batch {batch:g} assumed",
                "" if library.lower() in mpi.lower() else f"{mpi} assumed to be as fast as {library}",
                from_mean(given),
                not_forecast(len(rows) - len(given) - len(several), "rows of a part of a host"),
            )
            yield Curve(study, name, tuple(points), choice=name, note=note)


def _point(row: dict[str, Any], step_s: float, batch: float, width: float, given: bool = False) -> Point:
    shape = f"{row['gpus']:g} GPUs"
    return Point(shape, row["gpus"] * batch / step_s, row["images_per_s"], width, row["gpus"], given)


def ddp_lacks(row: dict[str, Any]) -> list[str]:
    return lacking(row, ("nodes", "gpus", "batch_per_gpu", "step_ms"))


def ddp(files: Rows, content: dict[str, Any]) -> Iterator[Curve]:
    """One curve for each number of GPUs on the fullest host; inputs are the steps of one such host, by batch."""
    usable = [row for row in content["rows"] if not ddp_lacks(row)]
    for (model,), apart, alike in grouped(usable, ("model",), _HOSTS):
        groups: dict[int, Rows] = {}
        for row in alike:
            most = int(counted(row, "max_gpus_per_node") or math.ceil(row["gpus"] / row["nodes"]))
            groups.setdefault(most, []).append(row)
        for most, rows in groups.items():
            yield _ddp_curve(f"{model}{apart}", most, rows)


def _ddp_curve(model: str, most: int, rows: Rows) -> Curve:
    gpus = count_text(most, "GPU")
    name = f"{model}, {gpus} on the fullest host"
    steps: dict[float, Rows] = {}
    for row in rows:
        if row["nodes"] == 1 and row["gpus"] == most:
            steps.setdefault(row["batch_per_gpu"], []).append(row)
    given = {batch: mean_of(each, "step_ms") for batch, each in steps.items()}
    several = [row for row in rows if row["nodes"] > 1]
    sum_bytes = bytes_to_sum(model, rows[0], given, several, f"one host with {gpus}")
    if isinstance(sum_bytes, str):
        return Curve(DDP, name, reason=sum_bytes)
    told = [row for row in several if len(given) > 1 or row["batch_per_gpu"] in given]
    reason = "one host was measured at one batch, several at others"
    of_one = [row for row in rows if row["nodes"] == 1 and row["gpus"] != most]
    note = notes(
        "; ".join(dict.fromkeys(each for at_batch in steps.values() if (each := from_mean(at_batch)))),
        not_forecast(len(several) - len(told), "rows of other batches than that of one host"),
        not_forecast(len(of_one), "rows of a part of a host"),
    )
    return Curve(DDP, name, tuple(_ddp_points(told, given, sum_bytes)), reason=reason, speed=False, note=note)


def step_at(given: Mapping[float, float], batch: float) -> float:
    """The time of a step at `batch`, from those that are `given`: between two of them on the line through both, outside
    of all on the line through all.
    """
    batches = sorted(given)
    times = [given[each] for each in batches]
    if batches[0] <= batch <= batches[-1]:
        return float(np.interp(batch, batches, times))
    slope, fixed = np.polyfit(batches, times, 1)
    return float(max(0.0, fixed) + max(0.0, slope) * batch)


def _ddp_points(rows: Rows, given: Mapping[float, float], sum_bytes: float) -> Iterator[Point]:
    values = constants("ec2_ring").values
    # What is assumed is how far off the formula is; that a measurement is not the same again comes to it.
    width = float(quadrature(fitted_width(values), REPEATED))
    for row in rows:
        node_ms = step_at(given, row["batch_per_gpu"])
        sent_s = float(ring_s(sum_bytes, row["nodes"], values["bytes_per_s"], values["alpha_s"]))
        step_s = float(allreduce_step_s(node_ms / 1000, 0.0, row["nodes"], sent_s, values["overlap"]))
        shape = f"{row['nodes']:g} hosts, {row['gpus']:g} GPUs, batch {row['batch_per_gpu']:g}"
        yield Point(shape, 1000 * step_s, row["step_ms"], width, row["gpus"])

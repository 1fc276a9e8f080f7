"""Asynchronous parameter servers, rows of {gpu, model, workers, ps, steps_per_s_median}: from one to several."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.published.curves import Curve, Point, counted, positive
from facesim.forecast.constants import constants, plain_name
from facesim.forecast.intervals import published_widths, quadrature
from facesim.forecast.laws import compute_from_step_s, ps_async_step_s
from facesim.forecast.placement import ServerLoad, Variable, round_robin

STUDY = "async ps"
SPEED_NAMES = ("steps_per_s_median", "steps_per_s_wallclock", "steps_per_s")

#: Pushes for each trainable variable where only these are counted: with batch normalisation, two averages for two.
_PUSHES_FOR_EACH = 1.6


class Measured(NamedTuple):
    """Steps a second by number of workers, of one GPU, model, number of servers and batch of a worker (0: not told).
    `repeated` are the workers of which more than one row tells: their speed is the mean.
    """

    gpu: str
    model: str
    servers: int
    batch: int
    speeds: dict[int, float]
    cv: float  # of the one worker's speed while it ran; 0: not told
    repeated: tuple[int, ...]


class Models(NamedTuple):
    """What is known of the models: variables in their order, or at least counts of tensors and parameters."""

    variables: Mapping[str, tuple[Variable, ...]]
    counts: Mapping[str, tuple[int, float]]

    def loads(self, model: str, servers: int) -> tuple[ServerLoad, ...] | None:
        """What an update asks of each server; None: nothing is known of the model."""
        key = model_key(model)
        if key in self.variables:
            return round_robin(self.variables[key], servers)
        if key in self.counts:
            tensors, parameters = self.counts[key]
            share = ServerLoad(
                round(tensors / servers),
                round(_PUSHES_FOR_EACH * tensors / servers),
                4 * parameters / servers,
                4 * parameters / servers,
            )
            return (share,) * servers
        return None


def model_key(name: str) -> str:
    """One spelling for one model: `Shake Large` is `ShakeShake-big`."""
    plain = re.sub(r"^shake(?:shake)?", "shake", plain_name(str(name)))
    return "shakebig" if plain == "shakelarge" else plain


def models_of(files: list[dict[str, Any]]) -> Models:
    """What files say about models, whichever file it is in; of ResNet-32, whose jobs' files do not say it, also what is
    packaged.
    """
    variables: dict[str, tuple[Variable, ...]] = {}
    known = constants("resnet32_counts").values
    counts = {"resnet32": (int(known["tensors"]), known["parameters"])}
    for content in files:
        listed = content.get("models")
        for name, rows in (listed if isinstance(listed, dict) else {}).items():
            try:
                held = tuple(Variable((int(n),), 4 * int(n), 4 * int(n), bool(trained)) for n, trained in rows)
            except (TypeError, ValueError):
                continue
            variables[model_key(name)] = held
        for row in content.get("model_info") or []:
            tensors, parameters = counted(row, "tensors"), positive(row, "parameters")
            if tensors and parameters and row.get("model"):
                counts[model_key(row["model"])] = (int(tensors), parameters)
    return Models(variables, counts)


def measured_of(rows: list[dict[str, Any]]) -> list[Measured]:
    """Curves in the order of their rows; a shape that was measured more than once has the mean of its speeds."""
    speeds: dict[tuple[str, str, int, int], dict[int, list[float]]] = {}
    spread: dict[tuple[str, str, int, int], float] = {}
    for row in rows:
        speed = next((value for name in SPEED_NAMES if (value := positive(row, name))), None)
        workers, servers = counted(row, "workers"), servers_of(row)
        if speed and workers and servers:
            batch = int(counted(row, "batch_per_worker") or 0)
            key = (str(row.get("gpu", "?")), str(row.get("model", "?")), servers, batch)
            speeds.setdefault(key, {}).setdefault(int(workers), []).append(speed)
            if workers == 1 and (deviation := positive(row, "steps_per_s_stdev")):
                spread[key] = deviation / speed
    return [
        Measured(
            *key,
            {workers: float(np.mean(each)) for workers, each in sorted(known.items())},
            spread.get(key, 0.0),
            tuple(workers for workers, each in sorted(known.items()) if len(each) > 1),
        )
        for key, known in speeds.items()
    ]


def servers_of(row: dict[str, Any]) -> int | None:
    """How many servers a row tells of, one if it tells nothing; None: it tells what cannot be."""
    servers = 1 if row.get("ps") is None else counted(row, "ps")
    return None if servers is None else int(servers)


class Server(NamedTuple):
    """What a server does for an update, and how a step overlaps with it."""

    message_s: float
    byte_s: float
    overlap: float
    latency: float

    def demands(self, loads: tuple[ServerLoad, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(servers,) seconds of pulling and of pushing an update.

        `byte_s` is for each byte of the parameters, of which an update carries every one twice.
        """
        pull = [self.message_s * load.pull_messages + self.byte_s / 2 * load.pull_bytes for load in loads]
        push = [self.message_s * load.push_messages + self.byte_s / 2 * load.push_bytes for load in loads]
        return np.array(pull), np.array(push)

    def forecast(
        self,
        measured_step_s: float,
        measured_loads: tuple[ServerLoad, ...],
        loads: tuple[ServerLoad, ...],
        workers: np.ndarray,
        measured_workers: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Steps a second of `workers`, and the load that they offer, from a step that was measured on some servers."""
        before = self.demands(measured_loads)
        compute_s = compute_from_step_s(measured_step_s, *before, measured_workers, self.overlap, self.latency)
        pull, push = self.demands(loads)
        speeds = workers / ps_async_step_s(compute_s, pull, push, workers, self.overlap, self.latency)
        alone_s = ps_async_step_s(compute_s, pull, push, 1, self.overlap, self.latency)
        return speeds, workers / alone_s * (pull + push).max()


def server_for(model: str) -> Server:
    """The server of TensorFlow 1, from constants that were fitted without `model`."""
    values = constants("tf1_parameter_server").for_model(model_key(model))
    return Server(values["message_s"], values["byte_s"], values["overlap"], values["latency"])


def curves(files: list[dict[str, Any]], content: dict[str, Any]) -> Iterator[Curve]:
    models, measured = models_of(files), measured_of(content["rows"])
    by_key = {(each.gpu, each.model, each.servers, each.batch): each for each in measured}
    for each in measured:
        batches = {other.batch for other in measured if other[:3] == each[:3]}
        batch = f", batch {each.batch or '?'}" if len(batches) > 1 else ""
        name = f"{each.gpu} {each.model}{batch}, {each.servers} ps"
        choice = f"{each.gpu} {each.model}{batch}"
        loads = models.loads(each.model, each.servers)
        if loads is None:
            reason = f"the variables of {each.model} are in no file, nor how many it has"
            yield Curve(STUDY, name, reason=reason)
            continue
        base = by_key.get((each.gpu, each.model, 1, each.batch))
        if 1 in each.speeds:
            yield _curve(each, each, loads, loads, STUDY, name, choice)
        if each.servers > 1 and base and 1 in base.speeds:
            before = models.loads(each.model, 1)
            assert before is not None
            yield _curve(each, base, loads, before, f"{STUDY}, servers added", f"{name} from 1 ps")
        elif 1 not in each.speeds:
            yield Curve(STUDY, name, reason="one worker was not measured, with these servers or with one")


def _curve(
    target: Measured,
    given: Measured,
    loads: tuple[ServerLoad, ...],
    given_loads: tuple[ServerLoad, ...],
    study: str,
    name: str,
    choice: str | None = None,
) -> Curve:
    same = target is given
    workers = np.array([count for count in target.speeds if count > 1 or not same], dtype=float)
    server = server_for(target.model)
    prices = constants("gce_prices").values
    usd_per_h = {
        count: count * prices.get(target.gpu, prices["worker"]) + target.servers * prices["ps"]
        for count in target.speeds
    }
    points = [Point("1 worker", given.speeds[1], given.speeds[1], usd_per_h=usd_per_h[1], given=True)] if same else []
    if len(workers):
        speeds, offered = server.forecast(1 / given.speeds[1], given_loads, loads, workers)
        widths = quadrature(published_widths().at(offered), given.cv)
        points += [
            Point(_shape(int(count)), float(speed), target.speeds[int(count)], float(width), usd_per_h[int(count)])
            for count, speed, width in zip(workers, speeds, widths)
        ]
    repeated = ", ".join(map(str, sorted({*target.repeated, *({1} & {*given.repeated})})))
    note = f"the mean of several rows, of {repeated} workers" if repeated else ""
    return Curve(study, name, tuple(points), choice=choice, note=note)


def _shape(workers: int) -> str:
    return f"{workers} worker" + ("s" if workers > 1 else "")

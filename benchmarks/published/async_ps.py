"""Asynchronous parameter servers, rows of {gpu, model, workers, ps, steps_per_s_median}: from one to several."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from benchmarks.published.curves import Curve, Point, counted, grouped, lacking, notes, positive
from facesim.forecast.constants import constants, plain_name
from facesim.forecast.intervals import published_widths, quadrature
from facesim.forecast.laws import compute_from_step_s, ps_async_step_s
from facesim.forecast.placement import ServerLoad, Variable, round_robin

STUDY = "async ps"
SPEED_NAMES = ("steps_per_s_median", "steps_per_s_wallclock", "steps_per_s")

#: Pushes for each trainable variable where only these are counted: with batch normalisation, two averages for two.
_PUSHES_FOR_EACH = 1.6


class Measured(NamedTuple):
    """Steps a second by number of workers, of one GPU, model, number of servers, and what else tells rows apart.
    `repeated` are the workers of which more than one row tells: their speed is the mean.
    """

    gpu: str
    model: str
    servers: int
    apart: str
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

    def assumed(self, model: str, servers: int) -> str:
        """What is assumed of a model whose variables are not known, but how many it has."""
        if model_key(model) in self.variables:
            return ""
        spread = ", and that they lie evenly on the servers" if servers > 1 else ""
        return (
            f"of the variables of {model} only their number is known: how many are batch statistics is assumed{spread}"
        )


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
        variables |= _variables_of(listed if isinstance(listed, dict) else {})
        for row in content.get("model_info") or []:
            tensors, parameters = counted(row, "tensors"), positive(row, "parameters")
            if tensors and parameters and row.get("model"):
                counts[model_key(row["model"])] = (int(tensors), parameters)
    return Models(variables, counts)


def _variables_of(listed: Mapping[str, Any]) -> dict[str, tuple[Variable, ...]]:
    """Of each model, from pairs of elements and whether they are trained; without those that are no such list."""
    variables = {}
    for name, rows in listed.items():
        with contextlib.suppress(TypeError, ValueError):
            held = tuple(Variable((int(n),), 4 * int(n), 4 * int(n), bool(trained)) for n, trained in rows)
            variables[model_key(name)] = held
    return variables


def lacks(row: dict[str, Any]) -> list[str]:
    without = lacking(row, ("workers",))
    return [*without, *([] if _speed_of(row) else SPEED_NAMES[-1:]), *([] if servers_of(row) else ["ps"])]


def _speed_of(row: dict[str, Any]) -> float | None:
    return next((value for name in SPEED_NAMES if (value := positive(row, name))), None)


def measured_of(rows: list[dict[str, Any]]) -> list[Measured]:
    """Curves in the order of their rows; a shape that was measured more than once has the mean of its speeds."""
    usable = [row for row in rows if not lacks(row)]
    measured = []
    for (gpu, model), apart, members in grouped(usable, ("gpu", "model"), {"batch_per_worker": "batch {}"}):
        speeds: dict[int, dict[int, list[float]]] = {}
        spread: dict[int, float] = {}
        for row in members:
            speed, servers, workers = _speed_of(row), servers_of(row), int(row["workers"])
            assert speed is not None and servers is not None
            speeds.setdefault(servers, {}).setdefault(workers, []).append(speed)
            if workers == 1 and (deviation := positive(row, "steps_per_s_stdev")):
                spread[servers] = deviation / speed
        for servers, known in speeds.items():
            means = {workers: float(np.mean(each)) for workers, each in sorted(known.items())}
            repeated = tuple(workers for workers, each in sorted(known.items()) if len(each) > 1)
            measured.append(Measured(gpu, model, servers, apart, means, spread.get(servers, 0.0), repeated))
    return measured


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
    of_one_server = {(each.gpu, each.model, each.apart): each for each in measured if each.servers == 1}
    for each in measured:
        choice = f"{each.gpu} {each.model}{each.apart}"
        name = f"{choice}, {each.servers} ps"
        loads = models.loads(each.model, each.servers)
        if loads is None:
            reason = f"the variables of {each.model} are in no file, nor how many it has"
            yield Curve(STUDY, name, reason=reason)
            continue
        base = of_one_server.get((each.gpu, each.model, each.apart))
        assumed = models.assumed(each.model, each.servers)
        if 1 in each.speeds:
            yield _curve(each, each, loads, loads, STUDY, name, choice, assumed)
        if each.servers > 1 and base and 1 in base.speeds:
            before = models.loads(each.model, 1)
            assert before is not None
            study = f"{STUDY}, servers added"
            yield _curve(each, base, loads, before, study, f"{name} from 1 ps", assumed=assumed)
        elif 1 not in each.speeds:
            yield Curve(STUDY, name, reason="its study has no row of one worker, with these servers or with one")


def _curve(
    target: Measured,
    given: Measured,
    loads: tuple[ServerLoad, ...],
    given_loads: tuple[ServerLoad, ...],
    study: str,
    name: str,
    choice: str | None = None,
    assumed: str = "",
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
    return Curve(study, name, tuple(points), choice=choice, note=notes(note, assumed))


def _shape(workers: int) -> str:
    return f"{workers} worker" + ("s" if workers > 1 else "")

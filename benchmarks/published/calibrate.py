"""Fits the constants of the forecast to published measurements, once for all and once without each model.

Constants have weak log-normal priors, from what hardware and implementation make likely, so that few or noisy curves
cannot drive one to an absurd value.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from benchmarks.published import allreduce, async_ps, synchronous
from benchmarks.published.async_ps import Server, model_key
from benchmarks.published.curves import mean_of
from benchmarks.published.sizes import param_bytes
from facesim.forecast.intervals import covering
from facesim.forecast.laws import mirrored_step_s

#: Of each constant: the value expected before looking, and its spread in natural logarithms.
Priors = Mapping[str, tuple[float, float]]

#: Residuals are in natural logarithms; a measurement repeated differs by 3 %, a gross one counts less.
_NOISE, _GROSS = 0.03, 2.0

SERVER: Priors = {
    "message_s": (50e-6, 1.0),  # a remote call and an update of a small variable
    "byte_s": (1.5e-9, 1.0),  # some copies and an addition, at memory's speed, of each of 2 bytes sent
    "overlap": (1.5, 0.3),
    "latency": (1.5, 0.3),
}
SYNC: Priors = {"cv": (0.05, 0.5), "bytes_per_s": (1.25e9, 0.5)}
BUS: Priors = {"cv": (0.03, 0.5), "bytes_per_s": (50e9, 1.5)}
SUMS: Priors = {"bytes_per_s": (1.5e9, 1.0), "alpha_s": (5e-3, 1.5), "overlap": (1.7, 0.3)}

#: Not fitted, for two curves do not tell overlap from stragglers: that at which the links come out at their line rate.
_SYNC_OVERLAP = 2.0

#: Where nothing overlaps, and nothing waits, these are 1: below it a step would take longer than its parts together.
_AT_LEAST_ONE = ("overlap", "latency")

Residuals = Callable[[Mapping[str, float]], Iterable[float]]


def fit(priors: Priors, residuals: Residuals) -> dict[str, float]:
    """The constants at the maximum of the posterior."""
    names = list(priors)
    mean = np.log([priors[name][0] for name in names])
    spread = np.array([priors[name][1] for name in names])

    def all_residuals(place: np.ndarray) -> np.ndarray:
        values = dict(zip(names, np.exp(mean + spread * place)))
        measured = np.fromiter(residuals(values), float) / _NOISE
        # Gross ones count less; the priors are not gross.
        softened = np.sign(measured) * _GROSS * np.sqrt(2 * (np.sqrt(1 + (measured / _GROSS) ** 2) - 1))
        return np.concatenate([softened, place])

    least = [-mean[place] / spread[place] if name in _AT_LEAST_ONE else -4 for place, name in enumerate(names)]
    solution = least_squares(all_residuals, np.zeros(len(names)), bounds=(least, 4), xtol=1e-10, ftol=1e-10)
    return {name: float(f"{value:.4g}") for name, value in zip(names, np.exp(mean + spread * solution.x))}


def with_and_without(priors: Priors, members: Mapping[str, Sequence[Any]], residuals: Callable) -> dict[str, Any]:
    """Constants from all members, and without each; `residuals(values, members)` of the named ones.

    `half_width` covers what each member is off by with the constants that were fitted without it, 8 times in 10.
    """

    def fitted(names: Iterable[str]) -> dict[str, float]:
        chosen = [member for name in names for member in members[name]]
        return fit(priors, lambda values: residuals(values, chosen))

    result: dict[str, Any] = {"values": fitted(members), "without": {}}
    if len(members) > 1:
        result["without"] = {left_out: fitted(name for name in members if name != left_out) for left_out in members}
        off = [each for name, values in result["without"].items() for each in residuals(values, members[name])]
        half_width = float(f"{np.expm1(covering(np.abs(off))):.3g}")  # of residuals in natural logarithms
        for values in (result["values"], *result["without"].values()):
            values["half_width"] = half_width
    return result


def servers(files: list[dict[str, Any]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`tf1_parameter_server`: from curves of one server, of two, and of two from what one worker did with one."""
    models = async_ps.models_of(files)
    measured = [each for each in async_ps.measured_of(rows) if models.loads(each.model, each.servers)]
    single = {(each.gpu, each.model, each.apart): each for each in measured if each.servers == 1}
    cases: dict[str, list[tuple[Any, Any]]] = {}
    for each in measured:
        of_one = single.get((each.gpu, each.model, each.apart))
        bases = {id(base): base for base in (each, of_one) if base and 1 in base.speeds}
        cases.setdefault(model_key(each.model), []).extend((each, base) for base in bases.values())

    def residuals(values: Mapping[str, float], chosen: Sequence[tuple[Any, Any]]) -> Iterable[float]:
        server = Server(*(values[name] for name in Server._fields))
        for target, base in chosen:
            workers = np.array([count for count in target.speeds if count > 1 or base is not target], float)
            loads, given = models.loads(target.model, target.servers), models.loads(base.model, base.servers)
            assert loads and given
            speeds, _ = server.forecast(1 / base.speeds[1], given, loads, workers)
            yield from np.log(speeds / [target.speeds[int(count)] for count in workers])

    return with_and_without(SERVER, cases, residuals)


def sync_servers(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`tf_sync_server`: from one host's update to several hosts'; each model and batch is left out in turn."""
    cases: dict[str, list[tuple[dict[str, Any], float]]] = {}
    for (_, model, _, batch), _, members in synchronous.served(rows):
        alone, several = synchronous.alone_and_several([row for row in members if param_bytes(row)])
        for row in several:
            if given := [each for each in alone if each["gpus"] == synchronous.gpus_of_a_host(row)]:
                cases.setdefault(f"{model}, batch {batch}", []).append((row, synchronous.update_s(*given)))

    def residuals(values: Mapping[str, float], chosen: Sequence[Any]) -> Iterable[float]:
        for row, host_s in chosen:
            step_s = synchronous.served_update_s(row, host_s, {**values, "overlap": _SYNC_OVERLAP})
            yield np.log(step_s / synchronous.update_s(row))

    result = with_and_without(SYNC, cases, residuals)
    for values in (result["values"], *result["without"].values()):
        values["overlap"] = _SYNC_OVERLAP
    return result


def one_host(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`one_host_bus`: from one GPU of a host to several."""
    cases: dict[str, list[tuple[dict[str, Any], float]]] = {}
    for (_, model, *_), _, members in synchronous.of_one_host(rows):
        usable = [row for row in members if param_bytes(row)]
        if given := [row for row in usable if row["gpus"] == 1]:
            pairs = [(row, synchronous.update_s(*given)) for row in usable if row["gpus"] > 1]
            cases.setdefault(model, []).extend(pairs)

    def residuals(values: Mapping[str, float], chosen: Sequence[Any]) -> Iterable[float]:
        for row, alone_s in chosen:
            step = mirrored_step_s(alone_s, values["cv"], row["gpus"], param_bytes(row), values["bytes_per_s"])
            yield np.log(float(step) / synchronous.update_s(row))

    return with_and_without(BUS, cases, residuals)


def sums(rows: list[dict[str, Any]], which: str) -> dict[str, Any]:
    """`horovod_mpi` or `horovod_nccl`: from one host to several."""
    cases: dict[str, list[tuple[float, float, float, float]]] = {}
    for (_, model, mpi), _, members in allreduce.horovod_groups(rows):
        given, size = allreduce.base_of(members)
        sum_bytes = param_bytes(members[0])
        if not given or sum_bytes is None or allreduce.constants_for(mpi) != which:
            continue
        batch, _ = allreduce.batch_of(members)
        node_s = size * batch / mean_of(given, "images_per_s")
        for row in members:
            if row["gpus"] > size:
                step_s = row["gpus"] * batch / row["images_per_s"]
                cases.setdefault(model, []).append((row["gpus"] / size, node_s, sum_bytes, step_s))

    def residuals(values: Mapping[str, float], chosen: Sequence[Any]) -> Iterable[float]:
        for nodes, node_s, sum_bytes, step_s in chosen:
            yield np.log(allreduce.horovod_step_s(nodes, node_s, sum_bytes, values) / step_s)

    return with_and_without(SUMS, cases, residuals)


def calibrated(files: list[dict[str, Any]]) -> dict[str, Any]:
    """All sets of constants that the files allow to fit, in the form of `constants.json`."""
    constants: dict[str, Any] = {}
    for content in files:
        rows = content.get("rows")
        source = f"fitted by benchmarks.forecast to: {content.get('name', '?')} ({content.get('source', '?')})"
        sets: dict[str, dict[str, Any]] = {}
        if not isinstance(rows, list) or not rows:
            continue
        if any(name in rows[0] for name in async_ps.SPEED_NAMES):
            sets["tf1_parameter_server"] = servers(files, rows)
        elif "gpus_per_worker" in rows[0]:
            sets |= {"tf_sync_server": sync_servers(rows), "one_host_bus": one_host(rows)}
        elif "mpi" in rows[0]:
            sets |= {which: sums(rows, which) for which in ("horovod_mpi", "horovod_nccl")}
        today = datetime.date.today().isoformat()
        constants |= {name: each | {"source": source, "date": today, "assumed": False} for name, each in sets.items()}
    return constants

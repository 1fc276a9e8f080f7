"""Whole jobs on clusters that may lose hosts: rows of {experiment, config, run, duration_s, accuracy, cost_usd}, and
spotDNN's table of plans. Time and cost; the accuracy is another model's task.
"""

from __future__ import annotations

import random
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.published.async_ps import Models, measured_of, model_key, models_of, server_for
from benchmarks.published.curves import Curve, Point, lacking, not_forecast, notes, positive
from facesim.forecast.constants import constants
from facesim.forecast.intervals import published_widths, quadrature
from facesim.forecast.laws import compute_from_step_s, mixed_updates_per_s, ps_async_step_s

TIME, COST, SPOT, PLANS = "job durations", "job cost", "job durations on spot", "plans of mixed instances"

#: The network of the study, and its GPUs as `config` writes them.
MODEL = "ResNet-32"
GPUS = {"k": "K80", "p": "P100", "v": "V100"}

#: A run that ended below this accuracy lost its cluster.
_LEAST_ACCURACY = 0.5
_DRAWS = 2000

Rows = list[dict[str, Any]]


class Cluster(NamedTuple):
    """Workers by GPU, and parameter servers."""

    gpus: tuple[tuple[str, int], ...]
    servers: int

    @property
    def workers(self) -> int:
        return sum(count for _, count in self.gpus)


def cluster_of(experiment: str, config: str) -> Cluster | str:
    """The cluster that a row ran on, or in words why that cannot be told."""
    text = str(config).strip().lower()
    if match := re.fullmatch(r"0*([1-9]\d*)-(?:demand|spot)", text):
        return Cluster(((_gpu_of(experiment), int(match[1])),), 1)
    if match := re.fullmatch(r"(k80|p100|v100)-(?:demand|spot)", text):
        return Cluster(((match[1].upper(), 1),), 1)
    if re.fullmatch(r"(?:\d+[ecwa])+", text):
        return "workers in several regions: how long messages take between them is not in the file"
    if re.fullmatch(r"(?:\d+ps)?(?:\d+[kpv])+", text):
        servers = re.match(r"(\d+)ps", text)
        counts: dict[str, int] = {}
        for count, letter in re.findall(r"(\d+)([kpv])(?!s)", text):
            counts[GPUS[letter]] = counts.get(GPUS[letter], 0) + int(count)
        present = tuple((gpu, count) for gpu, count in counts.items() if count)
        cluster = Cluster(present, int(servers[1]) if servers else 1)
        if cluster.workers and cluster.servers:
            return cluster
    return f"what cluster {config!r} is cannot be told"


def _gpu_of(experiment: str) -> str:
    return next((gpu for gpu in GPUS.values() if gpu.lower() in str(experiment).lower()), "K80")


class Group(NamedTuple):
    """Repeats of one configuration."""

    experiment: str
    config: str
    cluster: Cluster | str
    rows: Rows

    @property
    def name(self) -> str:
        return f"{self.experiment} {self.config}"

    @property
    def on_spot(self) -> bool:
        return "spot" in f"{self.experiment} {self.config}".lower()

    @property
    def completed(self) -> Rows:
        """Runs that were not lost."""
        return [row for row in self.rows if (positive(row, "accuracy") or 1.0) > _LEAST_ACCURACY]

    @property
    def durations_s(self) -> list[float]:
        """Of runs that were not lost."""
        return [row["duration_s"] for row in self.completed]


def lacks(row: dict[str, Any]) -> list[str]:
    return lacking(row, ("duration_s",))


def curves(files: list[dict[str, Any]], content: dict[str, Any]) -> Iterator[Curve]:
    groups: dict[tuple[str, str], Rows] = {}
    for row in (row for row in content["rows"] if not lacks(row)):
        groups.setdefault((str(row.get("experiment", "?")), str(row.get("config", "?"))), []).append(row)
    known = [Group(*key, cluster_of(*key), rows) for key, rows in groups.items()]
    study = _Study(models_of(files), positive(content, "total_global_steps"), known, _one_worker(files))
    lifetimes: dict[str, list[float]] = {}
    for row in (row for other in files for row in _rows(other) if positive(row, "hours")):
        lifetimes.setdefault(str(row.get("gpu", "?")).split("-")[0].upper(), []).append(row["hours"])
    usable = []
    for group in known:
        reason = study.why_not(group)
        if reason:
            yield Curve(SPOT if group.on_spot else TIME, group.name, reason=reason)
        else:
            usable.append(group)
    yield from study.times([group for group in usable if not group.on_spot])
    yield from study.costs([group for group in usable if not group.on_spot])
    for group in usable:
        if group.on_spot:
            yield study.on_spot(group, lifetimes)


def _one_worker(files: list[dict[str, Any]]) -> dict[str, tuple[float, str]]:
    """Steps a second of one worker of each GPU, and where they are from: packaged ones, under those that another study
    of the files measured.
    """
    values = {gpu: (speed, "as packaged") for gpu, speed in constants("resnet32_one_worker").values.items()}
    for content in files:
        for measured in measured_of(_rows(content)):
            if model_key(measured.model) == model_key(MODEL) and measured.servers == 1 and 1 in measured.speeds:
                values[measured.gpu] = measured.speeds[1], "as another study measured it"
    return values


def _rows(content: dict[str, Any]) -> Rows:
    rows = content.get("rows")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


class _Study:
    """Forecasts from one configuration of each GPU: the one with fewest workers and one server, on demand."""

    def __init__(
        self, models: Models, steps: float | None, groups: Sequence[Group], others: Mapping[str, tuple[float, str]]
    ):
        self._models, self._steps = models, steps or constants("transient_jobs").values["steps"]
        self._assumed = "" if steps else f"{self._steps:g} steps assumed"
        self._fixed_s = constants("transient_jobs").values["fixed_s"]
        self._server = server_for(MODEL)
        self.given: dict[str, Group] = {}
        self._compute_s: dict[str, float] = {}
        for group in groups:
            if isinstance(group.cluster, Cluster) and not group.on_spot and len(group.cluster.gpus) == 1:
                gpu = group.cluster.gpus[0][0]
                known = self.given.get(gpu)
                if self._trained(group) and (known is None or _size(group) < _size(known)):
                    self.given[gpu] = group
        for gpu, group in self.given.items():
            cluster = group.cluster
            assert isinstance(cluster, Cluster)
            step_s = (statistics.fmean(group.durations_s) - self._fixed_s) / self._steps * cluster.workers
            demands = self._demands(cluster.servers)
            overlap, latency = self._server.overlap, self._server.latency
            self._compute_s[gpu] = compute_from_step_s(step_s, *demands, cluster.workers, overlap, latency)
        self._from_others = {gpu: where for gpu, (_, where) in others.items() if gpu not in self._compute_s}
        for gpu in self._from_others:
            demands = self._demands(1)
            overlap, latency = self._server.overlap, self._server.latency
            self._compute_s[gpu] = compute_from_step_s(1 / others[gpu][0], *demands, 1, overlap, latency)

    def _demands(self, servers: int) -> tuple[Any, Any]:
        loads = self._models.loads(MODEL, servers)
        assert loads is not None
        return self._server.demands(loads)

    def why_not(self, group: Group) -> str | None:
        if isinstance(group.cluster, str):
            return group.cluster
        if not group.durations_s:
            return "no run of it completed"
        if not self._trained(group):
            return f"it took less than the {self._fixed_s:g} s that a job is assumed to take beside training"
        unknown = [gpu for gpu, _ in group.cluster.gpus if gpu not in self._compute_s]
        return f"no speed of one {unknown[0]} is known" if unknown else None

    def _trained(self, group: Group) -> bool:
        return bool(group.durations_s) and statistics.fmean(group.durations_s) > self._fixed_s

    def _note(self, groups: Sequence[Group], *more: str) -> str:
        """What to know of a curve of these groups."""
        gpus = {gpu for group in groups if isinstance(group.cluster, Cluster) for gpu, _ in group.cluster.gpus}
        started = [
            f"from the speed of one {gpu}, {self._from_others[gpu]}" for gpu in sorted(gpus & {*self._from_others})
        ]
        lost = sum(len(group.rows) - len(group.completed) for group in groups)
        return notes(*more, self._assumed, *started, not_forecast(lost, "runs that lost their cluster"))

    def speed(self, cluster: Cluster, gpus: Sequence[tuple[str, int]] | None = None) -> float:
        """Steps a second of a cluster, or of those `gpus` of it that are left."""
        chosen = cluster.gpus if gpus is None else gpus
        return mixed_updates_per_s(
            [self._compute_s[gpu] for gpu, _ in chosen],
            [count for _, count in chosen],
            *self._demands(cluster.servers),
            self._server.overlap,
            self._server.latency,
        )

    def duration_s(self, cluster: Cluster) -> float:
        return self._fixed_s + self._steps / self.speed(cluster)

    def _width(self, group: Group) -> float:
        """Also from how much one run differs from the mean of all, which is known of the given ones."""
        assert isinstance(group.cluster, Cluster)
        pull, push = self._demands(group.cluster.servers)
        server = self._server
        alone = sum(
            count / ps_async_step_s(self._compute_s[gpu], pull, push, 1, server.overlap, server.latency)
            for gpu, count in group.cluster.gpus
        )
        return float(quadrature(published_widths().at(alone * float((pull + push).max()))))

    def times(self, groups: Sequence[Group]) -> Iterator[Curve]:
        for name, members in _by_experiment(groups).items():
            points = [
                Point(
                    group.config,
                    self.duration_s(group.cluster),
                    statistics.fmean(group.durations_s),
                    self._width(group),
                    self._usd_per_h(group.cluster),
                    given=group in self.given.values(),
                )
                for group in members
                if isinstance(group.cluster, Cluster)
            ]
            yield Curve(TIME, name, tuple(points), choice=name, speed=False, note=self._note(members))

    def _usd_per_h(self, cluster: Cluster) -> float:
        prices = constants("gce_prices").values
        return cluster.servers * prices["ps"] + sum(count * prices[gpu] for gpu, count in cluster.gpus)

    def costs(self, groups: Sequence[Group]) -> Iterator[Curve]:
        """Dollars, from the prices of hosts: what all are charged an hour, which a price list would tell before."""
        for name, members in _by_experiment(groups).items():
            points = []
            for group in members:
                paid = [row for row in group.completed if positive(row, "cost_usd")]
                if paid and isinstance(group.cluster, Cluster):
                    usd_per_s = statistics.median(row["cost_usd"] / row["duration_s"] for row in paid)
                    points.append(
                        Point(
                            group.config,
                            self.duration_s(group.cluster) * usd_per_s,
                            statistics.fmean(row["cost_usd"] for row in paid),
                            self._width(group),
                            given=group in self.given.values(),
                        )
                    )
            note = self._note(members, "the price of an hour is given, as a price list gives it")
            yield Curve(COST, name, tuple(points), reason="no cost in its rows", speed=False, note=note)

    def on_spot(self, group: Group, lifetimes_h: Mapping[str, Sequence[float]]) -> Curve:
        """Workers that are reclaimed do not come back: the rest goes on. The median of runs that were not lost."""
        assert isinstance(group.cluster, Cluster)
        unknown = [gpu for gpu, _ in group.cluster.gpus if not lifetimes_h.get(gpu)]
        if unknown:
            return Curve(SPOT, group.name, reason=f"no file has lifetimes of hosts with a {unknown[0]}")
        rng = random.Random(group.name)
        drawn = [self._drawn_s(group.cluster, lifetimes_h, rng) for _ in range(_DRAWS)]
        finished = [duration for duration in drawn if duration is not None]
        if not finished:
            return Curve(SPOT, group.name, reason="in no simulated run a worker lived to its end")
        forecast, measured = statistics.median(finished), statistics.median(group.durations_s)
        point = Point(group.config, forecast, measured, self._width(group))
        note = self._note([group], "median of runs that were not lost")
        return Curve(SPOT, group.name, (point,), speed=False, note=note)

    def _drawn_s(
        self, cluster: Cluster, lifetimes_h: Mapping[str, Sequence[float]], rng: random.Random
    ) -> float | None:
        ends = sorted((3600 * rng.choice(lifetimes_h[gpu]), gpu) for gpu, count in cluster.gpus for _ in range(count))
        left, now_s, steps = dict(cluster.gpus), 0.0, 0.0
        for end_s, gpu in ends:
            alive = tuple((name, count) for name, count in left.items() if count)
            speed = self._speed_of(cluster, alive)
            done_s = self._fixed_s + (self._steps - steps) / speed if now_s == 0 else (self._steps - steps) / speed
            if now_s + done_s <= end_s:
                return now_s + done_s
            trained_s = max(0.0, end_s - max(now_s, self._fixed_s))
            steps, now_s = steps + speed * trained_s, end_s
            left[gpu] -= 1
        return None

    def _speed_of(self, cluster: Cluster, alive: tuple[tuple[str, int], ...]) -> float:
        cache: dict[Any, float] = self.__dict__.setdefault("_speeds", {})
        if (cluster, alive) not in cache:
            cache[cluster, alive] = self.speed(cluster, alive)
        return cache[cluster, alive]


def _size(group: Group) -> tuple[int, int]:
    assert isinstance(group.cluster, Cluster)
    return group.cluster.workers, group.cluster.servers


def _by_experiment(groups: Sequence[Group]) -> dict[str, list[Group]]:
    experiments: dict[str, list[Group]] = {}
    for group in groups:
        experiments.setdefault(group.experiment, []).append(group)
    return experiments


def plans(files: list[dict[str, Any]], content: dict[str, Any]) -> Iterator[Curve]:
    """spotDNN's table: the cost of a plan from its time and prices, and the time of other plans from the first one's.

    Times follow from the plans' speeds as long as the server is not saturated, and as if all needed as many steps.
    """
    prices = {str(row.get("instance", "?")): row for row in content.get("prices") or []}
    speeds = _profile(content.get("resnet110_profile"))
    times, costs, first = [], [], None
    for row in content["table1"]:
        hosts = [(int(count), _full_name(short)) for count, short in re.findall(r"(\d+) (\S+)", str(row.get("plan")))]
        time_s, cost = positive(row, "time_s"), positive(row, "cost_usd")
        shape = f"{row.get('strategy', '?')}: {row.get('plan', '?')}"
        kind = "on_demand_usd_h" if "demand" in str(row.get("strategy", "")).lower() else "spot_usd_h"
        priced = bool(hosts) and all(positive(prices.get(name, {}), kind) for _, name in hosts)
        if time_s and cost and priced:
            usd_per_h = sum(count * prices[name][kind] for count, name in hosts)
            costs.append(Point(shape, usd_per_h * time_s / 3600, cost))
        if time_s and hosts and all(name in speeds for _, name in hosts):
            speed = sum(count * speeds[name] for count, name in hosts)
            first = first or (speed, time_s)
            given = speed == first[0]
            width = 0.0 if given else float(published_widths().at(0.0))
            times.append(Point(shape, first[1] * first[0] / speed, time_s, width, given=given))
    name, plans_known = "spotDNN, table 1", len(content["table1"])
    yield Curve(
        PLANS,
        f"{name}, cost",
        tuple(costs),
        reason="no plan has both a time and prices",
        note=notes(
            "the time is given, as it was measured: its price alone is forecast",
            not_forecast(plans_known - len(costs), "plans without a cost, a time and a price of each type"),
        ),
    )
    yield Curve(
        PLANS,
        f"{name}, time",
        tuple(times),
        reason="no plan has a time and speeds",
        speed=False,
        note=not_forecast(plans_known - len(times), "plans without a time and a speed of each type"),
    )


def _profile(profile: Any) -> dict[str, float]:
    """Images a second by instance type, where both are told."""
    lists = [profile.get(name) for name in ("instance_type", "images_per_s")] if isinstance(profile, dict) else []
    if not lists or not all(isinstance(each, list) for each in lists):
        return {}
    return {str(name): speed for name, each in zip(*lists) if (speed := positive({"speed": each}, "speed"))}


def _full_name(short: str) -> str:
    """`g3.8xl` is g3.8xlarge."""
    return re.sub(r"xl$", "xlarge", short)

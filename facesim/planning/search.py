"""All shapes of a question, their forecasts, and what follows: the cheapest, the fastest, the front, where more hosts
stop to pay.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple

import pydantic
from pydantic import Field

from facesim.forecast.hosts import HostType
from facesim.forecast.intervals import Z80, Widths, published_widths
from facesim.forecast.model import (
    DISTURBED,
    Forecast,
    SpotRisk,
    doubted_host,
    forecast_job,
    forecast_jobs,
    update_batch,
)
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape
from facesim.planning.quantities import exact_dollars_text, exact_time_text
from facesim.spec.options import flag
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError
from facesim.util.words import count_text

#: Fewer workers that are so much slower at the most are as good.
FLAT = 0.05

#: More shapes than these take longer than anybody reads.
MOST_SHAPES = 200_000


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(strict=True))
class Axes:
    """What is tried with what. `spot`: spot capacity, too, beside on demand. Where one process is tried, clusters of
    one worker are not: they do the same, and more. Of a cluster's workers `other_workers`, as (type, how many), are on
    other types than the rest.
    """

    strategies: tuple[str, ...]
    instance_types: tuple[str, ...]
    workers: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    ps: tuple[int, ...] = (1, 2)
    spot: bool = False
    ps_instance_type: str | None = None
    backup_workers: Annotated[int, Field(ge=0)] = 0
    local_steps: Annotated[int, Field(ge=1)] = 8
    other_workers: tuple[tuple[str, Annotated[int, Field(ge=1)]], ...] = ()

    def shapes(self) -> list[ClusterShape]:
        """Every shape that differs in something that means something to its strategy.

        Raises:
            InputError: there are none, or too many; servers would have no hosts of their own beside `other_workers`;
                something means nothing to all of the strategies.
        """
        self._check_meaning()
        wanted = dict.fromkeys(self._keys())
        if not wanted:
            asked = {"--backup-workers": self.backup_workers, "--other-workers": self._others}
            more = " and ".join(f"{name} {count}" for name, count in asked.items() if count) or "1"
            raise InputError(
                f"--workers up to {max(self.workers)} leaves no shape of {', '.join(self.strategies)}: give more "
                f"workers than {more}"
            )
        if len(wanted) > MOST_SHAPES:
            raise InputError(
                f"these options make {len(wanted):,} shapes, {MOST_SHAPES:,} are allowed: name fewer --instance-type, "
                "or shorter ranges of --workers and --ps"
            )
        return [ClusterShape(**dict(key)) for key in wanted]

    def fixed_for(self, strategy: str) -> dict[str, object]:
        """What is the same for every shape of a strategy, as far as it means something to that."""
        kind = ClusterShape(strategy=strategy)
        meaning = {
            "backup_workers": "backup_workers" in kind.kind.model_fields,
            "local_steps": "local_steps" in kind.kind.model_fields,
            "ps_instance_type": kind.served,
            "other_workers": kind.served or kind.summed,
        }
        return {name: getattr(self, name) for name, means_something in meaning.items() if means_something}

    def _check_meaning(self) -> None:
        meaningful = {name for strategy in self.strategies for name in self.fixed_for(strategy)}
        for name in ("backup_workers", "local_steps", "ps_instance_type", "other_workers"):
            if name not in meaningful and getattr(self, name) != getattr(Axes, name):
                raise InputError(
                    f"{flag(name)} means nothing to {' or '.join(self.strategies)}: leave it out", field=name
                )

    @property
    def _others(self) -> int:
        return sum(count for _, count in self.other_workers)

    def _keys(self) -> Iterable[tuple[tuple[str, object], ...]]:
        for name, kind, spot in itertools.product(
            self.strategies, self.instance_types, (False, True) if self.spot else (False,)
        ):
            strategy, fixed = STRATEGIES[name], self.fixed_for(name)
            served, mixed = ClusterShape(strategy=name).served, bool(fixed.get("other_workers"))
            if mixed and served and self.ps_instance_type is None:
                raise InputError(
                    f"--other-workers: the parameter servers of {name} need hosts of their own beside workers of "
                    "several types; give --ps-instance-type"
                )
            alone = 1 if any(not STRATEGIES[each].replicated for each in self.strategies) else 0
            alone = max(alone, self._others if mixed else 0)
            workers = tuple(count for count in self.workers if count > alone) if strategy.replicated else (1,)
            backup = self.backup_workers if "backup_workers" in fixed else 0
            for count, servers in itertools.product(workers, self.ps if served else (1,)):
                if backup < count:
                    key = {"strategy": name, "instance_type": kind, "workers": count, "ps": servers, "spot": spot}
                    yield tuple({**key, **fixed}.items())


@dataclass(frozen=True)
class Wanted:
    """What a job must keep, at the bad end of its interval. None: anything."""

    deadline_s: float | None = None
    budget_usd: float | None = None
    min_accuracy: float | None = None

    def __str__(self) -> str:
        conditions = []
        if self.deadline_s is not None:
            conditions.append(f"--deadline {exact_time_text(self.deadline_s)}")
        if self.budget_usd is not None:
            conditions.append(f"--budget {exact_dollars_text(self.budget_usd)}")
        if self.min_accuracy is not None:
            conditions.append(f"--min-accuracy {self.min_accuracy:.10g}")
        return " and ".join(conditions)


class Accuracy(NamedTuple):
    """A held-out accuracy, 0-1, with its 80 % interval, and where it is from."""

    value: float
    low: float
    high: float
    origin: str


class Row(NamedTuple):
    """A shape's forecast, the accuracy if it is known, and what it does not keep of what is wanted."""

    forecast: Forecast
    accuracy: Accuracy | None
    misses: tuple[str, ...]

    @property
    def meets(self) -> bool:
        return not self.misses


class Flat(NamedTuple):
    """From `enough` workers on, up to `most`, which is the fastest, nothing is more than `FLAT` faster."""

    shape: ClusterShape
    enough: int
    most: int

    def __str__(self) -> str:
        servers = f", {self.shape.ps} ps" if self.shape.served else ""
        others = "".join(f", {count} of its workers on {name}" for name, count in self.shape.other_workers)
        spot = ", spot" if self.shape.spot else ""
        what = f"{self.shape.strategy}{servers} on {self.shape.instance_type}{others}{spot}"
        return f"{what}: {count_text(self.enough, 'worker is', 'workers are')} within {100 * FLAT:.0f} % of {self.most}"


class Doubt(NamedTuple):
    """A cause of uncertainty, its relative 80 % half-width, and what would make it smaller."""

    cause: str
    half_width: float
    remedy: str


@dataclass(frozen=True, eq=False)
class Plan:
    """The answer, as data. `rows` are all shapes of `axes`, the cheapest first; `profile_command` measures the profile
    again; `replayable` says whether what they train can be replayed here.
    """

    profile: Profile
    epochs: int
    batch: int
    axes: Axes
    wanted: Wanted
    rows: tuple[Row, ...]
    known: Mapping[str, HostType]
    widths: Widths
    notes: tuple[str, ...] = ()
    profile_command: str = "facesim profile --fresh"
    evaluations: int | None = None
    outside: Mapping[str, float] | None = None
    spot_risk: SpotRisk = SpotRisk()
    replayable: bool = True

    @property
    def update_batch(self) -> int:
        """Examples in an update: the batch, or all that there are."""
        return update_batch(self.profile, self.batch)

    def row(self, shape: ClusterShape) -> Row:
        """The row of a shape, which is forecast now, as the others were, where it is none of the plan's.

        Raises:
            InputError: an instance type is not known, or nobody knows how fast it is.
        """
        for row in self.rows:
            if row.forecast.shape == shape:
                return row
        forecast = forecast_job(
            self.profile,
            shape,
            epochs=self.epochs,
            batch=self.batch,
            evaluations=self.evaluations,
            known_hosts=self.known,
            widths=self.widths,
            outside=self.outside,
            spot_risk=self.spot_risk,
        )
        return Row(forecast, None, _misses(forecast, None, self.wanted))

    @cached_property
    def cheapest(self) -> Row | None:
        """The cheapest that keeps what is wanted."""
        return min((row for row in self.rows if row.meets), key=_by_cost, default=None)

    @cached_property
    def fastest(self) -> Row | None:
        """The fastest that keeps what is wanted."""
        return min((row for row in self.rows if row.meets), key=_by_time, default=None)

    @cached_property
    def nearly_fastest(self) -> Row | None:
        """The cheapest that keeps what is wanted and is not more than `FLAT` slower than the fastest."""
        if self.fastest is None:
            return None
        most_s = self.fastest.forecast.time_s * (1 + FLAT)
        return min((row for row in self.rows if row.meets and row.forecast.time_s <= most_s), key=_by_cost)

    @cached_property
    def fastest_of_all(self) -> Row:
        return min(self.rows, key=_by_time)

    @cached_property
    def cheapest_of_all(self) -> Row:
        return min(self.rows, key=_by_cost)

    @cached_property
    def one_machine(self) -> Row | None:
        """The cheapest single process that keeps what is wanted, else the cheapest of all such."""
        alone = [row for row in self.rows if not clustered(row.forecast.shape)]
        return min(alone, key=lambda row: (not row.meets, *_by_cost(row)), default=None)

    @cached_property
    def front(self) -> tuple[Row, ...]:
        """The rows of which none other is both faster and cheaper: the Pareto front, the cheapest first."""
        best_s, front = math.inf, []
        for row in sorted(self.rows, key=_by_cost):
            if row.forecast.time_s < best_s:
                best_s = row.forecast.time_s
                front.append(row)
        return tuple(front)

    @cached_property
    def steps(self) -> tuple[Row, ...]:
        """Of the front, the rows that are more than `FLAT` faster than the cheaper one before, and the fastest."""
        steps: list[Row] = []
        for row in self.front:
            if not steps or row.forecast.time_s * (1 + FLAT) < steps[-1].forecast.time_s or row is self.front[-1]:
                steps.append(row)
        return tuple(steps)

    @cached_property
    def flats(self) -> tuple[Flat, ...]:
        """Where more workers stop to pay, for each kind of cluster of which several sizes were tried."""
        families: dict[tuple[object, ...], list[Forecast]] = {}
        for row in self.rows:
            families.setdefault(_family(row.forecast.shape), []).append(row.forecast)
        flats = []
        for members in families.values():
            fastest = min(members, key=lambda each: (each.time_s, each.shape.workers))
            near = [each for each in members if each.time_s <= fastest.time_s * (1 + FLAT)]
            enough = min(near, key=lambda each: each.shape.workers).shape.workers
            most = max(each.shape.workers for each in near)
            if enough < most:
                flats.append(Flat(fastest.shape, enough, most))
        return tuple(flats)

    def flats_of(self, rows: Iterable[Row]) -> tuple[Flat, ...]:
        """Those of `flats` that speak of the clusters of some rows."""
        families = {_family(row.forecast.shape) for row in rows}
        return tuple(flat for flat in self.flats if _family(flat.shape) in families)

    def doubts(self, row: Row) -> tuple[Doubt, ...]:
        """Why a row is not surer, the largest cause first."""
        forecast = row.forecast
        kind, profile = doubted_host(self.known, forecast.shape, forecast.training_bound), self.profile
        measured_again = f"{self.profile_command} on a machine with nothing else to do"
        formulas = float(self.widths.at(forecast.offered_load))
        parts = [
            Doubt(
                "the formulas",
                formulas,
                "facesim calibrate RUNS learns from your own runs"
                + ("" if self.widths == published_widths() else ", the more the better"),
            ),
            Doubt(
                f"the speed of {kind.name}, which is {kind.speed_origin}",
                kind.speed_half_width,
                f"facesim calibrate --instance-type {kind.name} --backend sagemaker measures it for some cents"
                if kind.speed_origin != "measured"
                else "nothing cheaper than the run itself",
            ),
            Doubt(
                "the spread of this machine's own measurements",
                Z80 * profile.repeats_cv,
                measured_again,
            ),
            Doubt(
                "other load on this machine while it was profiled",
                DISTURBED if profile.disturbed else 0.0,
                measured_again,
            ),
        ]
        rest = math.sqrt(max(0.0, forecast.half_width**2 - sum(part.half_width**2 for part in parts)))
        parts.append(
            Doubt(
                f"for how long the network of {kind.name} bursts",
                rest,
                "a run of that shape, and facesim calibrate RUNS",
            )
        )
        return tuple(sorted((part for part in parts if part.half_width > 0.005), key=lambda part: -part.half_width))


def clustered(shape: ClusterShape) -> bool:
    """Whether it takes more than one host."""
    return sum(count for _, count in shape.groups) > 1


def make_plan(
    profile: Profile,
    axes: Axes,
    wanted: Wanted = Wanted(),
    *,
    epochs: int,
    known_hosts: Mapping[str, HostType],
    batch: int | None = None,
    evaluations: int | None = None,
    accuracies: Mapping[ClusterShape, Accuracy] | None = None,
    widths: Widths | None = None,
    outside: Mapping[str, float] | None = None,
    spot_risk: SpotRisk | None = None,
    notes: Sequence[str] = (),
    profile_command: str = Plan.profile_command,
    replayable: bool = True,
) -> Plan:
    """Forecast every shape of `axes`, and judge each by what is wanted.

    Raises:
        InputError: an instance type is not known, or nobody knows how fast it is; there are too many shapes.
    """
    shapes = axes.shapes()
    widths, spot_risk = widths or published_widths(), spot_risk or SpotRisk()
    forecasts = forecast_jobs(
        profile,
        shapes,
        epochs=epochs,
        batch=batch,
        evaluations=evaluations,
        known_hosts=known_hosts,
        widths=widths,
        outside=outside,
        spot_risk=spot_risk,
    )
    accuracy_of = accuracies or {}
    rows = [Row(each, accuracy := accuracy_of.get(each.shape), _misses(each, accuracy, wanted)) for each in forecasts]
    rows.sort(key=_by_cost)
    return Plan(
        profile,
        epochs,
        profile.batch if batch is None else batch,
        axes,
        wanted,
        tuple(rows),
        known_hosts,
        widths,
        tuple(notes),
        profile_command,
        evaluations,
        outside,
        spot_risk,
        replayable,
    )


def _misses(forecast: Forecast, accuracy: Accuracy | None, wanted: Wanted) -> tuple[str, ...]:
    """What of `wanted` the bad end of the interval does not keep."""
    missed = []
    if wanted.deadline_s is not None and forecast.high_s > wanted.deadline_s:
        missed.append("deadline")
    if wanted.budget_usd is not None and forecast.high_usd > wanted.budget_usd:
        missed.append("budget")
    if wanted.min_accuracy is not None:
        if accuracy is None:
            missed.append("accuracy not known")
        elif accuracy.low < wanted.min_accuracy:
            missed.append("accuracy")
    return tuple(missed)


def _family(shape: ClusterShape) -> tuple[object, ...]:
    return tuple(value for name, value in shape if name != "workers")


def _by_cost(row: Row) -> tuple[float, float, int]:
    return row.forecast.cost_usd, row.forecast.time_s, row.forecast.shape.workers


def _by_time(row: Row) -> tuple[float, float, int]:
    return row.forecast.time_s, row.forecast.cost_usd, row.forecast.shape.workers

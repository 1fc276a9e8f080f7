"""The bill of a run: from the states that it went through to seconds and dollars, as SageMaker counts them.

SageMaker's TrainingTimeInSeconds is the wall clock for which a job has its instances: data and image coming down,
training, results going up; over all attempts when capacity was taken away. Starting instances and waiting for capacity
is not in it. BillableTimeInSeconds is the same on demand, and less by the discount as managed spot training. Both are
whole seconds and of the wall clock: the number of instances multiplies the price (AWS, DescribeTrainingJob).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from facesim.billing.catalogue import Instance, assumed_spot_discount, instance
from facesim.billing.cost import spot_savings_percent
from facesim.runs.events import Billed, Event, Restored, StateEntered, Submitted
from facesim.runs.states import RunState

if TYPE_CHECKING:
    from facesim.spec.spot import Spot

#: States in which a job has no instances yet, or none any more.
UNBILLED = frozenset({RunState.STARTING, RunState.INTERRUPTED})

Groups = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Transition:
    """A state and when it was, in seconds since 1970."""

    state: RunState
    begin_unix_s: float
    end_unix_s: float

    @property
    def billable(self) -> bool:
        return self.state not in UNBILLED

    @property
    def seconds(self) -> float:
        return self.end_unix_s - self.begin_unix_s


@dataclass(frozen=True)
class Life:
    """A run from when it was submitted, or submitted again, to its end: a training job of its own.

    `groups` are its instances, as (type, count). `discount` is the part that spot saves, 0-1; None: it was on demand.
    `reported` are TrainingTimeInSeconds and BillableTimeInSeconds as AWS itself reported them, which then are what is
    billed. `known` has types, by name, whose price is another than the catalogue's.
    """

    transitions: tuple[Transition, ...]
    groups: tuple[tuple[str, int], ...]
    discount: float | None = None
    lost_work_s: float = 0.0
    restart_s: float = 0.0
    reported: tuple[int, int] | None = None
    known: Mapping[str, Instance] = field(default_factory=dict)

    @property
    def hosts(self) -> int:
        return sum(count for _, count in self.groups)

    @property
    def training_s(self) -> int:
        """SageMaker's TrainingTimeInSeconds."""
        if self.reported:
            return self.reported[0]
        return _whole(sum(each.seconds for each in self.transitions if each.billable))

    @property
    def billable_s(self) -> int:
        """SageMaker's BillableTimeInSeconds."""
        if self.reported:
            return self.reported[1]
        return billable_s(self.training_s, self.discount)

    def price_usd(self, seconds: float) -> float:
        """What its instances cost on demand for so many seconds of wall clock."""
        return price_usd(self.groups, seconds, self.known)

    def part_usd(self, seconds: float) -> float:
        """What so many seconds of its training cost, as spot capacity if it was that."""
        billed = 1 - (self.discount or 0.0)
        if self.reported and self.training_s:
            billed = self.billable_s / self.training_s
        return self.price_usd(seconds) * billed

    def priced_groups(self) -> list[dict[str, Any]]:
        """Its instances with their price and where it is from, which a later refresh may change."""
        kinds = _kinds(self.groups, self.known)
        return [
            {
                "instance_type": kind.name,
                "count": count,
                "usd_per_hour": kind.price_usd_per_hour,
                "price_verified": kind.price_verified,
                "price_region": kind.price_region,
                "price_date": kind.price_date,
            }
            for kind, count in kinds
        ]


@dataclass(frozen=True)
class Bill:
    """What a run had in all its lives, each with instances of its own, and what that costs.

    What interruptions threw away, `lost_work_s`, is in `training_s`.
    """

    lives: tuple[Life, ...]

    @property
    def transitions(self) -> tuple[Transition, ...]:
        return tuple(transition for life in self.lives for transition in life.transitions)

    @property
    def groups(self) -> tuple[tuple[str, int], ...]:
        """The instances of its last life."""
        return self.lives[-1].groups

    @property
    def discount(self) -> float | None:
        return self.lives[-1].discount

    @property
    def hosts(self) -> int:
        return self.lives[-1].hosts

    @property
    def training_s(self) -> int:
        """SageMaker's TrainingTimeInSeconds."""
        return sum(life.training_s for life in self.lives)

    @property
    def instance_s(self) -> int:
        """The seconds of all instances together."""
        return sum(life.hosts * life.training_s for life in self.lives)

    @property
    def waiting_s(self) -> int:
        """Seconds without instances: until they started, and after interruptions until there was capacity again."""
        return _whole(sum(each.seconds for each in self.transitions if not each.billable))

    @property
    def billable_s(self) -> int:
        """SageMaker's BillableTimeInSeconds."""
        return sum(life.billable_s for life in self.lives)

    @property
    def savings_percent(self) -> float:
        """SageMaker's "Managed Spot Training savings"; 0 on demand."""
        return spot_savings_percent(self.training_s, self.billable_s)

    @property
    def on_demand_usd(self) -> float:
        """What the instances cost on demand."""
        return sum(life.price_usd(life.training_s) for life in self.lives)

    def spot_usd(self, discount: float) -> float:
        """What the instances cost as spot capacity that saves `discount`, 0-1."""
        return sum(life.price_usd(billable_s(life.training_s, discount)) for life in self.lives)

    @property
    def cost_usd(self) -> float:
        """What the job is billed: as spot capacity if it was that, else on demand."""
        return sum(life.price_usd(life.billable_s) for life in self.lives)

    @property
    def interruptions(self) -> int:
        return sum(each.state is RunState.INTERRUPTED for each in self.transitions)

    @property
    def lost_work_s(self) -> float:
        """Seconds of training that interruptions threw away."""
        return sum(life.lost_work_s for life in self.lives)

    @property
    def restart_s(self) -> float:
        """Seconds from having instances again after interruptions until training went on."""
        return sum(life.restart_s for life in self.lives)

    @property
    def lost_work_usd(self) -> float:
        """What the work that was thrown away costs, which is part of `cost_usd`."""
        return sum(life.part_usd(life.lost_work_s) for life in self.lives)

    @property
    def restart_usd(self) -> float:
        """What starting again after interruptions costs, which is part of `cost_usd`."""
        return sum(life.part_usd(life.restart_s) for life in self.lives)

    def cost_until_usd(self, moment_unix_s: float) -> float:
        """What was billed until a moment, such as that at which an accuracy was reached; to no whole second."""
        return sum(life.part_usd(billed_until_s(life.transitions, moment_unix_s)) for life in self.lives)

    def to_dict(self, spot_discount: float) -> dict[str, Any]:
        """The bill as `result.json` keeps it; `spot_discount` is what spot saves, or would have saved."""
        return {
            "transitions": [
                {
                    "state": each.state,
                    "begin_unix_s": each.begin_unix_s,
                    "end_unix_s": each.end_unix_s,
                    "seconds": each.seconds,
                    "billable": each.billable,
                }
                for each in self.transitions
            ],
            "spot": self.discount is not None,
            "spot_discount": spot_discount,
            "groups": self.lives[-1].priced_groups(),
            "hosts": self.hosts,
            "instance_s": self.instance_s,
            "lives": [
                {
                    "groups": life.priced_groups(),
                    "training_s": life.training_s,
                    "billable_s": life.billable_s,
                    "cost_usd": life.price_usd(life.billable_s),
                }
                for life in self.lives
            ],
            "training_s": self.training_s,
            "billable_s": self.billable_s,
            "waiting_s": self.waiting_s,
            "on_demand_usd": self.on_demand_usd,
            "spot_usd": self.spot_usd(spot_discount),
            "cost_usd": self.cost_usd,
            "savings_percent": self.savings_percent,
            "interruptions": self.interruptions,
            "lost_work_s": self.lost_work_s,
            "lost_work_usd": self.lost_work_usd,
            "restart_s": self.restart_s,
            "restart_usd": self.restart_usd,
        }


def make_bill(
    events: Iterable[Event],
    groups: Groups,
    discount: float | None = None,
    known: Mapping[str, Instance] | None = None,
) -> Bill:
    """The bill of a run that left `events`, in order. Where AWS reported its times, as `Billed`, these are billed.

    A run that was submitted again after its end has a bill over all its lives; between them it had nothing. A
    `Submitted` event says with what `groups` and `discount` that life was; where it does not, the arguments do. Types
    that are `known` by name have their price there, all others the catalogue's.

    Raises:
        InputError: an instance type is not in the catalogue.
    """
    lives: list[list[Event]] = [[]]
    for event in events:
        if isinstance(event, Submitted) and lives[-1]:
            lives.append([])
        lives[-1].append(event)
    return Bill(tuple(_life(life, groups, discount, known or {}) for life in lives))


def submitted(groups: Groups, spot: Spot | None) -> dict[str, Any]:
    """What the event `Submitted` holds for the bill of a life: another life may have other instances."""
    return {"groups": [[name, count] for name, count in groups], "discount": spot and discount_of(spot, groups)}


def discount_of(spot: Spot | None, groups: Groups) -> float:
    """The part of the price, 0-1, that spot capacity of these instances saves, or would save: as the user says, else as
    AWS' advisor or the user's own prices have it of every type, else assumed.
    """
    if spot is not None and spot.discount is not None:
        return spot.discount
    kinds = [(instance(name), count) for name, count in groups]
    saved = [kind.spot_discount for kind, _ in kinds]
    if not saved or None in saved:
        return assumed_spot_discount()
    usd = [kind.price_usd_per_hour * count for kind, count in kinds]
    return sum(part * (discount or 0.0) for part, discount in zip(usd, saved, strict=True)) / sum(usd)


def _life(events: list[Event], groups: Groups, discount: float | None, known: Mapping[str, Instance]) -> Life:
    if events and isinstance(events[0], Submitted) and events[0].groups is not None:
        groups, discount = events[0].groups, events[0].discount  # without a discount: on demand
    billed = [event for event in events if isinstance(event, Billed)]
    return Life(
        tuple(_transitions(events)),
        tuple((instance(name).name, count) for name, count in groups),
        discount,
        float(sum(event.lost_s for event in events if isinstance(event, Restored))),
        _restart_s(events),
        (_whole(sum(each.training_s for each in billed)), _whole(sum(each.billable_s for each in billed)))
        if billed
        else None,
        known,
    )


def _transitions(life: list[Event]) -> Iterator[Transition]:
    """Each state until the next; the last, if nothing says that it ended, until the last event."""
    entered = [event for event in life if isinstance(event, StateEntered)]
    ends_s = [event.time_unix_s for event in [*entered[1:], *life[-1:]]]
    begin_s = entered[0].time_unix_s if entered else 0.0
    for event, until_s in zip(entered, ends_s):
        # Two processes tell the time: a state that seems to end before it began takes no time.
        end_s = max(begin_s, until_s)
        if not event.state.terminal:
            yield Transition(event.state, begin_s, end_s)
        begin_s = end_s


def _restart_s(life: list[Event]) -> float:
    """Seconds from having instances again until training went on, over all interruptions."""
    total_s, interrupted, since_s = 0.0, False, None
    for event in life:
        if isinstance(event, StateEntered):
            if event.state is RunState.INTERRUPTED:
                interrupted, since_s = True, None
            elif interrupted and event.state not in UNBILLED and since_s is None:
                since_s = event.time_unix_s
        elif since_s is not None and isinstance(event, Restored):
            total_s += max(0.0, event.time_unix_s - since_s)
            interrupted, since_s = False, None
    return total_s


def billed_until_s(transitions: Iterable[Any], moment_unix_s: float) -> float:
    """For how many seconds a job had its instances until a moment: of `Transition`s, or what reads like them."""
    return sum(
        max(0.0, min(each.end_unix_s, moment_unix_s) - each.begin_unix_s) for each in transitions if each.billable
    )


def billable_s(training_s: int, discount: float | None) -> int:
    """SageMaker's BillableTimeInSeconds of a job with its TrainingTimeInSeconds; a `discount` of None: on demand."""
    return training_s if discount is None else _whole(training_s * (1 - discount))


def price_usd(groups: Groups, seconds: float, known: Mapping[str, Instance] | None = None) -> float:
    """What instances cost on demand for so many seconds of wall clock: each group's price times its count. Types that
    are `known` by name have their price there.

    Raises:
        InputError: an instance type is not in the catalogue.
    """
    kinds = _kinds(groups, known or {})
    return sum(kind.price_usd_per_hour * count for kind, count in kinds) * seconds / 3600


def _kinds(groups: Groups, known: Mapping[str, Instance]) -> list[tuple[Instance, int]]:
    """The groups' instance types, each as it is `known` or else as in the catalogue, with their counts."""
    return [(known.get(name) or instance(name), count) for name, count in groups]


def _whole(seconds: float) -> int:
    return int(seconds + 0.5)

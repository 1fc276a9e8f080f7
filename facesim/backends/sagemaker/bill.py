"""What a training job can cost at the most, before it is started, and what AWS says that it did cost."""

from __future__ import annotations

from typing import Any

from facesim.billing.catalogue import instance
from facesim.billing.cost import spot_savings_percent
from facesim.util.errors import InputError

#: (instance type, how many), for each group of instances.
Groups = list[tuple[str, int]]


def groups_of(resources: dict[str, Any]) -> Groups:
    """The instances of a request's, or a description's, ResourceConfig."""
    return [(one["InstanceType"], one["InstanceCount"]) for one in resources.get("InstanceGroups") or [resources]]


def price_usd_per_hour(groups: Groups) -> float:
    """What an hour of all of them costs on demand."""
    return sum(instance(kind).price_usd_per_hour * count for kind, count in groups)


def most_usd(request: dict[str, Any]) -> float:
    """What a CreateTrainingJob request can cost: SageMaker ends the job after MaxRuntimeInSeconds of billed time.

    At the price on demand, also for spot: its discount is not promised.
    """
    longest_s = request["StoppingCondition"]["MaxRuntimeInSeconds"]
    return price_usd_per_hour(groups_of(request["ResourceConfig"])) * longest_s / 3600


def refuse_above(max_cost_usd: float | None, requests: list[dict[str, Any]]) -> str:
    """What all of these requests can cost together, in words.

    Raises:
        InputError: it is more than `max_cost_usd`.
    """
    most = sum(map(most_usd, requests))
    hourly = [price_usd_per_hour(groups_of(request["ResourceConfig"])) for request in requests]
    longest_s = max(request["StoppingCondition"]["MaxRuntimeInSeconds"] for request in requests)
    many = "the training job" if len(requests) == 1 else f"the {len(requests)} training jobs"
    estimate = f"{many} can cost up to ${most:.2f}: --max-run ends each after {longest_s / 3600:.3g} h"
    if max_cost_usd is not None and most > max_cost_usd:
        fits_s = int(max_cost_usd / sum(hourly) * 3600)
        raise InputError(
            f"{estimate}, which is more than --max-cost {max_cost_usd:g}; it fits with --max-run {fits_s} (seconds) "
            "or less, with smaller instances or fewer workers"
        )
    return estimate


def reported(description: dict[str, Any]) -> dict[str, Any]:
    """The bill by what DescribeTrainingJob says of an ended job; without its times, of one that never trained, zero.

    Both times are wall clock, so the number of instances multiplies them:
    cost = sum over groups (price x count) x BillableTimeInSeconds / 3600.
    """
    training_s = description.get("TrainingTimeInSeconds") or 0
    billable_s = description.get("BillableTimeInSeconds") or 0
    groups = groups_of(description["ResourceConfig"])
    return {
        "training_s": training_s,
        "billable_s": billable_s,
        "instance_s": billable_s * sum(count for _, count in groups),
        "savings_percent": spot_savings_percent(training_s, billable_s),
        "cost_usd": price_usd_per_hour(groups) * billable_s / 3600,
        "spot": bool(description.get("EnableManagedSpotTraining")),
    }

"""What instances cost, by SageMaker's rules: seconds of wall clock, billed for every instance of the job."""

from __future__ import annotations

from facesim.billing.catalogue import assumed_spot_discount, instance


def cost_usd(instance_type: str, hosts: int, billable_s: float) -> float:
    """The price in dollars of `hosts` instances for `billable_s` seconds of wall clock each.

    SageMaker's BillableTimeInSeconds is wall clock, so the instance count multiplies it:
    price_per_hour x hosts x billable_s / 3600 (AWS, DescribeTrainingJob). Download and upload are billed too.

    Raises:
        InputError: the instance type is not in the catalogue.
    """
    return instance(instance_type).price_usd_per_hour * hosts * billable_s / 3600


def spot_cost_usd(instance_type: str, hosts: int, billable_s: float, discount: float | None = None) -> float:
    """What the same instances would cost as managed spot training.

    Args:
        billable_s: wall clock that would be billed on demand, in seconds.
        discount: the part saved, 0-1; left out, the catalogue's assumption.

    Raises:
        InputError: the instance type is not in the catalogue.
    """
    saved = assumed_spot_discount() if discount is None else discount
    return cost_usd(instance_type, hosts, billable_s) * (1 - saved)


def spot_savings_percent(training_s: float, billable_s: float) -> float:
    """SageMaker's "Managed Spot Training savings": (1 - billable / training) x 100; 0 for a job that never trained."""
    return (1 - billable_s / training_s) * 100 if training_s > 0 else 0.0

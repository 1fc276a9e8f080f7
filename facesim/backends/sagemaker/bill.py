"""What a training job can cost at the most, before it is started, and what AWS says that it did cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from facesim.backends.training_job import JOB, job_of
from facesim.billing.catalogue import foreign_prices, instance, other_prices, refuse_foreign
from facesim.billing.cost import spot_savings_percent
from facesim.util.errors import InputError

#: (instance type, how many), for each group of instances.
Groups = list[tuple[str, int]]


def groups_of(resources: dict[str, Any]) -> Groups:
    """The instances of a request's, or a description's, ResourceConfig."""
    return [(group["InstanceType"], group["InstanceCount"]) for group in resources.get("InstanceGroups") or [resources]]


def price_usd_per_hour(groups: Groups) -> float:
    """What an hour of all of them costs on demand."""
    return sum(instance(kind).price_usd_per_hour * count for kind, count in groups)


#: After MaxRuntimeInSeconds a job gets SIGTERM and has so many seconds to save (AWS, StoppingCondition); then what it
#: left is uploaded. All of it is billed.
AFTER_S = 120 + 60

_MONTH_S = 730 * 3600
#: Assumed, from above: PUTs of one checkpoint, in parts of 8 MB; GB that a host prints in an hour; metrics of the job,
#: and of each host, that are read in a minute.
_WRITES, _LOG_GB_PER_HOUR, _METRICS, _HOST_METRICS = 20, 0.005, 10, 6


class Most(NamedTuple):
    """What a training job can cost at the most, in dollars, by what it is paid for."""

    instances: float
    volumes: float
    kept: float
    requests: float

    @property
    def total(self) -> float:
        return sum(self)


def most(request: dict[str, Any]) -> Most:
    """What a CreateTrainingJob request can cost: SageMaker ends the job after MaxRuntimeInSeconds of billed time, and
    gives it `AFTER_S` to save.

    At the price on demand, also for spot: its discount is not promised.
    """
    resources, prices = request["ResourceConfig"], other_prices()
    groups = groups_of(resources)
    billed_s = request["StoppingCondition"]["MaxRuntimeInSeconds"] + AFTER_S
    hourly = price_usd_per_hour(groups)
    hosts = sum(count for _, count in groups)
    kept_s = resources.get("KeepAlivePeriodInSeconds") or 0
    volume_usd_per_s = _volume_usd_per_s(resources)
    writes = _WRITES * _checkpoints(request, billed_s)
    reads = (_METRICS + _HOST_METRICS * hosts) * billed_s / 60
    return Most(
        instances=hourly * billed_s / 3600,
        volumes=volume_usd_per_s * (billed_s + kept_s),
        kept=hourly * kept_s / 3600,
        requests=writes * prices["s3_usd_per_write"]
        + reads * prices["cloudwatch_usd_per_metric_read"]
        + hosts * billed_s / 3600 * _LOG_GB_PER_HOUR * prices["cloudwatch_usd_per_log_gb"],
    )


def _volume_usd_per_s(resources: dict[str, Any]) -> float:
    """What the volumes of a ResourceConfig cost; types with disks of their own have none."""
    volumes = sum(count for kind, count in groups_of(resources) if instance(kind).local_storage_gb is None)
    return volumes * resources.get("VolumeSizeInGB", 0) * other_prices()["volume_usd_per_gb_month"] / _MONTH_S


def _checkpoints(request: dict[str, Any], seconds: float) -> float:
    """How many checkpoints a job writes in so many seconds; those that are due by updates are not foreseen."""
    hyperparameters = request.get("HyperParameters", {})
    every_s = job_of(hyperparameters).recovery.checkpoint_s if JOB in hyperparameters else 0
    return seconds / every_s if every_s else 0.0


def fitting_s(requests: list[dict[str, Any]], max_cost_usd: float) -> int:
    """How long each of these requests may run so that they cost no more together; 0 or less where none may."""
    costs = [most(request) for request in requests]
    # Each part but the kept instances grows with the time.
    fixed = sum(cost.kept for cost in costs)
    per_s = sum(
        (cost.total - cost.kept) / (request["StoppingCondition"]["MaxRuntimeInSeconds"] + AFTER_S)
        for cost, request in zip(costs, requests, strict=True)
    )
    return int((max_cost_usd - fixed) / per_s) - AFTER_S


def _foreign(requests: list[dict[str, Any]], regions: Iterable[str]) -> str:
    """Of which regions other prices are known than theirs; empty if of none."""
    types = dict.fromkeys(name for request in requests for name, _ in groups_of(request["ResourceConfig"]))
    return "; ".join(note for region in sorted({*regions}) if (note := foreign_prices(region, types)))


def refuse_above(
    max_cost_usd: float | None,
    requests: list[dict[str, Any]],
    data_gb: float = 0.0,
    limit: str = "--max-cost",
    regions: Iterable[str] = (),
) -> str:
    """What all of these requests can cost together, in words; `data_gb` is what is uploaded for them.

    Raises:
        InputError: it is more than `max_cost_usd`, which the option `limit` gave; or nobody can tell, because only the
            prices of another region than theirs, `regions`, are known.
    """
    regions = [*regions]
    if max_cost_usd is not None:
        refuse_foreign(limit, max_cost_usd, _foreign(requests, regions))
    costs = [most(request) for request in requests]
    total = sum(cost.total for cost in costs)
    times_s = [request["StoppingCondition"]["MaxRuntimeInSeconds"] for request in requests]
    many = "the training job" if len(requests) == 1 else f"the {len(requests)} training jobs"
    parts = {
        "instances": sum(cost.instances for cost in costs),
        "volumes": sum(cost.volumes for cost in costs),
        "instances that are kept": sum(cost.kept for cost in costs),
        "requests to S3 and CloudWatch": sum(cost.requests for cost in costs),
    }
    listed = ", ".join(f"${usd:.2f} {name}" for name, usd in parts.items() if usd >= _SHOWN_USD)
    estimate = (
        f"{many} can cost up to ${total:.2f}: --max-run ends each after {max(times_s) / 3600:.3g} h, and it has "
        f"{AFTER_S // 60} minutes more to save" + (f" ({listed})" if len(listed.split("$")) > 2 else "")
    )
    if max_cost_usd is not None and total > max_cost_usd:
        fits_s = fitting_s(requests, max_cost_usd)
        fits = f"it fits with --max-run {fits_s} (seconds) or less, with" if fits_s > 0 else "it may fit with"
        raise InputError(
            f"{estimate}, which is more than {limit} {max_cost_usd:g}; {fits} smaller instances or fewer workers"
        )
    stored = data_gb * other_prices()["s3_usd_per_gb_month"]
    if stored >= _SHOWN_USD:
        estimate += f"; the {data_gb:.3g} GB of data cost ${stored:.2f} a month in S3 until you remove them"
    abroad = _foreign(requests, regions)
    return f"{estimate}; {abroad}" if abroad else estimate


_SHOWN_USD = 0.005


def reported(description: dict[str, Any]) -> dict[str, Any]:
    """The bill by what DescribeTrainingJob says of an ended job; of one that never trained, zero. Where AWS does not
    say what it bills, that is all the time from the start of the training to its end.

    Both times are wall clock, so the number of instances multiplies them:
    cost = sum over groups (price x count) x BillableTimeInSeconds / 3600.

    Instances that are kept are paid for until another job takes them, as long as they are to be kept at the most.
    """
    begin, end = description.get("TrainingStartTime"), description.get("TrainingEndTime")
    whole_s = math.ceil((end - begin).total_seconds()) if begin and end else 0
    training_s = description.get("TrainingTimeInSeconds", whole_s)
    billable_s = description.get("BillableTimeInSeconds", training_s)
    resources = description["ResourceConfig"]
    groups = groups_of(resources)
    pool = description.get("WarmPoolStatus", {})
    kept_s = (training_s and resources.get("KeepAlivePeriodInSeconds")) or 0
    if pool.get("Status") in _KEPT_NO_MORE:
        kept_s = pool.get("ResourceRetainedBillableTimeInSeconds", kept_s)
    return {
        "training_s": training_s,
        "billable_s": billable_s,
        "instance_s": billable_s * sum(count for _, count in groups),
        "savings_percent": spot_savings_percent(training_s, billable_s),
        "cost_usd": price_usd_per_hour(groups) * billable_s / 3600,
        "spot": bool(description.get("EnableManagedSpotTraining")),
        "volume_usd": _volume_usd_per_s(resources) * training_s,
        "kept_usd": price_usd_per_hour(groups) * kept_s / 3600,
    }


#: States of a job's warm pool after which it costs nothing more (AWS, WarmPoolStatus).
_KEPT_NO_MORE = {"Reused", "Terminated"}

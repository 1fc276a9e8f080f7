"""What AWS says of a training job, as the status of a run."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from facesim.backends.base import Status
from facesim.backends.sagemaker.bill import groups_of, reported
from facesim.backends.training_job import job_of
from facesim.billing.catalogue import foreign_prices
from facesim.runs.states import outcome_of_sagemaker, state_of_sagemaker
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.backends.base import Target
    from facesim.backends.sagemaker.session import Account


def status_of(description: dict[str, Any], account: Account, target: Target) -> Status:
    """The status that DescribeTrainingJob's answer tells."""
    status, secondary = description["TrainingJobStatus"], description["SecondaryStatus"]
    outcome = outcome_of_sagemaker(status, secondary)
    notes = [description["FailureReason"]] if description.get("FailureReason") else []
    if outcome is not None and description.get("ResourceConfig"):  # without it, what it cost is not known
        bill = reported(description)
        kept = f", instances that are kept up to ${bill['kept_usd']:.4f}" if bill["kept_usd"] else ""
        cost = (
            f"emulated by {account.emulator}"
            if account.emulator
            else f"${bill['cost_usd']:.4f} (volumes ${bill['volume_usd']:.4f} more{kept})"
        )
        notes.append(f"billed {bill['billable_s']} s, {cost}")
        types = [name for name, _ in groups_of(description["ResourceConfig"])]
        if not account.emulator and (abroad := foreign_prices(account.region, types)):
            notes.append(abroad)
    return Status(
        name=description["TrainingJobName"],
        backend=target.backend.name,
        state=(outcome.state if outcome else state_of_sagemaker(secondary)).value,
        running=outcome is None,
        directory=str(target.run.directory) if target.run else None,
        **_of_job(description.get("HyperParameters", {})),
        began_unix_s=_unix(description.get("CreationTime")),
        total_s=_total_s(description),
        spans=tuple(
            (span["Status"], span["StartTime"].timestamp(), _unix(span.get("EndTime")))
            for span in description.get("SecondaryStatusTransitions", [])
        ),
        notes=tuple(notes),
        description=description,
    )


def listed(summary: dict[str, Any], backend: str) -> Status:
    """The status that one of ListTrainingJobs' summaries tells."""
    status = summary["TrainingJobStatus"]
    secondary = summary.get("SecondaryStatus", status)
    outcome = outcome_of_sagemaker(status, secondary)
    return Status(
        name=summary["TrainingJobName"],
        backend=backend,
        state=(outcome.state if outcome else state_of_sagemaker(secondary)).value,
        running=outcome is None,
        began_unix_s=_unix(summary["CreationTime"]),
        total_s=_total_s(summary),
        description=summary,
    )


def _of_job(hyperparameters: dict[str, str]) -> dict[str, Any]:
    """What is asked of it, if it is a job of facesim's, and of one that can still be read."""
    try:
        job = job_of(hyperparameters)
    except (KeyError, ValueError, InputError):
        return {}
    experiment = job.experiment
    return {
        "strategy": job.strategy.name,
        "seed": experiment.seed,
        "tested_in_words": experiment.data_spec.tested_in_words,
    }


def _total_s(description: dict[str, Any]) -> float | None:
    begin, end = description.get("CreationTime"), description.get("TrainingEndTime")
    return (end - begin).total_seconds() if begin and end else None


def _unix(when: datetime | None) -> float | None:
    return when.timestamp() if when else None

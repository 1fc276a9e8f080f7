"""Hyperparameter tuning jobs: SageMaker itself chooses settings, and runs a training job with each."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from facesim.backends.sagemaker.advice import AwsError, BusyError, RefusedError
from facesim.backends.sagemaker.rules import unlike_described
from facesim.backends.sagemaker.session import asking
from facesim.backends.training_job import BOOTSTRAP, TrainingJob
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account

#: Statuses of a tuning job that has ended.
ENDED = {"Completed", "Failed", "Stopped"}

#: The metric that is searched for; of `facesim.metrics.announced`.
OBJECTIVE = "held_out_accuracy"

#: Limits that AWS' description of requests does not hold (AWS, "Resource Limits for Automatic Model Tuning"). The time
#: is 30 days.
_MOST_TRIALS, _MOST_PARALLEL, _MOST_RANGES, _LONGEST_S = 750, 100, 30, 30 * 24 * 3600
_SHORTEST_S = 120

#: A name has 32 characters at the most; those of its training jobs begin with it.
_NAME = re.compile(r"facesim-tune-\d{8}-\d{6}-[0-9a-f]{2}")

#: What the jobs of a tuning job can have of a training job's request.
_FIELDS = (
    "RoleArn", "InputDataConfig", "VpcConfig", "OutputDataConfig", "ResourceConfig", "StoppingCondition",
    "EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining", "CheckpointConfig",
    "RetryStrategy", "Environment",
)  # fmt: skip


@dataclass(frozen=True)
class TuningJob:
    """A CreateHyperParameterTuningJob request. `made` is the training job that all of its jobs are like."""

    request: dict[str, Any]
    made: TrainingJob

    @property
    def name(self) -> str:
        return self.request["HyperParameterTuningJobName"]

    def to_json(self) -> str:
        uploads = {uri: str(path) for uri, path in self.made.uploads.items()}
        return json.dumps({"CreateHyperParameterTuningJob": self.request, "uploads": uploads}, indent=1)


def new_name() -> str:
    return f"{time.strftime('facesim-tune-%Y%m%d-%H%M%S')}-{secrets.token_hex(1)}"


def is_name(name: str) -> bool:
    """Whether a tuning job of facesim's has this name."""
    return _NAME.fullmatch(name) is not None


def tuning_job(made: TrainingJob, name: str, config: Mapping[str, Any]) -> TuningJob:
    """The request of a tuning job whose jobs are like `made`. `config` is its HyperParameterTuningJobConfig, in which
    only the objective is missing.

    Raises:
        InputError: SageMaker would not take it.
    """
    given = made.request
    algorithm = given["AlgorithmSpecification"]
    if algorithm["ContainerEntrypoint"] == BOOTSTRAP:
        raise InputError(
            "--image aws does not go with --tuner sagemaker: a tuning job runs images by their own entrypoint alone; "
            "leave --image out for facesim's own (facesim image build)"
        )
    if "TensorBoardOutputConfig" in given:
        raise InputError("--tensorboard does not go with --tuner sagemaker: a tuning job has no place for it")
    fields = [field for field in _FIELDS if field in given]
    if not given.get("EnableManagedSpotTraining"):
        # All trials have one address for checkpoints, and SageMaker brings each what those before it left there: worth
        # the time, and the room, only where spot capacity may be taken away.
        fields.remove("CheckpointConfig")
    request = {
        "HyperParameterTuningJobName": name,
        "HyperParameterTuningJobConfig": {
            **config,
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": OBJECTIVE},
        },
        "TrainingJobDefinition": {
            "StaticHyperParameters": given["HyperParameters"],
            "AlgorithmSpecification": {
                key: algorithm[key] for key in ("TrainingImage", "TrainingInputMode", "MetricDefinitions")
            },
            **{field: given[field] for field in fields},
        },
        "Tags": given["Tags"],
    }
    violations = [*broken_rules(request), *unlike_described("CreateHyperParameterTuningJob", request, [])]
    if violations:
        raise InputError(f"SageMaker does not take this tuning job: {'; '.join(violations)}")
    return TuningJob(request, made)


def broken_rules(request: Mapping[str, Any]) -> Iterator[str]:
    """Which limits of SageMaker's tuner a request breaks, in words."""
    config = request["HyperParameterTuningJobConfig"]
    limits = config["ResourceLimits"]
    trials, parallel = limits["MaxNumberOfTrainingJobs"], limits["MaxParallelTrainingJobs"]
    if trials > _MOST_TRIALS:
        yield f"--trials {trials}: a tuning job has {_MOST_TRIALS} at the most"
    if parallel > min(_MOST_PARALLEL, trials):
        yield f"--parallel {parallel}: at the most {min(_MOST_PARALLEL, trials)} of {trials} trials run at a time"
    longest_s = limits.get("MaxRuntimeInSeconds", _LONGEST_S)
    if not _SHORTEST_S <= longest_s <= _LONGEST_S:
        yield f"--deadline {longest_s} s: a tuning job has {_SHORTEST_S} s to {_LONGEST_S} s (30 days)"
    ranges = [one for kind in config["ParameterRanges"].values() for one in kind]
    if len(ranges) > _MOST_RANGES:
        yield f"{len(ranges)} options to --search: a tuning job searches {_MOST_RANGES} at the most"
    for one in ranges:
        if len(one.get("Values", ())) > _MOST_RANGES:
            yield f"--search {one['Name']} has {len(one['Values'])} values: {_MOST_RANGES} are allowed"
    if config["Strategy"] == "Hyperband" and config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
        yield "Hyperband ends jobs early by itself: TrainingJobEarlyStoppingType must be Off"


def create(account: Account, job: TuningJob) -> None:
    """Send the request.

    Raises:
        InputError: AWS does not allow it.
        AwsError: AWS refuses it.
    """
    with asking(f"create the tuning job {job.name}"):
        account.client("sagemaker").create_hyper_parameter_tuning_job(**job.request)


def exists(account: Account, name: str) -> bool:
    """Whether AWS knows a tuning job.

    Raises:
        InputError, AwsError: AWS cannot be asked.
    """
    try:
        describe(account, name)
    except RefusedError:
        return False
    return True


def describe(account: Account, name: str) -> dict[str, Any]:
    """DescribeHyperParameterTuningJob's answer.

    Raises:
        InputError: one may not ask.
        AwsError: there is no such job, or the answer is not one.
    """
    with asking(f"describe the tuning job {name}"):
        answer = account.client("sagemaker").describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    if "HyperParameterTuningJobStatus" not in answer:
        raise BusyError(f"cannot describe the tuning job {name}: the answer has no HyperParameterTuningJobStatus")
    return answer


def training_jobs(account: Account, name: str) -> list[dict[str, Any]]:
    """Summaries of a tuning job's training jobs, in the order in which they began."""
    with asking(f"list the training jobs of {name}"):
        pages = (
            account.client("sagemaker")
            .get_paginator("list_training_jobs_for_hyper_parameter_tuning_job")
            .paginate(HyperParameterTuningJobName=name, SortBy="CreationTime", SortOrder="Ascending")
        )
        return [summary for page in pages for summary in page["TrainingJobSummaries"]]


def cancel(account: Account, name: str) -> tuple[bool, str]:
    """Ask AWS to stop a tuning job with all of its training jobs; whether it had not ended, and its status then.
    Harmless when repeated.
    """
    status = describe(account, name)["HyperParameterTuningJobStatus"]
    if status in ENDED or status == "Stopping":
        return status not in ENDED, status
    try:
        with asking(f"stop the tuning job {name}"):
            account.client("sagemaker").stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    except AwsError:
        # It may have ended since it was looked at.
        if describe(account, name)["HyperParameterTuningJobStatus"] not in ENDED:
            raise
    status = describe(account, name)["HyperParameterTuningJobStatus"]
    return status not in ENDED, status

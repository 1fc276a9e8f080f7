"""Hyperparameter tuning jobs as SageMaker's API shows them; underneath, each is training jobs that a thread creates.

Values are drawn at random, whatever the strategy, and no training job is ended early: both are SageMaker's own.
"""

from __future__ import annotations

import math
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from facesim.backends.sagemaker.tuning import broken_rules
from facesim.backends.sagemaker.validation import problems
from facesim.testing.emulator.jobs import RequestError, TrainingJob, TrainingJobs, date

_TICK_S = 0.05
_FINAL = "FinalHyperParameterTuningJobObjectiveMetric"


class TuningJob:
    """One tuning job, from its creation until the last of its training jobs has ended."""

    def __init__(self, request: dict[str, Any], arn: str, jobs: TrainingJobs):
        self.request, self.arn = request, arn
        self._jobs = jobs
        self._config = request["HyperParameterTuningJobConfig"]
        self._random = random.Random(self._config.get("RandomSeed"))
        self._begun: list[tuple[TrainingJob, dict[str, str]]] = []
        self._failure: str | None = None
        self._stop = threading.Event()
        self.created = time.time()
        self.ended_unix_s: float | None = None
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self.request["HyperParameterTuningJobName"]

    @property
    def status(self) -> str:
        if self.ended_unix_s is None:
            return "Stopping" if self._stop.is_set() else "InProgress"
        return "Failed" if self._failure else "Stopped" if self._stop.is_set() else "Completed"

    def stop(self) -> None:
        """Stop all of its training jobs, and begin no other."""
        self._stop.set()

    def close(self) -> None:
        """Begin no other training job, and wait for the end of those that there are."""
        self.stop()
        self._thread.join()

    def describe(self) -> dict[str, Any]:
        """What DescribeHyperParameterTuningJob answers."""
        summaries = self.summaries()
        jobs = Counter(summary["TrainingJobStatus"] for summary in summaries)
        objectives = Counter(summary["ObjectiveStatus"] for summary in summaries)
        answer = {name: value for name, value in self.request.items() if name != "Tags"} | {
            "HyperParameterTuningJobArn": self.arn,
            "HyperParameterTuningJobStatus": self.status,
            "CreationTime": date(self.created),
            "LastModifiedTime": date(self.ended_unix_s or time.time()),
            "TrainingJobStatusCounters": {
                "Completed": jobs["Completed"],
                "InProgress": jobs["InProgress"] + jobs["Stopping"],
                "RetryableError": 0,
                "NonRetryableError": jobs["Failed"],
                "Stopped": jobs["Stopped"],
            },
            "ObjectiveStatusCounters": {name: objectives[name] for name in ("Succeeded", "Pending", "Failed")},
        }
        if self.ended_unix_s is not None:
            answer["HyperParameterTuningEndTime"] = date(self.ended_unix_s)
        if self._failure:
            answer["FailureReason"] = self._failure
        succeeded = [summary for summary in summaries if summary["ObjectiveStatus"] == "Succeeded"]
        if succeeded:
            answer["BestTrainingJob"] = max(succeeded, key=lambda one: one[_FINAL]["Value"])
        return answer

    def summaries(self) -> list[dict[str, Any]]:
        """Its training jobs, in the order in which they began."""
        return [self._summary(job, tuned) for job, tuned in list(self._begun)]

    def _summary(self, job: TrainingJob, tuned: dict[str, str]) -> dict[str, Any]:
        description = job.describe()
        names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingStartTime", "TrainingEndTime")
        summary = {name: description[name] for name in names if name in description}
        summary |= {"TrainingJobStatus": description["TrainingJobStatus"], "TunedHyperParameters": tuned}
        objective = self._config["HyperParameterTuningJobObjective"]
        values = {one["MetricName"]: one["Value"] for one in description["FinalMetricDataList"]}
        if objective["MetricName"] in values:
            summary[_FINAL] = {**objective, "Value": values[objective["MetricName"]]}
        over = job.ended.is_set()
        summary["ObjectiveStatus"] = "Pending" if not over else "Succeeded" if _FINAL in summary else "Failed"
        return summary

    def _run(self) -> None:
        limits = self._config["ResourceLimits"]
        until = time.monotonic() + limits.get("MaxRuntimeInSeconds", math.inf)
        while True:
            running = [job for job, _ in self._begun if not job.ended.is_set()]
            over = self._stop.is_set() or time.monotonic() > until or self._failure is not None
            if over:
                for job in running:
                    job.stop()
            if not running and (over or len(self._begun) == limits["MaxNumberOfTrainingJobs"]):
                break
            while not over and len(self._begun) < limits["MaxNumberOfTrainingJobs"]:
                if len(running) == limits["MaxParallelTrainingJobs"]:
                    break
                try:
                    running.append(self._begin())
                except RequestError as error:
                    self._failure, over = str(error), True
            time.sleep(_TICK_S)
        self.ended_unix_s = time.time()

    def _begin(self) -> TrainingJob:
        definition = self.request["TrainingJobDefinition"]
        ranges = self._config["ParameterRanges"]
        tuned = {one["Name"]: self._draw(kind, one) for kind, several in ranges.items() for one in several}
        objective = self._config["HyperParameterTuningJobObjective"]["MetricName"]
        request = {name: value for name, value in definition.items() if name != "StaticHyperParameters"} | {
            "TrainingJobName": f"{self.name}-{len(self._begun) + 1:03d}-{secrets.token_hex(4)}",
            "HyperParameters": {
                **definition.get("StaticHyperParameters", {}),
                **tuned,
                "_tuning_objective_metric": objective,
            },
            "Tags": self.request.get("Tags", []),
        }
        self._jobs.create(request)
        job = self._jobs.get(request["TrainingJobName"])
        self._begun.append((job, tuned))
        return job

    def _draw(self, kind: str, given: dict[str, Any]) -> str:
        if kind == "CategoricalParameterRanges":
            return self._random.choice(given["Values"])
        low, high = float(given["MinValue"]), float(given["MaxValue"])
        if given.get("ScalingType") == "Logarithmic":
            value = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            value = self._random.uniform(low, high)
        return str(round(value)) if kind == "IntegerParameterRanges" else repr(value)


class TuningJobs:
    """Every tuning job of one account in one region, whose training jobs are `jobs`."""

    def __init__(self, region: str, account: str, jobs: TrainingJobs):
        self._arn = f"arn:aws:sagemaker:{region}:{account}:hyper-parameter-tuning-job"
        self._training_jobs = jobs
        self._jobs: dict[str, TuningJob] = {}

    def create(self, request: dict[str, Any]) -> str:
        """Start a tuning job and return its ARN.

        Raises:
            RequestError: the request is not valid, or its name is taken.
        """
        violations = problems("CreateHyperParameterTuningJob", request) or [*broken_rules(request)]
        if violations:
            raise RequestError("; ".join(violations))
        name = request["HyperParameterTuningJobName"]
        if name in self._jobs:
            raise RequestError(f"Job name must be unique: {name}", "ResourceInUse")
        self._jobs[name] = TuningJob(request, f"{self._arn}/{name}", self._training_jobs)
        return self._jobs[name].arn

    def get(self, request: dict[str, Any]) -> TuningJob:
        """The job that a request names.

        Raises:
            RequestError: there is none.
        """
        name = request["HyperParameterTuningJobName"]
        if name not in self._jobs:
            raise RequestError(f"Amazon SageMaker can't find a tuning job with the name {name}.", "ResourceNotFound")
        return self._jobs[name]

    def stop(self, request: dict[str, Any]) -> None:
        """Ask a tuning job to stop.

        Raises:
            RequestError: there is no such job, or it has ended.
        """
        job = self.get(request)
        if job.ended_unix_s is not None:
            raise RequestError(f"The request was rejected because the tuning job is in status {job.status}.")
        job.stop()

    def training_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTrainingJobsForHyperParameterTuningJob, by their creation, with StatusEquals and paging."""
        wanted = request.get("StatusEquals")
        summaries = [one for one in self.get(request).summaries() if wanted in (None, one["TrainingJobStatus"])]
        if request.get("SortOrder", "Ascending") == "Descending":
            summaries.reverse()
        begin, many = int(request.get("NextToken", 0)), request.get("MaxResults", 10)
        more = {"NextToken": str(begin + many)} if begin + many < len(summaries) else {}
        return {"TrainingJobSummaries": summaries[begin : begin + many], **more}

    def all(self) -> Iterable[TuningJob]:
        return list(self._jobs.values())

"""Training jobs as SageMaker's API shows them; underneath, each is a `ContainerJob` that a thread follows."""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from cluster import clock
from cluster.containers.opt_ml import hosts_of
from facesim.backends.sagemaker.validation import problems
from facesim.billing.catalogue import assumed_spot_discount, instance
from facesim.testing.emulator.publishing import Logs, Metrics
from facesim.testing.emulator.storage import S3Store

_TICK_S = 0.2

#: A job's status by its secondary status; the others are InProgress.
_STATUS = {
    "Completed": "Completed",
    "Failed": "Failed",
    "Stopping": "Stopping",
    "Stopped": "Stopped",
    "MaxRuntimeExceeded": "Stopped",
    "MaxWaitTimeExceeded": "Stopped",
}
#: Secondary statuses in which instances are at work, which is what is billed.
_BILLED = {"Downloading", "Training", "Stopping", "Uploading"}


class Containers(Protocol):
    """What executes a request: `cluster.containers.job.ContainerJob`."""

    def events(self, tick_s: float) -> Iterator[dict[str, Any] | None]: ...

    def stop(self) -> None: ...

    def interrupt(self, notice_s: float | None = None, again_after_s: float = 0.0) -> None: ...

    def close(self) -> None: ...


#: Starts a request, whose addresses are in the store and whose /opt/ml folders are to be in the directory.
Start = Callable[[dict[str, Any], S3Store, Path], Containers]


class RequestError(Exception):
    """What a client may not ask for; `code` is AWS' name for it."""

    def __init__(self, message: str, code: str = "ValidationException"):
        super().__init__(message)
        self.code = code


class NoCapacityError(Exception):
    """There are not as many instances as a job asks for."""


class TrainingJob:
    """One job, from its creation to its end. A thread follows it; everything else may be asked at any time."""

    def __init__(
        self,
        request: dict[str, Any],
        arn: str,
        start: Callable[[dict[str, Any], Path], Containers],
        logs: Logs,
        metrics: Metrics,
        interruptions_s: tuple[float, ...] = (),
    ):
        self.request = request
        self.arn = arn
        self._start = start
        self._logs = logs
        self._metrics = metrics
        self._spot = bool(request.get("EnableManagedSpotTraining"))
        self._interruptions_s = list(interruptions_s) if self._spot else []
        self._failure: str | None = None
        self._lock = threading.Lock()
        self._containers: Containers | None = None
        self._stop_asked = False
        self.created = clock.time_unix_s()
        self._transitions: list[dict[str, Any]] = []
        self._enter("Starting", self.created)
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self.request["TrainingJobName"]

    @property
    def secondary_status(self) -> str:
        return self._transitions[-1]["Status"]

    @property
    def status(self) -> str:
        return _STATUS.get(self.secondary_status, "InProgress")

    def stop(self) -> None:
        with self._lock:
            self._stop_asked = True
            if self._containers:
                self._containers.stop()

    def interrupt(self, notice_s: float | None = None, again_after_s: float = 0.0) -> None:
        """Take a spot job's capacity away for `again_after_s`; without effect on a job that is on demand."""
        with self._lock:
            if self._containers and self._spot:
                self._containers.interrupt(notice_s, again_after_s)

    def close(self) -> None:
        """End it at once, whatever it does, and wait for that."""
        self.stop()
        with self._lock:
            containers = self._containers
        if containers:
            containers.close()
        self._thread.join()

    def describe(self) -> dict[str, Any]:
        """What DescribeTrainingJob answers."""
        with self._lock:
            transitions = [dict(transition) for transition in self._transitions]
            final = list(self._metrics.final.values())
        answer = {name: value for name, value in self.request.items() if name != "Tags"} | {
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "SecondaryStatus": transitions[-1]["Status"],
            "SecondaryStatusTransitions": [_dated(transition) for transition in transitions],
            "CreationTime": date(self.created),
            "LastModifiedTime": date(transitions[-1]["StartTime"]),
            "FinalMetricDataList": final,
        }
        billed = [transition for transition in transitions if transition["Status"] in _BILLED]
        if billed:
            answer["TrainingStartTime"] = date(billed[0]["StartTime"])
        if self.ended.is_set():
            training_s = round(sum(transition["EndTime"] - transition["StartTime"] for transition in billed))
            answer |= {
                "TrainingEndTime": date(transitions[-1]["StartTime"]),
                "TrainingTimeInSeconds": training_s,
                "BillableTimeInSeconds": round(training_s * (1 - assumed_spot_discount() if self._spot else 1)),
            }
            if self.status in ("Completed", "Stopped"):
                answer["ModelArtifacts"] = {
                    "S3ModelArtifacts": self.request["OutputDataConfig"]["S3OutputPath"].rstrip("/")
                    + f"/{self.name}/output/model.tar.gz"
                }
        if self._failure is not None:
            answer["FailureReason"] = self._failure[:1024]
        return answer

    def _run(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="facesim-emulator-"))
        try:
            containers = self._start(self.request, directory / "hosts")
            with self._lock:
                self._containers = containers
                if self._stop_asked:
                    containers.stop()
            try:
                self._follow(containers)
            finally:
                containers.close()
        except NoCapacityError as error:
            self._failure = f"CapacityError: {error}"
            self._end("Failed")
        except Exception as error:  # the job's end is the only place where a client sees it
            self._failure = f"InternalServerError: {type(error).__name__}: {error}"
            self._end("Failed")
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _follow(self, containers: Containers) -> None:
        trained_s, since = 0.0, None  # in state Training, over all attempts
        last: dict[str, Any] = {}
        terminal = "Failed"
        for event in containers.events(_TICK_S):
            now = clock.time_unix_s()
            if since is not None and self._interruptions_s and trained_s + now - since >= self._interruptions_s[0]:
                self._interruptions_s.pop(0)
                containers.interrupt()
            self._logs.flush()
            self._metrics.flush()
            if event is None:
                continue
            last = event
            if event["event"] == "log":
                self._logs.line(event["host"], event["time_unix_s"], event["line"])
                self._metrics.line(event["time_unix_s"], event["line"])
            elif event["event"] == "stats":
                self._metrics.used(event["host"], event)
            elif event["event"] == "state":
                state = event["state"]
                if since is not None:
                    trained_s, since = trained_s + now - since, None
                if state == "Training":
                    since = now
                    self._logs.begin()
                if _STATUS.get(state, "InProgress") in ("Completed", "Failed", "Stopped"):
                    terminal = state
                else:
                    self._enter(state, event["time_unix_s"])
        self._logs.flush()
        self._metrics.flush(at_once=True)
        if last.get("outcome") == "failed":
            self._failure = f"AlgorithmError: {last.get('reason') or 'the job ended without saying why'}"
        self._end(terminal)

    def _enter(self, state: str, when: float) -> None:
        with self._lock:
            if self._transitions:
                if self.secondary_status == state:
                    return
                self._transitions[-1]["EndTime"] = when
            self._transitions.append({"Status": state, "StartTime": when, "StatusMessage": _MESSAGES.get(state, state)})

    def _end(self, state: str) -> None:
        now = clock.time_unix_s()
        self._enter(state, now)
        with self._lock:
            self._transitions[-1]["EndTime"] = now
            self.ended.set()


_MESSAGES = {
    "Starting": "Preparing the instances for training",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Interrupted": "Spot capacity was taken away",
    "Uploading": "Uploading generated training model",
}


class TrainingJobs:
    """Every training job of one account in one region."""

    def __init__(
        self, region: str, account: str, clients: Callable[[str, str], Any], start: Start, options: dict[str, Any]
    ):
        self._region = region
        self._account = account
        self._clients = clients
        self._start = start
        self._options = options
        self._jobs: dict[str, TrainingJob] = {}
        self._creating = threading.Lock()

    def create(self, request: dict[str, Any]) -> str:
        """Start a job and return its ARN.

        Raises:
            RequestError: the request is not valid, or its name is taken.
        """
        violations = problems("CreateTrainingJob", request)
        if not violations and request.get("EnableManagedSpotTraining"):
            stopping = request.get("StoppingCondition", {})
            if stopping.get("MaxWaitTimeInSeconds", 0) < stopping.get("MaxRuntimeInSeconds", 86400):
                violations = ["MaxWaitTimeInSeconds must be present and at least MaxRuntimeInSeconds for a spot job"]
        if violations:
            raise RequestError("; ".join(violations))
        with self._creating:  # of two at the same time the second finds what the first has taken
            return self._create(request)

    def _create(self, request: dict[str, Any]) -> str:
        name = request["TrainingJobName"]
        if name in self._jobs:
            raise RequestError(f"Job name must be unique: {name}", "ResourceInUse")
        self._check_quotas(request)
        arn = f"arn:aws:sagemaker:{self._region}:{self._account}:training-job/{name}"
        self._jobs[name] = TrainingJob(
            request,
            arn,
            self._start_where_there_is_capacity,
            Logs(self._clients("logs", self._region), name),
            Metrics(
                self._clients("cloudwatch", self._region),
                name,
                _vcpus(request["ResourceConfig"]),
                request["AlgorithmSpecification"].get("MetricDefinitions", []),
                self._options["metrics_period_s"],
            ),
            self._options["interruptions_s"],
        )
        return arn

    def _start_where_there_is_capacity(self, request: dict[str, Any], directory: Path) -> Containers:
        for name, needed in _instances(request).items():
            kind = name.partition(" ")[0]
            if needed > self._options["capacity"].get(kind, math.inf):
                raise NoCapacityError(
                    "Unable to provision requested ML compute capacity. Please retry using a different instance type."
                )
        return self._start(request, S3Store(self._clients("s3", self._region)), directory)

    def _check_quotas(self, request: dict[str, Any]) -> None:
        """Raise RequestError, as SageMaker words it, if instances of a type would be more than there may be."""
        needed = _instances(request)
        used = sum((_instances(job.request) for job in self._jobs.values() if not job.ended.is_set()), Counter())
        for name, delta in needed.items():
            limit = self._options["quotas"].get(name, math.inf)
            if used[name] + delta > limit:
                raise RequestError(
                    f"The account-level service limit '{name}' is {limit:g} Instances, with current utilization of "
                    f"{used[name]} Instances and a request delta of {delta} Instances. Please use AWS Service Quotas "
                    "to request an increase for this quota.",
                    "ResourceLimitExceeded",
                )

    def get(self, name: str) -> TrainingJob:
        """The job called `name`.

        Raises:
            RequestError: there is none.
        """
        if name not in self._jobs:
            raise RequestError("Requested resource not found.")
        return self._jobs[name]

    def stop(self, name: str) -> None:
        """Ask a job to stop.

        Raises:
            RequestError: there is no such job, or it has ended.
        """
        job = self.get(name)
        if job.ended.is_set():
            raise RequestError(f"The request was rejected because the training job is in status {job.status}.")
        job.stop()

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTrainingJobs, newest first, with NameContains, StatusEquals and paging."""
        jobs = [
            job
            for job in sorted(self._jobs.values(), key=lambda job: -job.created)
            if request.get("NameContains", "") in job.name and request.get("StatusEquals", job.status) == job.status
        ]
        begin, many = int(request.get("NextToken", 0)), request.get("MaxResults", 10)
        shown = [job.describe() for job in jobs[begin : begin + many]]
        names = ("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime")
        names += ("TrainingJobStatus", "SecondaryStatus")
        answer: dict[str, Any] = {
            "TrainingJobSummaries": [{name: job[name] for name in names if name in job} for job in shown]
        }
        if begin + many < len(jobs):
            answer["NextToken"] = str(begin + many)
        return answer

    def all(self) -> list[TrainingJob]:
        return list(self._jobs.values())


def _instances(request: dict[str, Any]) -> Counter[str]:
    """Instances of a request, by the name of the quota that they count in."""
    use = "spot training job usage" if request.get("EnableManagedSpotTraining") else "training job usage"
    resources, counts = request["ResourceConfig"], Counter[str]()
    for group in resources.get("InstanceGroups") or [resources]:
        counts[f"{group['InstanceType']} for {use}"] += group["InstanceCount"]
    return counts


def _vcpus(resources: dict[str, Any]) -> dict[str, int]:
    """vCPUs by host."""
    return {host.name: instance(host.instance_type).vcpu for host in hosts_of(resources, Path())}


def _dated(transition: dict[str, Any]) -> dict[str, Any]:
    return {name: date(value) if name.endswith("Time") else value for name, value in transition.items()}


def date(time_unix_s: float) -> datetime:
    return datetime.fromtimestamp(time_unix_s, timezone.utc)

"""The endpoint itself: moto's server on a port of this machine, with training jobs that run."""

from __future__ import annotations

import json
import socket
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult, EmptyResult
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.exceptions import S3AccessDeniedError
from moto.s3.responses import S3Response
from moto.sagemaker.exceptions import SagemakerClientError
from moto.sagemaker.responses import SageMakerResponse
from moto.servicequotas.responses import ServiceQuotasResponse
from werkzeug.serving import make_server

from facesim.testing.emulator.jobs import Containers, RequestError, Start, TrainingJob, TrainingJobs
from facesim.testing.emulator.storage import S3Store
from facesim.testing.emulator.tuning import TuningJobs

#: Points of a GetMetricData answer's page where the client does not say.
_MAX_POINTS = 100_800


class Emulator:
    """An endpoint that runs between `start` and `stop`.

    Args:
        interruptions_s: after how many seconds of training, over all attempts, every spot job loses its capacity.
        metrics_period_s: seconds between points of instance metrics; SageMaker has one a minute.
        image: runs in place of every job's image; left out, a job's image is looked for by its name without registry.
        hosts: this machine is divided among so many hosts, also while a job has fewer.
        quotas: how many instances there may be, by Service Quotas' name, `ml.m5.large for training job usage`.
        capacity: how many instances a job can have, by their type, `ml.m5.large`; of others there are enough.
        start: what executes a job's request; left out, containers.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        interruptions_s: tuple[float, ...] = (),
        metrics_period_s: float = 60.0,
        image: str | None = None,
        hosts: int = 2,
        quotas: Mapping[str, float] | None = None,
        capacity: Mapping[str, int] | None = None,
        start: Start | None = None,
    ):
        self._server = _Server(host, port, verbose=False)
        self.quotas, self.capacity = dict(quotas or {}), dict(capacity or {})
        self._options = {
            "interruptions_s": interruptions_s, "metrics_period_s": metrics_period_s, "quotas": self.quotas,
            "capacity": self.capacity,
        }  # fmt: skip
        self._image = image
        self._hosts = hosts
        self._start = start or self._in_containers
        self._jobs: dict[tuple[str, str], TrainingJobs] = {}
        self._tuning_jobs: dict[tuple[str, str], TuningJobs] = {}
        self._lock = threading.RLock()

    def start(self) -> str:
        """Begin to answer, with nothing there; returns the endpoint's URL.

        Raises:
            OSError: nobody can listen there.
        """
        moto_api_backend.reset()  # moto keeps what there is in this process
        _install(self)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        return self.url

    def stop(self) -> None:
        """End every job and stop answering."""
        for tuning_job in [job for jobs in self._tuning_jobs.values() for job in jobs.all()]:
            tuning_job.close()
        for jobs in self._jobs.values():
            for job in jobs.all():
                job.close()
        self._server.stop()

    def job(self, name: str) -> TrainingJob:
        """The training job called `name`, whatever its account and region."""
        return next(job for jobs in self._jobs.values() for job in jobs.all() if job.name == name)

    def training_jobs(self, account: str, region: str) -> TrainingJobs:
        with self._lock:
            if (account, region) not in self._jobs:
                self._jobs[account, region] = TrainingJobs(region, account, self._client, self._start, self._options)
            return self._jobs[account, region]

    def tuning_jobs(self, account: str, region: str) -> TuningJobs:
        with self._lock:
            if (account, region) not in self._tuning_jobs:
                self._tuning_jobs[account, region] = TuningJobs(region, account, self.training_jobs(account, region))
            return self._tuning_jobs[account, region]

    def _client(self, service: str, region: str) -> Any:
        return boto3.client(
            service,
            region,
            endpoint_url=self.url,
            aws_access_key_id="emulator",
            aws_secret_access_key="emulator",
            config=Config(s3={"addressing_style": "path"}),
        )

    def _in_containers(self, request: dict[str, Any], store: S3Store, directory: Path) -> Containers:
        from cluster.containers.engine import capacity
        from cluster.containers.job import ContainerJob
        from facesim.backends.emulation import emulate, hosts_of_request

        specification = request["AlgorithmSpecification"]
        image = self._image or _local_name(specification["TrainingImage"])
        local = {**request, "AlgorithmSpecification": {**specification, "TrainingImage": image}}
        hosts = hosts_of_request(request)
        largest = max(hosts, key=lambda kind: hosts[kind])
        # A job alone gets no more of this machine than a host of the cluster that it is to be compared with.
        hosts[largest] = max(hosts[largest], self._hosts)
        return ContainerJob(local, store, directory, shapes=emulate(hosts, *capacity()).shapes)


class _Server(ThreadedMotoServer):
    """Moto's server. Where it cannot listen, `start` says so, which moto's waits for; and it stops at once when it is
    asked to: moto's looks for that every half second only.
    """

    def start(self) -> None:
        application, place = DomainDispatcherApplication(create_backend_app), (self._ip_address, self._port)
        family = socket.AF_INET6 if ":" in self._ip_address else socket.AF_INET
        with socket.create_server(place, family=family) as listener:
            self._server = make_server(
                *place, application, True, request_handler=MotoRequestHandler, fd=listener.fileno()
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()


def _local_name(image: str) -> str:
    """`123456789012.dkr.ecr.us-east-1.amazonaws.com/facesim:1` -> `facesim:1`."""
    registry, _, name = image.partition("/")
    return name if "." in registry and name else image


def _install(emulator: Emulator) -> None:
    """Let moto's SageMaker hand training jobs to `emulator`."""

    def handled(operation: Any, jobs_of: Any = emulator.training_jobs) -> Any:
        def handle(self: SageMakerResponse) -> Any:
            jobs = jobs_of(self.current_account, self.region)
            try:
                answer = operation(jobs, json.loads(self.body))
            except RequestError as error:
                problem = SagemakerClientError(str(error))
                problem.code = error.code
                raise problem from None
            return EmptyResult() if answer is None else ActionResult(answer)

        return handle

    SageMakerResponse.create_training_job = handled(lambda jobs, request: {"TrainingJobArn": jobs.create(request)})
    SageMakerResponse.describe_training_job = handled(
        lambda jobs, request: jobs.get(request["TrainingJobName"]).describe()
    )
    SageMakerResponse.stop_training_job = handled(lambda jobs, request: jobs.stop(request["TrainingJobName"]))
    SageMakerResponse.list_training_jobs = handled(lambda jobs, request: jobs.list(request))
    of_tuner = {
        "create_hyper_parameter_tuning_job": lambda jobs, request: {"HyperParameterTuningJobArn": jobs.create(request)},
        "describe_hyper_parameter_tuning_job": lambda jobs, request: jobs.get(request).describe(),
        "stop_hyper_parameter_tuning_job": lambda jobs, request: jobs.stop(request),
        "list_training_jobs_for_hyper_parameter_tuning_job": lambda jobs, request: jobs.training_jobs(request),
    }
    for name, operation in of_tuner.items():
        setattr(SageMakerResponse, name, handled(operation, emulator.tuning_jobs))
    CloudWatchResponse.get_metric_data = _get_metric_data
    S3Response._bucket_response = _for_the_owner(_moto_bucket_response)
    S3Response._key_response = _for_the_owner(_moto_key_response)
    ServiceQuotasResponse.list_service_quotas = lambda self: _list_service_quotas(
        emulator.quotas, json.loads(self.body)
    )


#: Quotas of an answer's page.
_QUOTAS_PAGE = 20


def _list_service_quotas(quotas: Mapping[str, float], request: dict[str, Any]) -> str:
    begin = int(request.get("NextToken") or 0)
    shown = [
        {
            "ServiceCode": request["ServiceCode"], "QuotaName": name, "Value": value, "Adjustable": True,
            "QuotaCode": f"L-{zlib.crc32(name.encode()):08X}",
        }
        for name, value in quotas.items()
    ]  # fmt: skip
    more = {"NextToken": str(begin + _QUOTAS_PAGE)} if begin + _QUOTAS_PAGE < len(shown) else {}
    return json.dumps({"Quotas": shown[begin : begin + _QUOTAS_PAGE], **more})


_moto_bucket_response, _moto_key_response = S3Response._bucket_response, S3Response._key_response


def _for_the_owner(respond: Any) -> Any:
    """What moto answers, if the bucket belongs to the account that the client expects, as S3 has it."""

    def checked(self: S3Response, request: Any, full_url: str) -> Any:
        expected = request.headers.get("x-amz-expected-bucket-owner")
        bucket = self.backend.buckets.get(self.parse_bucket_name_from_url(request, full_url))
        if expected and bucket and bucket.account_id != expected:
            raise S3AccessDeniedError
        return respond(self, request, full_url)

    return checked


_moto_get_metric_data = CloudWatchResponse.get_metric_data


def _get_metric_data(self: CloudWatchResponse) -> ActionResult:
    """moto's answer in pages of MaxDatapoints, as AWS gives it."""
    request = self._get_params()
    begin = int(request.get("NextToken") or 0)
    end = begin + int(request.get("MaxDatapoints") or _MAX_POINTS)
    results, position = [], 0
    for result in _moto_get_metric_data(self).result["MetricDataResults"]:
        shown = slice(max(0, begin - position), max(0, end - position))
        results.append({**result, "timestamps": result["timestamps"][shown], "values": result["values"][shown]})
        position += len(result["values"])
    more = {"NextToken": str(end)} if end < position else {}
    return ActionResult({"MetricDataResults": results, **more})

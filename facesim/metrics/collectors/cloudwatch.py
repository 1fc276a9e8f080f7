"""What SageMaker measures of a training job, from CloudWatch, in the schema's terms.

Instance metrics come about once a minute, by host; CPUUtilization is 0-100 x vCPUs, GPU metrics 0-100 x GPUs, memory
and disk 0-100. Algorithm metrics are what the training printed (`facesim.metrics.announced`), as CloudWatch understood
it. Nothing measures the network here: that is left to the collectors in the containers.

Points come late, up to minutes, a short job may have none, and the newest may still change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from facesim.metrics.announced import ANNOUNCED
from facesim.metrics.schema import COUNTER, METRICS

NAMESPACE = "/aws/sagemaker/TrainingJobs"
PERIOD_S = 60

#: CloudWatch's name -> the schema's, and of what in a host it counts 100 for each.
_METRICS = {
    "CPUUtilization": ("cpu_percent", "vcpus"),
    "MemoryUtilization": ("memory_percent", None),
    "DiskUtilization": ("disk_percent", None),
    "GPUUtilization": ("gpu_percent", "gpus"),
    "GPUMemoryUtilization": ("gpu_memory_percent", "gpus"),
}

_QUERIES_A_CALL = 500
_POINTS_A_PAGE = 100_800


class Host(NamedTuple):
    """What an instance has, to normalise by."""

    vcpus: int
    gpus: int


class Point(NamedTuple):
    """A value of the schema: of a host, or with role `chief` of the training."""

    time_unix_s: float
    host: str
    role: str
    name: str
    value: float


class CloudWatch:
    """The metrics of one training job.

    Args:
        cloudwatch: a boto3 client.
        hosts: what each host has, by its name (`algo-1`).
        page: points that one answer may hold.
    """

    source = "cloudwatch"

    def __init__(self, cloudwatch: Any, job: str, hosts: Mapping[str, Host], page: int = _POINTS_A_PAGE):
        self._cloudwatch = cloudwatch
        self._page = page
        self._queries: list[dict[str, Any]] = []
        self._meaning: list[tuple[str, str, str, float]] = []  # by query: host, role, name, divisor
        for host, hardware in hosts.items():
            for known_as, (name, counted) in _METRICS.items():
                if count := 1 if counted is None else getattr(hardware, counted):
                    # The dimension has to be exact: with another, or none, CloudWatch finds nothing.
                    self._ask(known_as, {"Name": "Host", "Value": f"{job}/{host}"}, (host, "host", name, count))
        first = min(hosts, key=lambda host: int(host.rpartition("-")[2]))
        for name in ANNOUNCED:
            self._ask(name, {"Name": "TrainingJobName", "Value": job}, (first, "chief", name, 1))

    def _ask(self, metric: str, dimension: dict[str, str], meaning: tuple[str, str, str, float]) -> None:
        self._queries.append(
            {
                "Id": f"q{len(self._queries)}",
                "MetricStat": {
                    "Metric": {"Namespace": NAMESPACE, "MetricName": metric, "Dimensions": [dimension]},
                    "Period": PERIOD_S,
                    # Of a total that grows within the minute, what it came to.
                    "Stat": "Maximum" if METRICS[meaning[2]].kind == COUNTER else "Average",
                },
            }
        )
        self._meaning.append(meaning)

    def points(self, begin_unix_s: float, end_unix_s: float) -> Iterator[Point]:
        """Every point of the minutes from `begin_unix_s` to `end_unix_s`, normalised; what is missing is left out."""
        begin = begin_unix_s // PERIOD_S * PERIOD_S
        end = (end_unix_s // PERIOD_S + 1) * PERIOD_S
        for first in range(0, len(self._queries), _QUERIES_A_CALL):
            pages = self._cloudwatch.get_paginator("get_metric_data").paginate(
                MetricDataQueries=self._queries[first : first + _QUERIES_A_CALL],
                StartTime=datetime.fromtimestamp(begin, timezone.utc),
                EndTime=datetime.fromtimestamp(end, timezone.utc),
                ScanBy="TimestampAscending",
                PaginationConfig={"PageSize": self._page},
            )
            for page in pages:
                for result in page.get("MetricDataResults", []):
                    host, role, name, divisor = self._meaning[int(result["Id"][1:])]
                    for when, value in zip(result.get("Timestamps", []), result.get("Values", []), strict=True):
                        yield Point(when.timestamp(), host, role, name, value / divisor)

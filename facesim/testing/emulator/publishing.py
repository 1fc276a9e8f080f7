"""What a job's hosts print and use, published as SageMaker does: log streams, instance metrics, algorithm metrics.

CloudWatch has one value a minute, the mean of it. CPUUtilization counts 100 for each vCPU; memory and disk 0-100 %.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timezone
from typing import Any

from cluster import clock

#: Of metrics, and of the log group.
NAMESPACE = "/aws/sagemaker/TrainingJobs"


class Logs:
    """One stream a host and start of it: `JOB/algo-1-1700000000`."""

    def __init__(self, logs: Any, job: str):
        self._logs = logs
        self._job = job
        self._streams: dict[str, str] = {}
        self._waiting: dict[str, list[dict[str, Any]]] = defaultdict(list)
        try:
            logs.create_log_group(logGroupName=NAMESPACE)
        except logs.exceptions.ResourceAlreadyExistsException:
            pass

    def begin(self) -> None:
        """The hosts start, for the first time or again: what they print goes to streams of its own."""
        self.flush()
        self._streams.clear()

    def line(self, host: str, time_unix_s: float, text: str) -> None:
        if host not in self._streams:
            self._streams[host] = f"{self._job}/{host}-{round(time_unix_s * 1000)}"
            self._logs.create_log_stream(logGroupName=NAMESPACE, logStreamName=self._streams[host])
        # An event may not be empty.
        self._waiting[host].append({"timestamp": round(time_unix_s * 1000), "message": text or " "})

    def flush(self) -> None:
        """Publish what has been printed since the last time."""
        for host, events in self._waiting.items():
            for begin in range(0, len(events), 1000):
                self._logs.put_log_events(
                    logGroupName=NAMESPACE,
                    logStreamName=self._streams[host],
                    logEvents=events[begin : begin + 1000],
                )
        self._waiting.clear()


class Metrics:
    """Means over `period_s` of what hosts use, and every value in a log line."""

    #: CloudWatch's name of a metric, by that of the statistics of `cluster.containers.job`.
    _NAMES = {"cpu_percent": "CPUUtilization", "memory_percent": "MemoryUtilization", "disk_percent": "DiskUtilization"}

    def __init__(
        self, cloudwatch: Any, job: str, vcpus: dict[str, int], definitions: list[dict[str, str]], period_s: float
    ):
        self._cloudwatch = cloudwatch
        self._job = job
        self._vcpus = vcpus
        self._patterns = {one["Name"]: re.compile(one["Regex"]) for one in definitions}
        self._period_s = period_s
        self._since = clock.time_unix_s()
        self._seen: dict[tuple[str, str], list[float]] = defaultdict(list)
        #: The newest value of each algorithm metric, as DescribeTrainingJob tells them.
        self.final: dict[str, dict[str, Any]] = {}

    def used(self, host: str, statistics: dict[str, Any]) -> None:
        for name, known_as in self._NAMES.items():
            if name in statistics:
                factor = self._vcpus[host] if name == "cpu_percent" else 1
                self._seen[host, known_as].append(statistics[name] * factor)

    def line(self, time_unix_s: float, text: str) -> None:
        """Publish the values that a log line tells by the job's metric definitions."""
        when = datetime.fromtimestamp(time_unix_s, timezone.utc)
        for name, pattern in self._patterns.items():
            if match := pattern.search(text):
                self._put(name, "TrainingJobName", self._job, float(match[1]), when)
                self.final[name] = {"MetricName": name, "Value": float(match[1]), "Timestamp": when}

    def flush(self, at_once: bool = False) -> None:
        """Publish the means since the last time, if a period is over."""
        now = clock.time_unix_s()
        if now - self._since < self._period_s and not at_once:
            return
        when = datetime.fromtimestamp(now, timezone.utc)
        for (host, name), values in self._seen.items():
            self._put(name, "Host", f"{self._job}/{host}", sum(values) / len(values), when)
        self._seen.clear()
        self._since = now

    def _put(self, name: str, dimension: str, whose: str, value: float, when: datetime) -> None:
        self._cloudwatch.put_metric_data(
            Namespace=NAMESPACE,
            MetricData=[
                {
                    "MetricName": name,
                    "Dimensions": [{"Name": dimension, "Value": whose}],
                    "Timestamp": when,
                    "Value": value,
                    "Unit": "Percent" if dimension == "Host" else "None",
                }
            ],
        )

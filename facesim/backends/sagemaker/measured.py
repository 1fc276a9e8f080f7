"""CloudWatch's points of a training job as samples of its run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from facesim.backends.collect_results import RESOURCES
from facesim.backends.sagemaker.bill import groups_of
from facesim.billing.catalogue import instance
from facesim.metrics.collectors.cloudwatch import CloudWatch, Host, Point
from facesim.metrics.files import SampleTail, SampleWriter

if TYPE_CHECKING:
    from facesim.runs.directory import Run


def hosts_of(description: dict[str, Any], run: Run) -> dict[str, Host]:
    """What each host of the job has.

    Which host is in which group only the hosts know: where that matters it is empty until they are home.
    """
    groups = groups_of(description["ResourceConfig"])
    number = sum(count for _, count in groups)
    names = [f"algo-{index}" for index in range(1, number + 1)]
    if len({kind for kind, _ in groups}) == 1:
        return {name: _host(groups[0][0]) for name in names}
    for file in sorted((run.directory / "hosts").glob(f"*/{RESOURCES}")):
        instance_groups = json.loads(file.read_text(encoding="utf-8"))["instance_groups"]
        return {host: _host(group["instance_type"]) for group in instance_groups for host in group["hosts"]}
    return {}


def _host(instance_type: str) -> Host:
    kind = instance(instance_type)
    return Host(vcpus=kind.vcpu, gpus=kind.gpus if kind.cuda else 0)


class PointWriter:
    """Writes CloudWatch's points into the run's metrics, each once, whoever followed the run before."""

    def __init__(self, run: Run):
        self._run = run
        self._writers: dict[str, SampleWriter] = {}
        self._written = {
            (sample.host, sample.role, sample.name, sample.time_unix_s)
            for sample in SampleTail(run.metrics, "cloudwatch-*.jsonl").new()
        }
        #: When the newest point of each host's own metrics is from.
        self.newest: dict[str, float] = {}
        for host, role, _, time_unix_s in self._written:
            self._note(host, role, time_unix_s)

    def record(self, point: Point, hosts: dict[str, Host]) -> None:
        key = (point.host, point.role, point.name, point.time_unix_s)
        if key in self._written:
            return
        self._written.add(key)
        if point.host not in self._writers:
            self._writers[point.host] = SampleWriter(
                self._run.metrics / f"cloudwatch-{point.host}.jsonl",
                run_id=self._run.id,
                host=point.host,
                source=CloudWatch.source,
            )
        values = {point.name: point.value}
        if point.name == "cpu_percent":
            values["cpu_count"] = hosts[point.host].vcpus
        index = int(point.host.rpartition("-")[2]) - 1 if point.role == "host" else 0
        self._writers[point.host].write(point.time_unix_s, point.role, index, values)
        self._note(point.host, point.role, point.time_unix_s)

    def _note(self, host: str, role: str, time_unix_s: float) -> None:
        if role == "host":
            self.newest[host] = max(self.newest.get(host, 0.0), time_unix_s)

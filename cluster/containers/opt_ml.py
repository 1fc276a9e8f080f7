"""The hosts of a CreateTrainingJob request, and /opt/ml as each finds it: what `cluster.hosted.contract` reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.hosted.contract import by_number

#: The network interface of a host.
INTERFACE = "eth0"


@dataclass(frozen=True)
class Host:
    """One host of the request. `place` becomes its /opt/ml."""

    name: str
    instance_type: str
    group: str
    place: Path


def hosts_of(resources: dict[str, Any], directory: Path) -> list[Host]:
    """The hosts of a ResourceConfig, by number. Groups take turns: SageMaker does not number them in order."""
    if "InstanceGroups" in resources:
        waiting = [
            [(group["InstanceType"], group["InstanceGroupName"])] * group["InstanceCount"]
            for group in resources["InstanceGroups"]
        ]
        kinds: list[tuple[str, str]] = []
        while any(waiting):
            kinds.extend(group.pop() for group in waiting if group)
    else:
        kinds = [(resources["InstanceType"], "homogeneousCluster")] * resources["InstanceCount"]
    names = by_number([f"algo-{number}" for number in range(1, len(kinds) + 1)])
    return [Host(name, *kind, directory / name) for name, kind in zip(names, kinds)]


def lay_out(host: Host, hosts: Sequence[Host], request: dict[str, Any]) -> None:
    """Make what the host will see as /opt/ml, as it is when an instance starts, but for what is downloaded."""
    channels = {channel["ChannelName"]: channel for channel in request.get("InputDataConfig", [])}
    shutil.rmtree(host.place, ignore_errors=True)
    for folder in ("input/config", "model", "output/data", "checkpoints", *(f"input/data/{name}" for name in channels)):
        (host.place / folder).mkdir(parents=True)
    mode = request["AlgorithmSpecification"]["TrainingInputMode"]
    contents = {
        "resourceconfig": _resources(host, hosts),
        "hyperparameters": request.get("HyperParameters", {}),
        "inputdataconfig": {name: _input(channel, mode) for name, channel in channels.items()},
    }
    for name, content in contents.items():
        (host.place / "input" / "config" / f"{name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _resources(host: Host, hosts: Sequence[Host]) -> dict[str, Any]:
    groups: dict[str, list[Host]] = {}
    for each in hosts:
        groups.setdefault(each.group, []).append(each)
    return {
        "current_host": host.name,
        "current_instance_type": host.instance_type,
        "current_group_name": host.group,
        "hosts": sorted(each.name for each in hosts),
        "instance_groups": [
            {
                "instance_group_name": name,
                "instance_type": members[0].instance_type,
                "hosts": sorted(each.name for each in members),
            }
            for name, members in groups.items()
        ],
        "network_interface_name": INTERFACE,
    }


def _input(channel: dict[str, Any], mode: str) -> dict[str, Any]:
    return {
        "TrainingInputMode": channel.get("InputMode", mode),
        "S3DistributionType": channel["DataSource"]["S3DataSource"].get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }

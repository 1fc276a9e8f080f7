"""SageMaker's rules for a training job that its machine-readable description, which botocore has, does not hold.

They are from AWS' API reference of CreateTrainingJob (StoppingCondition, ResourceConfig, InstanceGroup, Tag, Channel)
and its developer guide ("SageMaker AI Managed Warm Pools", "Train Using a Heterogeneous Cluster"). What depends on
options that a user gives is said in their words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_DAY_S = 24 * 3600
_LONGEST_RUN_S = 28 * _DAY_S
#: Characters of names and values that end up in a container's files and environment.
_HYPERPARAMETERS, _HYPERPARAMETER_KEY, _HYPERPARAMETER = 100, 256, 2500
_VARIABLES, _VARIABLE_KEY, _VARIABLE = 100, 512, 512
_MOST_CHANNELS, _MOST_TAGS, _MOST_GROUPS = 20, 50, 5
_LARGEST_VOLUME_GB = 16_384
_SHORTEST_WARM_S = 60


def broken_rules(request: dict[str, Any]) -> list[str]:
    """Which of the rules a CreateTrainingJob request breaks, in words."""
    return [violation for rule in _RULES for violation in rule(request)]


def unlike_described(operation: str, request: dict[str, Any], placeholders: list[str]) -> list[str]:
    """What in a request of `operation` is not as AWS' own description of it, which comes with boto3, has it. Where that
    is not installed, `placeholders` are told that nothing was checked.
    """
    try:
        from facesim.backends.sagemaker.validation import problems
    except ImportError:
        placeholders.append(
            "the request is not checked against AWS' description of it: that needs more packages "
            "(pip install 'facesim-cluster[aws]')"
        )
        return []
    return problems(operation, request)


def _times(request: dict[str, Any]) -> Iterator[str]:
    condition = request.get("StoppingCondition", {})
    run_s, wait_s = condition.get("MaxRuntimeInSeconds", _DAY_S), condition.get("MaxWaitTimeInSeconds")
    spot = request.get("EnableManagedSpotTraining", False)
    if run_s > _LONGEST_RUN_S:
        yield f"--max-run {run_s} is more than {_LONGEST_RUN_S} s (28 days), as long as a training job may run"
    if spot and wait_s is None:
        yield "spot capacity needs a limit to waiting for it: give --max-wait"
    if not spot and wait_s is not None:
        yield "a limit to waiting, --max-wait, is for spot capacity: give --spot, too, or leave it out"
    if wait_s is not None and wait_s < run_s:
        yield f"--max-wait {wait_s} must be at least --max-run {run_s}: it counts running, too"


def _resources(request: dict[str, Any]) -> Iterator[str]:
    resources = request.get("ResourceConfig", {})
    groups = resources.get("InstanceGroups")
    warm_s = resources.get("KeepAlivePeriodInSeconds") or 0
    volume_gb = resources.get("VolumeSizeInGB", 1)
    if not 1 <= volume_gb <= _LARGEST_VOLUME_GB:
        yield f"a volume of {volume_gb} GB: it has 1 to {_LARGEST_VOLUME_GB:,} GB; use fewer images (--subset)"
    if warm_s and request.get("EnableManagedSpotTraining"):
        yield "instances of spot capacity are not kept (--keep-alive-s): leave out one of --spot and --keep-alive-s"
    if warm_s and groups:
        yield (
            "instances of several types are not kept (--keep-alive-s): leave out --keep-alive-s or --ps-instance-type"
        )
    if 0 < warm_s < _SHORTEST_WARM_S:
        yield f"--keep-alive-s {warm_s}: instances are kept for {_SHORTEST_WARM_S} s or more"
    if not groups:
        return
    if excluded := {"InstanceType", "InstanceCount"} & resources.keys():
        yield f"InstanceGroups does not go with {' and '.join(sorted(excluded))}"
    if len(groups) > _MOST_GROUPS:
        yield f"{len(groups)} instance groups: a training job has {_MOST_GROUPS} at the most"
    names = [group["InstanceGroupName"] for group in groups]
    yield from _twice(names, "instance group")
    for channel in request.get("InputDataConfig", []):
        meant = channel["DataSource"].get("S3DataSource", {}).get("InstanceGroupNames", [])
        for name in meant:
            if name not in names:
                yield f"the channel {channel['ChannelName']} is for the instance group {name!r}, which there is not"


def _texts(request: dict[str, Any]) -> Iterator[str]:
    values = request.get("HyperParameters", {})
    yield from _sizes(values, "hyperparameter", _HYPERPARAMETERS, _HYPERPARAMETER_KEY, _HYPERPARAMETER)
    variables = request.get("Environment", {})
    yield from _sizes(variables, "environment variable", _VARIABLES, _VARIABLE_KEY, _VARIABLE)


def _sizes(values: dict[str, str], what: str, most: int, longest_key: int, longest: int) -> Iterator[str]:
    if len(values) > most:
        yield f"{len(values)} {what}s: a training job has {most} at the most"
    for key, value in values.items():
        if len(key) > longest_key or len(value) > longest:
            yield (
                f"the {what} {key[:40]!r} has a name of {len(key)} characters and a value of {len(value)}: "
                f"{longest_key} and {longest} are allowed"
            )


def _names(request: dict[str, Any]) -> Iterator[str]:
    channels = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    if len(channels) > _MOST_CHANNELS:
        yield f"{len(channels)} channels: a training job has {_MOST_CHANNELS} at the most"
    yield from _twice(channels, "channel")
    tags = [tag["Key"] for tag in request.get("Tags", [])]
    if len(tags) > _MOST_TAGS:
        yield f"{len(tags)} tags: a training job has {_MOST_TAGS} at the most; give fewer --tags"
    yield from _twice(tags, "tag")
    for key in tags:
        if key.lower().startswith("aws:"):
            yield f"the tag {key!r}: AWS keeps what begins with aws: for itself; give it another name in --tags"


def _network(request: dict[str, Any]) -> Iterator[str]:
    sources = [channel["DataSource"] for channel in request.get("InputDataConfig", [])]
    if "VpcConfig" not in request and any("FileSystemDataSource" in source for source in sources):
        yield "a file system is reached in a network of one's own: give --subnets and --security-groups"


def _twice(names: Iterable[str], what: str) -> Iterator[str]:
    for name, count in Counter(names).items():
        if count > 1:
            yield f"the {what} {name!r} is there {count} times, and may be there once"


_RULES: tuple[Callable[[dict[str, Any]], Iterator[str]], ...] = (_times, _resources, _texts, _names, _network)

"""A training job's request as code that sends it without facesim: with boto3, AWS' command line, or SageMaker's SDK."""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from facesim.backends.sagemaker.storage import encryption
from facesim.backends.training_job import ENTRYPOINT, TrainingJob
from facesim.spec.backends import AWS_IMAGE
from facesim.util.errors import InputError

_PREPARED = "Its inputs are the folders that facesim prepared on this machine; they go up first."


def boto3_code(made: TrainingJob, region: str) -> str:
    """A Python program with boto3 alone: exactly the request."""
    given = encryption(made.kms_key)
    extra = f", ExtraArgs={given!r}" if given else ""
    return f'''"""Runs the training job {made.name}. {_PREPARED}"""

from pathlib import Path

import boto3

uploads = {_python({uri: str(folder) for uri, folder in made.uploads.items()})}
request = {_python(made.request)}

s3 = boto3.client("s3", region_name={region!r})
for uri, folder in uploads.items():
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        s3.upload_file(str(file), bucket, prefix + file.relative_to(folder).as_posix(){extra})
print(boto3.client("sagemaker", region_name={region!r}).create_training_job(**request)["TrainingJobArn"])
'''


def cli_code(made: TrainingJob, region: str) -> str:
    """A shell script with AWS' command line: exactly the request."""
    create = ["aws", "sagemaker", "create-training-job", "--region", region, "--cli-input-json"]
    lines = [
        "#!/bin/sh", f"# Runs the training job {made.name}. {_PREPARED}", "set -e", *_copies(made, region),
        f"{shlex.join(create)} {shlex.quote(json.dumps(made.request, indent=1))}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def modeltrainer_code(made: TrainingJob, region: str) -> str:
    """A Python program with SageMaker's SDK 3, whose ModelTrainer runs the image by its own entrypoint, with `train` as
    argument, and gives the job another name.

    Raises:
        InputError: the image has no facesim, which another entrypoint brings into it.
    """
    request = made.request
    if request["AlgorithmSpecification"]["ContainerEntrypoint"] != ENTRYPOINT:
        raise InputError(
            f"--format modeltrainer does not go with --image {AWS_IMAGE}: ModelTrainer runs an image by its own "
            "entrypoint, and that one is without facesim; give facesim's image, or --format boto3 or cli",
            field="image",
            value=AWS_IMAGE,
        )
    resources, output = request["ResourceConfig"], request["OutputDataConfig"]
    groups = [f"InstanceGroup({_arguments(group)})" for group in resources.get("InstanceGroups", [])]
    compute = {name: value for name, value in resources.items() if name != "InstanceGroups"}
    compute["EnableManagedSpotTraining"] = request["EnableManagedSpotTraining"]
    network = {
        **request.get("VpcConfig", {}),
        **{
            name: request[name]
            for name in ("EnableNetworkIsolation", "EnableInterContainerTrafficEncryption")
            if name in request
        },
    }
    channels = [
        f"InputData(channel_name={one['ChannelName']!r}, data_source={_source(one['DataSource'])})"
        for one in request["InputDataConfig"]
    ]
    metrics = [f"MetricDefinition({_arguments(one)})" for one in request["AlgorithmSpecification"]["MetricDefinitions"]]
    tags = [f"Tag(key={one['Key']!r}, value={one['Value']!r})" for one in request["Tags"]]
    options = {
        "sagemaker_session": f"Session(boto3.Session(region_name={region!r}))",
        "role": repr(request["RoleArn"]),
        "base_job_name": repr(made.name),
        "training_image": repr(request["AlgorithmSpecification"]["TrainingImage"]),
        "training_input_mode": repr(request["AlgorithmSpecification"]["TrainingInputMode"]),
        "hyperparameters": _python(request["HyperParameters"]),
        "environment": _python(request["Environment"]),
        "compute": f"Compute({_arguments(compute)}{', instance_groups=' + _list(groups) if groups else ''})",
        "stopping_condition": f"StoppingCondition({_arguments(request['StoppingCondition'])})",
        "output_data_config": f"OutputDataConfig({_arguments(output)})",
        "checkpoint_config": f"CheckpointConfig({_arguments(request['CheckpointConfig'])})",
        "tags": _list(tags),
        **({"networking": f"Networking({_arguments(network)})"} if network else {}),
    }
    given = "".join(f"    {name}={value},\n" for name, value in options.items())
    further = ""
    if "RetryStrategy" in request:
        further += f".with_retry_strategy(RetryStrategy({_arguments(request['RetryStrategy'])}))"
    if "TensorBoardOutputConfig" in request:
        shown = _arguments(request["TensorBoardOutputConfig"])
        further += f".with_tensorboard_output_config(TensorBoardOutputConfig({shown}))"
    copies = "".join(f"#   {copy}\n" for copy in _copies(made, region))
    return f'''"""Runs the training job {made.name} by SageMaker's SDK (pip install 'sagemaker>=3').

{_PREPARED}
"""

import boto3
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.training.configs import (
    CheckpointConfig, Compute, FileSystemDataSource, InputData, InstanceGroup, MetricDefinition, Networking,
    OutputDataConfig, RetryStrategy, StoppingCondition, Tag, TensorBoardOutputConfig,
)
from sagemaker.train import ModelTrainer

# First:
{copies}
trainer = ModelTrainer(
{given})
trainer = trainer.with_metric_definitions({_list(metrics)}){further}
trainer.train(input_data_config={_list(channels)}, wait=False)
'''


#: What makes code of a request and a region, by the format's name.
FORMATS: Mapping[str, Callable[[TrainingJob, str], str]] = {
    "boto3": boto3_code,
    "modeltrainer": modeltrainer_code,
    "cli": cli_code,
}


def _copies(made: TrainingJob, region: str) -> list[str]:
    """Commands of AWS' own that upload what a job reads, encrypted as facesim itself does."""
    key = ["--sse", "aws:kms", "--sse-kms-key-id", made.kms_key] if made.kms_key else []
    return [
        shlex.join(["aws", "s3", "cp", "--region", region, *key, "--recursive", str(folder), uri])
        for uri, folder in made.uploads.items()
    ]


def _source(given: Mapping[str, Any]) -> str:
    """A channel's data as the SDK takes it: the address in S3, or a file system."""
    if "S3DataSource" in given:
        return repr(given["S3DataSource"]["S3Uri"])
    return f"FileSystemDataSource({_arguments(given['FileSystemDataSource'])})"


def _python(value: Any) -> str:
    return pprint.pformat(value, indent=1, width=120, sort_dicts=False)


def _list(items: list[str]) -> str:
    return f"[{', '.join(items)}]"


def _arguments(fields: Mapping[str, Any]) -> str:
    """Fields as AWS calls them -> arguments as the SDK does: `VolumeSizeInGB=30` -> `volume_size_in_gb=30`."""
    from botocore import xform_name

    return ", ".join(f"{xform_name(name)}={value!r}" for name, value in fields.items())

"""`facesim export-job`: code that runs the same request without facesim."""

from __future__ import annotations

import ast
import json
import shlex

import pytest

from facesim.cli import main


@pytest.fixture
def exported(endpoint, faces, capsys):
    """What the command prints for a job that has most of what a request can have."""

    def export(form: str, *more: str) -> str:
        options = [
            "--strategy",
            "ps-async",
            "--ps-instance-type",
            "ml.c5.xlarge",
            "--image-size",
            "32",
            "--spot",
            "--tensorboard",
        ]
        options += [
            "--max-run",
            "600",
            "--tags",
            "team=faces",
            "--subnets",
            "subnet-0a1",
            "--security-groups",
            "sg-0a1",
        ]
        assert main(["export-job", "--data", str(faces), *options, *more, "--format", form]) == 0
        return capsys.readouterr().out

    return export


def test_code_for_boto3_uploads_and_sends_the_request(exported, endpoint, account):
    code = exported("boto3")
    space: dict = {}
    account.client("s3").create_bucket(Bucket="sagemaker-us-east-1-123456789012")

    exec(compile(code, "exported", "exec"), space)

    job = endpoint.job(space["request"]["TrainingJobName"])
    assert job.request == space["request"]
    assert job.ended.wait(30)
    assert job.status == "Completed"  # the hosts found their data


def test_code_for_the_command_line_has_the_same_request(exported):
    words = shlex.split(exported("cli"), comments=True)

    request = json.loads(words[words.index("--cli-input-json") + 1])
    assert request["ResourceConfig"]["InstanceGroups"][1]["InstanceType"] == "ml.c5.xlarge"
    assert request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] in words


def test_code_for_the_sdk_has_arguments_that_the_sdk_knows(exported):
    from sagemaker.core.training import configs

    tree = ast.parse(exported("modeltrainer"))

    made = {}
    for node in ast.walk(tree):
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if hasattr(configs, name):
            made[name] = eval(compile(ast.Expression(node), name, "eval"), vars(configs))
    assert made["Compute"].enable_managed_spot_training is True
    assert [group.instance_type for group in made["Compute"].instance_groups] == ["ml.m5.2xlarge", "ml.c5.xlarge"]
    assert made["StoppingCondition"].max_runtime_in_seconds == 600
    assert made["Networking"].subnets == ["subnet-0a1"]
    assert made["InputData"].channel_name == "data"
    assert made["RetryStrategy"].maximum_retry_attempts == 3
    assert made["TensorBoardOutputConfig"].local_path == "/opt/ml/output/tensorboard"


KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def test_code_for_boto3_encrypts_what_it_uploads_with_the_key(exported, endpoint, account):
    code, space = exported("boto3", "--kms-key", KEY), {}
    s3 = account.client("s3")
    s3.create_bucket(Bucket="sagemaker-us-east-1-123456789012")

    exec(compile(code, "exported", "exec"), space)

    bucket, _, prefix = next(iter(space["uploads"])).removeprefix("s3://").partition("/")
    sent = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]
    assert {s3.head_object(Bucket=bucket, Key=key).get("SSEKMSKeyId") for key in sent} == {KEY}
    assert endpoint.job(space["request"]["TrainingJobName"]).ended.wait(30)


@pytest.mark.parametrize("form", ["cli", "modeltrainer"])
def test_commands_that_upload_have_the_key(exported, form):
    commands = [line.lstrip("# ") for line in exported(form, "--kms-key", KEY).splitlines() if "aws s3 cp" in line]

    (words,) = map(shlex.split, commands)
    assert words[words.index("--sse") :][:4] == ["--sse", "aws:kms", "--sse-kms-key-id", KEY]
    assert words[words.index("--region") + 1] == "us-east-1"


def test_code_for_the_sdk_that_could_not_work_is_not_printed(endpoint, faces, capsys):
    words = ["export-job", "--data", str(faces), "--image-size", "32", "--image", "aws", "--format"]

    assert main([*words, "modeltrainer"]) == 2
    assert "--format modeltrainer does not go with --image aws" in capsys.readouterr().err
    assert main([*words, "boto3"]) == 0

"""The IAM policies: enough for the calls that are really made, and for nothing else."""

from __future__ import annotations

import json
import threading
from fnmatch import fnmatchcase

import pytest

from facesim.backends.sagemaker.attach import open_run
from facesim.backends.sagemaker.calls import cancel, newest
from facesim.backends.sagemaker.job import SageMakerJob
from facesim.backends.sagemaker.policies import POLICIES, policy
from facesim.backends.sagemaker.site import ROLE, site_of
from facesim.backends.training_job import training_job_request
from facesim.runs.directory import Run
from tests.aws.conftest import follow

ACCOUNT, REGION = "123456789012", "us-east-1"
BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
PLACES = {
    "PARTITION": "aws",
    "ACCOUNT": ACCOUNT,
    "REGION": REGION,
    "BUCKET": BUCKET,
    "PREFIX": "facesim",
    "ROLE": ROLE,
}

#: The IAM action of an operation of S3's, where it is not called so.
S3_ACTIONS = {"HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket", "HeadObject": "GetObject"}
#: Calls that need no permission.
FREE = {"sts:GetCallerIdentity"}
#: Permissions that no call of a run that goes well needs: only the upload of a large file that breaks off.
FOR_TROUBLE = {"s3:AbortMultipartUpload"}
#: Actions that AWS cannot restrict to a resource.
UNRESTRICTED = {"sagemaker:ListTrainingJobs", "cloudwatch:GetMetricData"}
UNRESTRICTED |= {"cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"}


def statements(name: str) -> list[tuple[set[str], list[str]]]:
    """(actions, resources) of each statement of a policy."""

    def many(value: str | list[str]) -> list[str]:
        return [value] if isinstance(value, str) else value

    found = json.loads(policy(name, PLACES))["Statement"]
    return [(set(many(one["Action"])), many(one.get("Resource", []))) for one in found]


def permissions(service: str, operation: str, given: dict) -> list[tuple[str, str]]:
    """(action, resource) of what IAM is asked for when an operation is called with these parameters."""
    here = f"{REGION}:{ACCOUNT}"
    if service == "s3":
        key = f"/{given['Key']}" if "Key" in given else ""
        return [(f"s3:{S3_ACTIONS.get(operation, operation)}", f"arn:aws:s3:::{given['Bucket']}{key}")]
    if service == "logs":
        group = f"arn:aws:logs:{here}:log-group:{given['logGroupName']}"
        stream = f":log-stream:{given['logStreamName']}" if "logStreamName" in given else ""
        return [(f"logs:{operation}", group + stream)]
    if service == "sagemaker" and "TrainingJobName" in given:
        job = f"arn:aws:sagemaker:{here}:training-job/{given['TrainingJobName']}"
        needed = [(f"sagemaker:{operation}", job)]
        if operation == "CreateTrainingJob":
            needed += [("sagemaker:AddTags", job), ("iam:PassRole", given["RoleArn"])]
        return needed
    return [(f"{'cloudwatch' if service == 'cloudwatch' else service}:{operation}", "*")]


@pytest.fixture
def needed(endpoint, account, job, inputs, tmp_path, script) -> set[tuple[str, str]]:
    """What IAM is asked for by everything that facesim does at AWS: recorded from the calls as boto3 makes them."""
    asked: set[tuple[str, str]] = set()

    def record(params, model, **_):
        asked.update(permissions(model.service_model.service_name, model.name, params))

    account.session.events.register("before-parameter-build", record)
    made = training_job_request(job, "facesim-one", inputs.folders, site_of(job.backend, account))
    run = Run.create(tmp_path / "one", job)
    follow(run, SageMakerJob(run, account, "facesim-one", made))

    def once_made(event: dict) -> None:
        if event["event"] == "state":  # before that there may be no job yet
            cancel(account, "facesim-two")

    script.until = threading.Event()
    made = training_job_request(job, "facesim-two", inputs.folders, site_of(job.backend, account))
    run = Run.create(tmp_path / "two", job)
    follow(run, SageMakerJob(run, account, "facesim-two", made), on=once_made)
    attached = open_run(account, "facesim-two", tmp_path / "attached")
    follow(attached, SageMakerJob(attached, account, "facesim-two"))
    newest(account)
    return {(action, resource) for action, resource in asked if action not in FREE}


def test_every_call_that_is_made_is_allowed_and_nothing_else_is(needed):
    allowed = statements("user")

    refused = [
        (action, resource)
        for action, resource in needed
        if not any(action in actions and any(fnmatchcase(resource, one) for one in at) for actions, at in allowed)
    ]
    unused = set().union(*(actions for actions, _ in allowed)) - {action for action, _ in needed} - FOR_TROUBLE

    assert not refused
    assert not unused


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_allows_everything_of_anything(name):
    for actions, resources in statements(name):
        assert not any("*" in action for action in actions)
        assert actions <= UNRESTRICTED or "*" not in resources


def test_sagemaker_alone_may_be_given_the_role():
    passing = [one for one in json.loads(policy("user", PLACES))["Statement"] if one["Action"] == "iam:PassRole"]

    assert [one["Condition"] for one in passing] == [
        {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    ]

"""A simulator of IAM policies, for what ours say: actions, resources with wildcards, and conditions on equality."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any


def _many(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def allows(policy: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
    """Whether a policy allows an action on a resource, called with a context of condition keys."""
    return any(
        any(fnmatchcase(action.lower(), one.lower()) for one in _many(statement["Action"]))
        and any(fnmatchcase(resource, one) for one in _many(statement["Resource"]))
        and _holds(statement.get("Condition", {}), context or {})
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
    )


def _holds(condition: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    known = {"StringEquals", "Bool", "ForAnyValue:StringEquals"}
    assert condition.keys() <= known, f"the simulator does not know {condition.keys() - known}"
    return all(context.get(key) in _many(wanted) for keys in condition.values() for key, wanted in keys.items())


#: IAM's action of an operation of S3's, where it is not called so (AWS, "Required permissions for Amazon S3 API
#: operations").
_S3_ACTIONS = {
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadObject": "GetObject",
    "DeleteObjects": "DeleteObject",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
}
#: IAM's name of a service, where it is not botocore's.
_SERVICES = {"service-quotas": "servicequotas"}

Needed = tuple[str, str, frozenset[tuple[str, str]]]


def permissions(service: str, operation: str, given: Mapping[str, Any], account: str, region: str) -> list[Needed]:
    """(action, resource, context) of everything that IAM is asked for when an operation is called with parameters."""
    here = f"{region}:{account}"
    nothing: frozenset[tuple[str, str]] = frozenset()
    action = f"{_SERVICES.get(service, service)}:{operation}"
    if service == "s3":
        keys = [given["Key"]] if "Key" in given else [one["Key"] for one in given.get("Delete", {}).get("Objects", [])]
        at = [f"arn:aws:s3:::{given['Bucket']}/{key}" for key in keys] or [f"arn:aws:s3:::{given['Bucket']}"]
        return [(f"s3:{_S3_ACTIONS.get(operation, operation)}", one, nothing) for one in at]
    if service == "logs":
        # As AccessDenied says it: what is asked of a group has an empty stream at its end.
        group = f"arn:aws:logs:{here}:log-group:{given['logGroupName']}"
        return [(action, f"{group}:log-stream:{given.get('logStreamName', '')}", nothing)]
    if service == "sagemaker":
        return _of_sagemaker(operation, given, here)
    if service == "iam":
        return [(action, f"arn:aws:iam::{account}:role/{given['RoleName']}", nothing)] + (
            [("iam:TagRole", f"arn:aws:iam::{account}:role/{given['RoleName']}", nothing)] if "Tags" in given else []
        )
    if service == "ecr" and ("repositoryName" in given or "repositoryNames" in given):
        name = given.get("repositoryName") or given["repositoryNames"][0]
        repository = f"arn:aws:ecr:{here}:repository/{name}"
        return [(action, repository, nothing)] + ([("ecr:TagResource", repository, nothing)] if "tags" in given else [])
    return [(action, "*", nothing)]


def _of_sagemaker(operation: str, given: Mapping[str, Any], here: str) -> list[Needed]:
    nothing: frozenset[tuple[str, str]] = frozenset()
    if "TrainingJobName" in given:
        place = f"training-job/{given['TrainingJobName']}"
    elif "HyperParameterTuningJobName" in given:
        place = f"hyper-parameter-tuning-job/{given['HyperParameterTuningJobName']}"
    elif operation == "CreateModelPackage":
        place = f"model-package/{given['ModelPackageGroupName']}/1"
    elif "ModelPackageGroupName" in given:
        place = f"model-package-group/{given['ModelPackageGroupName']}"
    else:
        return [(f"sagemaker:{operation}", "*", nothing)]
    arn = f"arn:aws:sagemaker:{here}:{place}"
    needed = [(f"sagemaker:{operation}", arn, nothing)]
    if "Tags" in given:
        needed.append(("sagemaker:AddTags", arn, nothing))
    if operation in ("CreateTrainingJob", "CreateHyperParameterTuningJob"):
        passing = frozenset({("iam:PassedToService", "sagemaker.amazonaws.com")})
        needed.append(("iam:PassRole", given.get("TrainingJobDefinition", given)["RoleArn"], passing))
    return needed

"""What training jobs need in an account: a role, a bucket, a repository for the image. Looked at, shown, then made.

`missing` finds what is not there, or not as it should be, and how to make it so; once that is done it finds nothing.
`template` is the same for CloudFormation, for an admin who may make such things, and needs no account.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from string import digits
from typing import TYPE_CHECKING, Any, NamedTuple

from facesim.backends.sagemaker.policies import policy
from facesim.backends.sagemaker.session import asking
from facesim.backends.sagemaker.storage import create_bucket, has_bucket
from facesim.backends.training_job import checkpoints_prefix

if TYPE_CHECKING:
    from facesim.backends.sagemaker.session import Account

#: The repository of facesim's own image, which the policies name as well.
REPOSITORY = "facesim"

#: The role's own policy, and what marks everything that is made here.
POLICY = "facesim"
TAGS = [{"Key": "facesim", "Value": "setup"}]

#: Days after which a checkpoint of a run that nobody went on with, and an upload that broke off, are removed.
_CHECKPOINT_DAYS, _UPLOAD_DAYS = 30, 7

_ALL_BLOCKED = {
    "BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True, "RestrictPublicBuckets": True,
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What there should be. `vpc`: jobs run in subnets of one's own."""

    role: str
    bucket: str
    prefix: str
    kms_key: str | None = None
    vpc: bool = False

    def policy(self, name: str, places: Mapping[str, str]) -> dict[str, Any]:
        named = {**places, "BUCKET": self.bucket, "PREFIX": self.prefix, "ROLE": self.role}
        return json.loads(policy(name, named, kms_key=self.kms_key, vpc=self.vpc))

    @property
    def encryption(self) -> dict[str, str]:
        """As S3 takes it for a bucket."""
        kms = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": self.kms_key} if self.kms_key else None
        return kms or {"SSEAlgorithm": "AES256"}


class Step(NamedTuple):
    """Something that is missing, in words, and how to make it."""

    what: str
    make: Callable[[], Any]


def missing(account: Account, wanted: Wanted) -> list[Step]:
    """What has to be made, or changed, in order.

    Raises:
        InputError: one may not look, or the bucket is somebody else's.
        AwsError: AWS cannot be asked.
    """
    steps: list[Step] = []
    for look in (_role, _bucket, _repository):
        with asking(f"look at the {look.__name__[1:]}"):
            steps += look(account, wanted)
    return steps


def _role(account: Account, wanted: Wanted) -> Iterator[Step]:
    iam, name = account.client("iam"), wanted.role
    places = {"PARTITION": account.partition, "ACCOUNT": account.id, "REGION": account.region}
    trust, allowed = wanted.policy("trust", places), wanted.policy("role", places)
    role = _answer(lambda: iam.get_role(RoleName=name)["Role"])
    if role is None:

        def create() -> None:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), Tags=TAGS)
            iam.get_waiter("role_exists").wait(RoleName=name)

        yield Step(f"make the role {name}, which SageMaker may take for this account", create)
    elif role["AssumeRolePolicyDocument"] != trust:
        yield Step(
            f"let SageMaker, and nobody else, take the role {name}",
            lambda: iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust)),
        )
    current = role and _answer(lambda: iam.get_role_policy(RoleName=name, PolicyName=POLICY)["PolicyDocument"])
    joined = _joined(_statements(current), allowed["Statement"])
    if joined != _statements(current):
        document = json.dumps({**allowed, "Statement": joined})
        yield Step(
            f"allow the role {name} what training jobs need (`facesim policy role` prints it)",
            lambda: iam.put_role_policy(RoleName=name, PolicyName=POLICY, PolicyDocument=document),
        )


#: The parts of a statement that list what it allows; its other parts say on what terms.
_LISTS = ("Action", "Resource")


def _joined(current: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Statements that allow what the `wanted` ones do beside what is allowed already: the same role may serve other
    regions, buckets, prefixes, keys and networks. Those that differ in what they list alone become one.
    """
    joined = [*current]
    for statement in wanted:
        alike = [one for one in joined if _terms(one) == _terms(statement)]
        if any(not _with_more(one, statement) for one in alike):
            continue
        same = [one for one in alike if one.get("Sid", "").rstrip(digits) == statement["Sid"]]
        if same:
            joined[joined.index(same[0])] = {**same[0], **_with_more(same[0], statement)}
        else:
            joined.append({**statement, "Sid": _free_sid(statement["Sid"], joined)})
    return joined


def _statements(document: Any) -> list[dict[str, Any]]:
    """The statements of a policy as AWS answers it; none where it has no such policy."""
    statements = document.get("Statement", []) if isinstance(document, dict) else []
    return [statements] if isinstance(statements, dict) else statements


def _terms(statement: dict[str, Any]) -> dict[str, Any]:
    return {part: value for part, value in statement.items() if part not in ("Sid", *_LISTS)}


def _with_more(one: dict[str, Any], other: dict[str, Any]) -> dict[str, list[str]]:
    """The lists of a statement that lack something of those of another, with that."""
    lists = {part: (_listed(one, part), _listed(other, part)) for part in _LISTS}
    return {part: list(dict.fromkeys([*has, *due])) for part, (has, due) in lists.items() if not set(due) <= set(has)}


def _listed(statement: dict[str, Any], part: str) -> list[str]:
    listed = statement.get(part, [])
    return [listed] if isinstance(listed, str) else listed


def _free_sid(sid: str, statements: list[dict[str, Any]]) -> str:
    """The name of a statement, with a number where another of a policy has it: each has its own there."""
    taken = {statement.get("Sid") for statement in statements}
    numbered = (f"{sid}{number}" for number in count(2))
    return next(name for name in chain([sid], numbered) if name not in taken)


def _bucket(account: Account, wanted: Wanted) -> Iterator[Step]:
    s3, bucket = account.client("s3"), wanted.bucket
    exists = has_bucket(s3, bucket, account.id)
    if not exists:
        yield Step(f"make the bucket {bucket}", lambda: create_bucket(s3, bucket, account.region))
    rules = exists and _answer(lambda: s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"])
    encrypted = [rule.get("ApplyServerSideEncryptionByDefault") for rule in rules["Rules"]] if rules else []
    if wanted.encryption not in encrypted if wanted.kms_key else not encrypted:
        encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": wanted.encryption}]}
        yield Step(
            f"encrypt what is in {bucket}, {'with ' + wanted.kms_key if wanted.kms_key else 'with keys of S3'}",
            lambda: s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=encryption),
        )
    blocked = exists and _answer(lambda: s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"])
    if blocked != _ALL_BLOCKED:
        yield Step(
            f"block public access to {bucket}",
            lambda: s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=_ALL_BLOCKED),
        )
    current = exists and _answer(lambda: s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
    current_rules = current or []
    due_rules = _lifecycle(wanted.prefix)
    due_ids = {rule["ID"] for rule in due_rules}
    others = [rule for rule in current_rules if rule.get("ID") not in due_ids]
    if not all(rule in current_rules for rule in due_rules):
        lifecycle = {"Rules": [*others, *due_rules]}
        yield Step(
            f"remove checkpoints from {bucket} after {_CHECKPOINT_DAYS} days, and uploads that broke off after "
            f"{_UPLOAD_DAYS}",
            lambda: s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=lifecycle),
        )


def _lifecycle(prefix: str) -> list[dict[str, Any]]:
    """Rules as S3 answers them."""
    return [
        {
            "ID": f"facesim-checkpoints-of-{prefix}"[:255],
            "Status": "Enabled",
            "Filter": {"Prefix": checkpoints_prefix(prefix)},
            "Expiration": {"Days": _CHECKPOINT_DAYS},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},  # in a bucket that keeps what is removed
        },
        {
            "ID": f"facesim-uploads-to-{prefix}"[:255],
            "Status": "Enabled",
            "Filter": {"Prefix": f"{prefix}/"},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UPLOAD_DAYS},
        },
    ]


def _repository(account: Account, wanted: Wanted) -> Iterator[Step]:
    ecr = account.client("ecr")
    if _answer(lambda: ecr.describe_repositories(repositoryNames=[REPOSITORY])["repositories"]) is None:
        yield Step(
            f"make the repository {REPOSITORY} for the image",
            lambda: ecr.create_repository(
                repositoryName=REPOSITORY, imageScanningConfiguration={"scanOnPush": True}, tags=TAGS
            ),
        )


_NOT_THERE = {
    "NoSuchEntity", "RepositoryNotFoundException", "ServerSideEncryptionConfigurationNotFoundError",
    "NoSuchPublicAccessBlockConfiguration", "NoSuchLifecycleConfiguration",
}  # fmt: skip


def _answer(ask: Callable[[], Any]) -> Any:
    """What AWS answers; None where there is no such thing."""
    from botocore.exceptions import ClientError

    try:
        return ask()
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_THERE:
            return None
        raise


#: What CloudFormation puts in place of an account's names.
PLACES = {"PARTITION": "${AWS::Partition}", "ACCOUNT": "${AWS::AccountId}", "REGION": "${AWS::Region}"}
BUCKET = "sagemaker-{REGION}-{ACCOUNT}".format(**PLACES)


def template(wanted: Wanted) -> dict[str, Any]:
    """A CloudFormation template of all of it. `wanted` may have `PLACES` in it."""
    tags = {"Tags": TAGS}
    policies = [{"PolicyName": POLICY, "PolicyDocument": wanted.policy("role", PLACES)}]
    rules = [
        {
            "Id": rule["ID"], "Status": rule["Status"], "Prefix": rule["Filter"]["Prefix"],
            **({"ExpirationInDays": rule["Expiration"]["Days"]} if "Expiration" in rule else {}),
            **{
                name: rule[name]
                for name in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
                if name in rule
            },
        }
        for rule in _lifecycle(wanted.prefix)
    ]  # fmt: skip
    encryption = {"ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": wanted.encryption}]}
    return _substituting(
        {
            "AWSTemplateFormatVersion": "2010-09-09",
            "Description": "What facesim's training jobs need: role, bucket, repository for the image",
            "Resources": {
                "Role": {
                    "Type": "AWS::IAM::Role",
                    "Properties": {
                        "RoleName": wanted.role,
                        "AssumeRolePolicyDocument": wanted.policy("trust", PLACES),
                        "Policies": policies,
                        **tags,
                    },
                },
                "Bucket": {
                    "Type": "AWS::S3::Bucket",
                    "DeletionPolicy": "Retain",
                    "UpdateReplacePolicy": "Retain",
                    "Properties": {
                        "BucketName": wanted.bucket,
                        "BucketEncryption": encryption,
                        "PublicAccessBlockConfiguration": _ALL_BLOCKED,
                        "LifecycleConfiguration": {"Rules": rules},
                        **tags,
                    },
                },
                "Repository": {
                    "Type": "AWS::ECR::Repository",
                    "DeletionPolicy": "Retain",
                    "UpdateReplacePolicy": "Retain",
                    "Properties": {
                        "RepositoryName": REPOSITORY,
                        "ImageScanningConfiguration": {"ScanOnPush": True},
                        **tags,
                    },
                },
            },
        }
    )


def _substituting(content: Any) -> Any:
    """The same with `Fn::Sub` around every text that has one of `PLACES`."""
    if isinstance(content, dict):
        return {key: _substituting(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_substituting(value) for value in content]
    return {"Fn::Sub": content} if isinstance(content, str) and "${AWS::" in content else content

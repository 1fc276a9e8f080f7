"""The IAM policies: enough for every call that is made, by whoever it is made, and for nothing else."""

from __future__ import annotations

import ast
import json
import threading
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

import facesim.backends.sagemaker as package
from facesim.backends.sagemaker import tuning
from facesim.backends.sagemaker.attach import open_run
from facesim.backends.sagemaker.calls import cancel, newest
from facesim.backends.sagemaker.doctor import examine
from facesim.backends.sagemaker.job import SageMakerJob
from facesim.backends.sagemaker.model_registry import register
from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.policies import POLICIES, policy
from facesim.backends.sagemaker.session import Account
from facesim.backends.sagemaker.setup import Wanted, missing
from facesim.backends.sagemaker.site import ROLE, site_of
from facesim.backends.training_job import training_job_request
from facesim.runs.directory import Run
from facesim.runs.states import Measurement, RunState
from facesim.study.result import finish
from tests.aws.iam import Needed, allows, permissions
from tests.support.executions import follow

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
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"

#: Calls that need no permission.
FREE = {"sts:GetCallerIdentity"}
#: Permissions that no call of a run that goes well needs: only the upload of a large file that breaks off.
FOR_TROUBLE = {"s3:AbortMultipartUpload"}
#: Actions that AWS cannot restrict to a resource (AWS, Service Authorization Reference).
UNRESTRICTED = {
    "sagemaker:ListTrainingJobs", "sagemaker:ListModelPackageGroups",
    "cloudwatch:GetMetricData", "cloudwatch:PutMetricData", "ecr:GetAuthorizationToken",
    "servicequotas:ListServiceQuotas", "ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface", "ec2:DeleteNetworkInterfacePermission", "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs",
}  # fmt: skip
#: Made by the docker engine with the registry's token, which stands for these actions.
PUSHING = {
    f"ecr:{name}"
    for name in ("BatchCheckLayerAvailability", "BatchGetImage", "CompleteLayerUpload", "InitiateLayerUpload",
                 "PutImage", "UploadLayerPart")
}  # fmt: skip


def written(name: str, **options) -> dict:
    return json.loads(policy(name, PLACES, **options))


def actions_of(content: dict) -> set[str]:
    listed = [one["Action"] for one in content["Statement"]]
    return {action for one in listed for action in ([one] if isinstance(one, str) else one)}


class Calls:
    """Every call that is made through an account's session: what IAM is asked for, and the operations themselves."""

    def __init__(self, account):
        self.needed: set[Needed] = set()
        self.operations: set[str] = set()
        account.session.events.register("before-parameter-build", self._record)

    def _record(self, params, model, **_):
        service = model.service_model.service_name
        self.operations.add(model.name)
        for one in permissions(service, model.name, params, ACCOUNT, REGION):
            if one[0] not in FREE:
                self.needed.add(one)

    def refused_by(self, content: dict) -> set[Needed]:
        return {one for one in self.needed if not allows(content, one[0], one[1], dict(one[2]))}


@pytest.fixture
def setup_calls(endpoint) -> Calls:
    """All that `facesim aws setup` does, where there is nothing and where there is all of it."""
    account = Account()
    calls = Calls(account)
    wanted = Wanted(ROLE, BUCKET, "facesim")
    for step in missing(account, wanted):
        step.make()
    other = policy("trust", PLACES).replace("sagemaker.amazonaws.com", "ec2.amazonaws.com")
    account.client("iam").update_assume_role_policy(RoleName=ROLE, PolicyDocument=other)
    for step in missing(account, wanted):
        step.make()
    assert missing(account, wanted) == []
    return calls


@pytest.fixture
def user_calls(endpoint, account, job, inputs, tmp_path, script) -> Calls:
    """All that a user of facesim does at AWS: runs, cancels, attaches, lists, looks whether all is well."""
    calls = Calls(account)
    site = site_of(job.backend, Names("us-east-1"))
    made = training_job_request(job, "facesim-one", inputs.folders, site)
    run = Run.create(tmp_path / "one", job)
    follow(run, SageMakerJob(run, account, "facesim-one", made))

    def once_made(event: dict) -> None:
        if event["event"] == "state":  # before that there may be no job yet
            cancel(account, "facesim-two")

    script.until = threading.Event()
    made = training_job_request(job, "facesim-two", inputs.folders, site)
    run = Run.create(tmp_path / "two", job)
    follow(run, SageMakerJob(run, account, "facesim-two", made), on=once_made)
    attached = open_run(account, "facesim-two", tmp_path / "attached")
    follow(attached, SageMakerJob(attached, account, "facesim-two"))
    newest(account)
    for _ in range(2):  # the second time there is the group
        (tmp_path / "model").mkdir(exist_ok=True)
        register(leave_result(Run.open(tmp_path / "one")), tmp_path / "model", "faces", account)
    list(examine(job, account))
    name = tuning.new_name()
    made = training_job_request(job, name, inputs.folders, site)
    limits = {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1}
    ranges = {"CategoricalParameterRanges": [{"Name": "batch", "Values": ["8", "16"]}]}
    config = {"Strategy": "Random", "ResourceLimits": limits, "ParameterRanges": ranges}
    tuning.create(account, tuning.tuning_job(made, name, config))
    tuning.training_jobs(account, name)
    tuning.cancel(account, name)
    return calls


def leave_result(run: Run) -> Run:
    """The run, ended, as a study ends it."""
    finish(run, RunState.COMPLETED, None, Measurement.EMULATED, 1.0)
    return run


def calls_in_the_code() -> set[str]:
    """Operations of AWS that the code names: methods that are called by keyword, paginators, waiters apart."""
    session = botocore.session.get_session()
    known = {
        xform_name(operation): operation
        for service in ("sagemaker", "s3", "logs", "cloudwatch", "sts", "iam", "ecr", "service-quotas")
        for operation in session.get_service_model(service).operation_names
    }
    called = set()
    for file in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                words = [one.value for one in node.args if isinstance(one, ast.Constant)]
                called |= {known[word] for word in (words if node.args else [node.func.attr]) if word in known}
    return called


def test_a_registered_model_says_how_well_it_recognises_and_waits_for_approval(user_calls, account):
    client = account.client("sagemaker")
    versions = client.list_model_packages(ModelPackageGroupName="faces")["ModelPackageSummaryList"]

    version = client.describe_model_package(ModelPackageName=versions[0]["ModelPackageArn"])

    assert [one["ModelPackageVersion"] for one in versions] in ([1, 2], [2, 1])
    assert version["ModelApprovalStatus"] == "PendingManualApproval"
    assert version["CustomerMetadataProperties"]["held_out_accuracy"] == "0.75"
    (container,) = version["InferenceSpecification"]["Containers"]
    assert "tensorflow-inference:2.20" in container["Image"]
    bucket, _, key = container["ModelDataUrl"].removeprefix("s3://").partition("/")
    assert account.client("s3").head_object(Bucket=bucket, Key=key)["ContentLength"] > 0


@pytest.mark.slow
def test_every_call_that_a_user_makes_is_allowed_and_nothing_else_is(user_calls, setup_calls):
    user = written("user")

    assert user_calls.refused_by(user) == set()
    assert actions_of(user) - {action for action, *_ in user_calls.needed} == FOR_TROUBLE
    # And none is left out of this walk, but for that of `image push`, which has a test of its own.
    assert calls_in_the_code() - user_calls.operations - setup_calls.operations == {"GetAuthorizationToken"}


def test_every_call_of_the_setup_is_allowed_and_nothing_else_is(setup_calls):
    setup = written("setup")

    assert setup_calls.refused_by(setup) == set()
    assert actions_of(setup) - {action for action, *_ in setup_calls.needed} == PUSHING | {"ecr:GetAuthorizationToken"}


#: What SageMaker does in the name of the role (AWS, "SageMaker AI Roles", CreateTrainingJob), on which resource.
_HERE = f"{REGION}:{ACCOUNT}"
BY_THE_ROLE = [
    ("s3:ListBucket", f"arn:aws:s3:::{BUCKET}"),
    ("s3:GetObject", f"arn:aws:s3:::{BUCKET}/facesim/data/1/images.u8"),
    ("s3:PutObject", f"arn:aws:s3:::{BUCKET}/facesim/checkpoints/facesim-a/1"),
    ("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/facesim/checkpoints/facesim-a/1"),
    ("ecr:GetAuthorizationToken", "*"),
    ("ecr:BatchGetImage", f"arn:aws:ecr:{_HERE}:repository/facesim"),
    ("ecr:BatchGetImage", f"arn:aws:ecr:{REGION}:763104351884:repository/tensorflow-training"),
    ("ecr:GetDownloadUrlForLayer", f"arn:aws:ecr:{REGION}:763104351884:repository/tensorflow-training"),
    ("logs:CreateLogGroup", f"arn:aws:logs:{_HERE}:log-group:/aws/sagemaker/TrainingJobs:log-stream:"),
    ("logs:DescribeLogStreams", f"arn:aws:logs:{_HERE}:log-group:/aws/sagemaker/TrainingJobs:log-stream:"),
    ("logs:CreateLogStream", f"arn:aws:logs:{_HERE}:log-group:/aws/sagemaker/TrainingJobs:log-stream:facesim-a/algo-1"),
    ("logs:PutLogEvents", f"arn:aws:logs:{_HERE}:log-group:/aws/sagemaker/TrainingJobs:log-stream:facesim-a/algo-1"),
]


@pytest.mark.parametrize(("action", "resource"), BY_THE_ROLE)
def test_the_role_may_do_what_sagemaker_does_in_its_name(action, resource):
    assert allows(written("role"), action, resource)


def test_metrics_are_written_to_sagemakers_namespace_only():
    role = written("role")

    assert allows(role, "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "/aws/sagemaker/TrainingJobs"})
    assert not allows(role, "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": "mine"})


def test_a_network_of_ones_own_lets_the_role_make_interfaces():
    assert not allows(written("role"), "ec2:CreateNetworkInterface", "*")
    for action in UNRESTRICTED:
        assert not action.startswith("ec2:") or allows(written("role", vpc=True), action, "*")


@pytest.mark.parametrize("key", [KEY, KEY.rpartition("/")[2]])
@pytest.mark.parametrize("name", ["user", "role"])
def test_a_key_of_ones_own_may_be_used(name, key):
    content = written(name, kms_key=key)

    for action in ("kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"):
        assert allows(content, action, KEY)
        assert not allows(written(name), action, KEY)
        assert not allows(content, action, f"{KEY[:-1]}c")
    assert allows(content, "kms:CreateGrant", KEY, {"kms:GrantIsForAWSResource": "true"})
    assert not allows(content, "kms:CreateGrant", KEY)


def test_a_key_that_is_given_by_its_alias_is_allowed_by_that():
    content = written("role", kms_key="alias/faces")

    assert allows(content, "kms:Decrypt", KEY, {"kms:ResourceAliases": "alias/faces"})
    assert not allows(content, "kms:Decrypt", KEY, {"kms:ResourceAliases": "alias/other"})


def test_what_aws_requires_of_a_log_group_is_a_resource_with_a_star_at_its_end():
    (groups,) = [one for one in written("user")["Statement"] if one["Action"] == "logs:DescribeLogStreams"]

    assert groups["Resource"] == f"arn:aws:logs:{_HERE}:log-group:/aws/sagemaker/TrainingJobs:*"


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_allows_everything_of_anything(name):
    content = written(name, vpc=True, kms_key="alias/faces")

    assert not any("*" in action for action in actions_of(content))
    for statement in content["Statement"]:
        if statement.get("Resource") == "*":
            assert actions_of({"Statement": [statement]}) <= UNRESTRICTED
        assert "Only" not in statement


def test_sagemaker_alone_may_be_given_the_role():
    role = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"

    assert allows(written("user"), "iam:PassRole", role, {"iam:PassedToService": "sagemaker.amazonaws.com"})
    assert not allows(written("user"), "iam:PassRole", role, {"iam:PassedToService": "ec2.amazonaws.com"})

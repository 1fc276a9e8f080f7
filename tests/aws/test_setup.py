"""The first job in three commands: what `aws setup` makes, what `doctor` finds, what `image push` brings there."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import tarfile

import pytest
from moto.ecr.responses import ECRResponse
from moto.servicequotas.responses import ServiceQuotasResponse

from facesim.backends.sagemaker.setup import Wanted, missing
from facesim.cli import main
from tests.aws.registry import registry

BUCKET = "sagemaker-us-east-1-123456789012"
DOCTOR = ("doctor", "--backend", "sagemaker", "--json")


def doctor_checks(capsys) -> dict[str, list[dict]]:
    """What doctor found at AWS, by the name of the check."""
    checks: dict[str, list[dict]] = {}
    for one in json.loads(capsys.readouterr().out):
        checks.setdefault(one["name"], []).append(one)
    return checks


@pytest.fixture
def quick(monkeypatch):
    """Doctor without its checks of this machine, which others test."""
    for name in ("_python", "_machine", "_tensorflow", "_kernels", "_network", "_containers", "_disk"):
        monkeypatch.setattr(f"facesim.cli.doctor.{name}", lambda: iter(()))


def test_setup_shows_what_is_missing_makes_it_and_is_content_the_next_time(endpoint, account, capsys):
    assert main(["aws", "setup"]) == 2
    shown = capsys.readouterr()
    assert "nothing was changed; give --yes" in shown.err
    for part in ("the role facesim-training", f"the bucket {BUCKET}", "block public access", "repository facesim"):
        assert part in shown.out
    assert account.client("s3").list_buckets()["Buckets"] == []

    assert main(["aws", "setup", "--yes"]) == 0
    capsys.readouterr()

    assert main(["aws", "setup"]) == 0
    assert "are there, as they should be" in capsys.readouterr().out
    s3 = account.client("s3")
    assert s3.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]["BlockPublicPolicy"]
    rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert [rule["Filter"]["Prefix"] for rule in rules] == ["facesim/checkpoints/", "facesim/"]


def allowed(account) -> dict[str, dict[str, list[str]]]:
    """What training jobs may do: by the statement's name, its lists."""
    policy = account.client("iam").get_role_policy(RoleName="facesim-training", PolicyName="facesim")
    return {
        statement["Sid"]: {
            part: [statement[part]] if isinstance(statement[part], str) else statement[part]
            for part in ("Action", "Resource")
        }
        for statement in policy["PolicyDocument"]["Statement"]
    }


def test_setup_of_another_region_bucket_prefix_network_or_key_takes_nothing_from_the_first(endpoint, account, capsys):
    first = ("--vpc", "--kms-key", "alias/faces")
    assert main(["aws", "setup", "--yes", *first]) == 0
    before = allowed(account)

    assert main(["aws", "setup", "--yes", "--region", "eu-west-1", "--bucket", "mine", "--prefix", "team"]) == 0
    assert main(["aws", "setup", "--yes", "--kms-key", "alias/voices"]) == 0

    after = allowed(account)
    for sid, lists in before.items():
        for part, listed in lists.items():
            assert set(listed) <= set(after[sid][part]), sid
    assert "arn:aws:s3:::mine/team/*" in after["DataCheckpointsAndResults"]["Resource"]
    assert "arn:aws:ecr:eu-west-1:123456789012:repository/facesim" in after["Image"]["Resource"]
    assert after.keys() - before.keys() == {"Key2", "KeyForVolumes2"}  # on other terms: of another alias
    capsys.readouterr()
    for again in (first, (), ("--region", "eu-west-1", "--bucket", "mine", "--prefix", "team")):
        main(["aws", "setup", *again])
        assert "allow the role" not in capsys.readouterr().out


def test_setup_keeps_rules_that_others_gave_the_bucket(endpoint, account, capsys):
    s3 = account.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    rule_of_others = {"ID": "mine", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": [rule_of_others]})

    assert main(["aws", "setup", "--yes", "--kms-key", "alias/faces"]) == 0

    rules = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert [rule["ID"] for rule in rules][0] == "mine" and len(rules) == 3
    (rule,) = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "alias/faces"
    assert main(["aws", "setup", "--kms-key", "alias/faces"]) == 0


def test_an_admin_makes_the_same_from_the_template_that_a_dry_run_prints_without_an_account(
    endpoint, account, monkeypatch, capsys
):
    with monkeypatch.context() as nothing:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
            nothing.delenv(name)
        nothing.setitem(__import__("sys").modules, "boto3", None)
        assert main(["aws", "setup", "--dry-run", "--vpc"]) == 0
    template = capsys.readouterr().out

    account.client("cloudformation").create_stack(
        StackName="facesim", TemplateBody=template, Capabilities=["CAPABILITY_NAMED_IAM"]
    )

    wanted = Wanted("facesim-training", BUCKET, "facesim", vpc=True)
    iam = account.client("iam")
    made = iam.get_role_policy(RoleName="facesim-training", PolicyName="facesim")["PolicyDocument"]
    places = {"PARTITION": "aws", "ACCOUNT": "123456789012", "REGION": "us-east-1"}
    assert ast.literal_eval(made) == wanted.policy("role", places)  # AWS answers an object, and moto its text
    bucket = json.loads(template)["Resources"]["Bucket"]["Properties"]
    assert bucket["PublicAccessBlockConfiguration"]["RestrictPublicBuckets"] is True
    assert [rule.get("ExpirationInDays") for rule in bucket["LifecycleConfiguration"]["Rules"]] == [30, None]
    # What moto makes of a template is there; it does not know a bucket's lifecycle and public access of one.
    left = [step.what for step in missing(account, wanted)]
    assert len(left) == 3
    assert left[1].startswith("block public access") and left[2].startswith("remove checkpoints")


def test_a_dry_run_says_what_a_second_region_needs(capsys):
    """A role is of the account: AWS refuses a second stack that makes one of the same name."""
    arguments = ["aws", "setup", "--dry-run", "--region", "eu-west-1", "--role", "faces-eu"]

    assert main(arguments) == 0

    template, told = capsys.readouterr()
    assert json.loads(template)["Resources"]["Role"]["Properties"]["RoleName"] == "faces-eu"
    assert "deploy --region eu-west-1 --stack-name facesim" in told
    assert "where faces-eu is there already" in told and "give a second region a role of its own, --role NAME" in told


def test_doctor_says_what_is_missing_and_what_to_do(endpoint, quick, capsys):
    endpoint.quotas["ml.m5.2xlarge for training job usage"] = 1

    assert main([*DOCTOR]) == 1

    checks = doctor_checks(capsys)
    assert [one["level"] for one in checks["AWS account"]] == ["ok"]
    assert "`facesim aws setup` makes it" in checks["role"][0]["finding"]
    assert "the first job makes it" in checks["bucket"][0]["finding"]
    assert "there is no repository facesim" in checks["image"][0]["finding"]
    assert "ml.m5.2xlarge for training job usage: 1, 2 needed" in checks["quota"][0]["finding"]
    assert "request-service-quota-increase --service-code sagemaker" in checks["quota"][0]["finding"]


def test_what_one_may_not_look_at_is_no_failure(endpoint, quick, refuse, capsys):
    refuse(ServiceQuotasResponse, "list_service_quotas", "AccessDeniedException")

    main([*DOCTOR])

    (quotas,) = doctor_checks(capsys)["quotas"]
    assert (quotas["level"], "facesim policy" in quotas["finding"]) == ("note", True)


def test_doctor_reads_a_role_whose_trust_is_one_statement_without_a_list(endpoint, account, quick, capsys):
    principal = {"Service": ["sagemaker.amazonaws.com"]}
    trust = {"Statement": {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}}
    account.client("iam").create_role(RoleName="facesim-training", AssumeRolePolicyDocument=json.dumps(trust))

    main([*DOCTOR])

    assert doctor_checks(capsys)["role"] == [{"name": "role", "level": "ok", "finding": "facesim-training"}]


def test_doctor_finds_all_well_once_it_is(endpoint, account, quick, capsys):
    names = [f"ml.c5.{size} for training job usage" for size in range(30)]  # more than a page
    endpoint.quotas.update(dict.fromkeys([*names, "ml.m5.2xlarge for spot training job usage"], 4))
    endpoint.quotas["Longest run time for a training job"] = 432_000
    assert main(["aws", "setup", "--yes"]) == 0
    from facesim import __version__

    account.client("ecr").put_image(repositoryName="facesim", imageTag=__version__, imageManifest=json.dumps(
        {"schemaVersion": 2, "config": {"digest": "sha256:1"}, "layers": [],
         "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}))  # fmt: skip
    capsys.readouterr()

    assert main([*DOCTOR, "--spot"]) == 0
    checks = doctor_checks(capsys)
    assert {one["level"] for group in checks.values() for one in group} == {"ok"}
    assert main([*DOCTOR, "--spot", "--max-run", "1000000"]) == 1
    assert "Longest run time for a training job: 432000, 1e+06 needed" in doctor_checks(capsys)["quota"][-1]["finding"]
    endpoint.quotas.update({f"ml.m5.2xlarge for training {use} usage": n for use, n in (("job", 4), ("warm pool", 0))})
    assert main([*DOCTOR, "--keep-alive-s", "600"]) == 0  # without it the job runs all the same
    kept = doctor_checks(capsys)["quota"][-1]
    assert (kept["level"], "keeps no instances" in kept["finding"]) == ("note", True)


def test_doctor_without_credentials_says_how_to_have_some(quick, monkeypatch, tmp_path, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    assert main([*DOCTOR, "--region", "eu-west-1"]) == 1

    assert "aws configure" in doctor_checks(capsys)["AWS account"][0]["finding"]


def test_more_instances_than_the_quota_are_refused_as_sagemaker_does(endpoint, account, faces, tmp_path, capsys):
    endpoint.quotas["ml.m5.xlarge for training job usage"] = 0
    run = ["run", "--backend", "sagemaker", "--image-size", "32", "--data", str(faces)]

    assert main([*run, "--instance-type", "ml.m5.xlarge", "--output", str(tmp_path / "runs")]) == 1

    assert "“ml.m5.xlarge for training job usage”" in capsys.readouterr().out.replace("\n", " ")


@pytest.fixture
def engine():
    from cluster.containers.engine import EngineError, connect

    try:
        engine = connect()
    except EngineError as error:
        pytest.skip(str(error))
    yield engine
    for left in engine.images.list(filters={"reference": "*facesim-aws-push-test"}):
        engine.images.remove(left.id, force=True)
    engine.close()


def loaded(engine, architecture: str) -> str:
    """The name of an empty image for processors of an architecture."""
    with io.BytesIO() as content:
        tarfile.open(fileobj=content, mode="w").close()
        layer = content.getvalue()
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    name = "facesim-aws-push-test:1"
    files = {
        "layer.tar": layer,
        "config.json": json.dumps({"architecture": architecture, "os": "linux", "rootfs": rootfs}).encode(),
        "manifest.json": json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode(),
    }
    with io.BytesIO() as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for file, text in files.items():
                member = tarfile.TarInfo(file)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text))
        engine.images.load(archive.getvalue())
    return name


def test_an_image_that_sagemaker_cannot_execute_is_not_pushed(endpoint, engine, capsys):
    assert main(["image", "push", "--tag", loaded(engine, "arm64")]) == 2

    assert "facesim-aws-push-test:1 is for arm64, and SageMaker's instances execute amd64" in capsys.readouterr().err


def test_the_image_is_pushed_to_the_registry_of_the_account(endpoint, engine, monkeypatch, capsys):
    name = loaded(engine, "amd64")
    answer = ECRResponse.get_authorization_token

    def ours(self):  # moto names AWS' registry, which is not to be pushed to from here
        response = answer(self)
        response.result["authorizationData"][0]["proxyEndpoint"] = f"http://{there.address}"
        return response

    monkeypatch.setattr(ECRResponse, "get_authorization_token", ours)
    with registry("AWS", "123456789012-auth-token") as there:
        assert main(["image", "push", "--tag", name]) == 0, capsys.readouterr().err
        assert list(there.manifests) == [name]
        assert {one["digest"] for one in json.loads(there.manifests[name])["layers"]} <= there.blobs
        assert f"--image {name}" in capsys.readouterr().out

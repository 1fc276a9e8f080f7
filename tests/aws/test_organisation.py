"""An organisation's defaults files of SageMaker's SDK: the lowest layer of options, shown with where each is from."""

from __future__ import annotations

import json

import pytest

from facesim.backends.sagemaker.organisation import layered
from facesim.cli import main
from facesim.spec.backends import SageMaker
from facesim.util.errors import InputError

ROLE = "arn:aws:iam::123456789012:role/of-the-organisation"
ADMIN = f"""
SchemaVersion: '1.0'
SageMaker:
  PythonSDK:
    Modules:
      Session: {{DefaultS3Bucket: the-organisation, DefaultS3ObjectKeyPrefix: team/faces/}}
  TrainingJob:
    RoleArn: {ROLE}
    EnableNetworkIsolation: true
    VpcConfig:
      Subnets: [subnet-0a1]
      SecurityGroupIds: [sg-0a1]
    OutputDataConfig: {{KmsKeyId: alias/organisation}}
    Tags:
    - {{Key: team, Value: faces}}
    - {{Key: cost, Value: research}}
"""


@pytest.fixture
def admin(tmp_path, monkeypatch):
    file = tmp_path / "admin" / "config.yaml"
    file.parent.mkdir()
    file.write_text(ADMIN)
    monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", str(file.parent))
    return file


def test_a_dry_run_has_the_defaults_and_says_where_each_is_from(admin, endpoint, faces, capsys):
    options = ["--backend", "sagemaker", "--image-size", "32", "--data", str(faces), "--bucket", "mine"]

    assert main(["run", *options, "--tags", "cost=mine", "--dry-run"]) == 0

    content = json.loads(capsys.readouterr().out)
    request = content["runs"][0]["request"]["CreateTrainingJob"]
    assert request["RoleArn"] == ROLE
    assert request["OutputDataConfig"]["S3OutputPath"] == "s3://mine/team/faces/facesim/jobs/"
    assert request["OutputDataConfig"]["KmsKeyId"] == "alias/organisation"
    assert request["VpcConfig"] == {"Subnets": ["subnet-0a1"], "SecurityGroupIds": ["sg-0a1"]}
    assert request["EnableNetworkIsolation"] is True
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    assert tags == {"facesim": "run", "team": "faces", "cost": "mine"}
    assert f"--role {ROLE} is from {admin}" in content["notices"]
    assert not any("--bucket" in notice for notice in content["notices"])


def test_the_users_file_is_above_the_admins_and_what_is_given_above_both(admin, tmp_path, monkeypatch):
    user = tmp_path / "user.yaml"
    user.write_text("SageMaker: {TrainingJob: {RoleArn: arn:aws:iam::123456789012:role/mine}}")
    monkeypatch.setenv("SAGEMAKER_USER_CONFIG_OVERRIDE", str(user))

    assert layered(SageMaker()).aws.role == "arn:aws:iam::123456789012:role/mine"
    assert layered(SageMaker()).aws.bucket == "the-organisation"
    assert layered(SageMaker(role="given")).aws.role == "given"


def test_without_such_files_options_are_as_they_were():
    given = SageMaker(bucket="mine")

    assert layered(given) == (given, ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("SageMaker: [", "is not YAML"),
        ("SageMaker: {TrainingJob: {Tags: [team]}}", "Tags must be a list"),
        ("SageMaker: {TrainingJob: {RoleArn: two words}}", "--role.*a role is a name"),
        ("SageMaker: {TrainingJob: {VpcConfig: {Subnets: [subnet-0a1]}}}", "--subnets needs --security-groups"),
        (
            "SageMaker: {TrainingJob: {OutputDataConfig: {KmsKeyId: alias/a}, ResourceConfig: "
            "{VolumeKmsKeyId: alias/b}}}",
            "give --kms-key",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told(admin, content, message):
    admin.write_text(content)

    with pytest.raises(InputError, match=message):
        layered(SageMaker())


@pytest.mark.parametrize(("named", "message"), [("s3://bucket/config.yaml", "copy it"), ("/nowhere", "not there")])
def test_a_file_that_cannot_be_read_is_told(monkeypatch, named, message):
    monkeypatch.setenv("SAGEMAKER_ADMIN_CONFIG_OVERRIDE", named)

    with pytest.raises(InputError, match=message):
        layered(SageMaker())

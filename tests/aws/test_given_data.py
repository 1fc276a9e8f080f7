"""Data that is at AWS already: a channel of the job as it is, without a copy, prepared by its hosts."""

from __future__ import annotations

import json

import pytest
from moto.s3.responses import S3Response

from facesim.backends.sagemaker.policies import policy
from facesim.backends.sagemaker.validation import problems
from facesim.cli import main
from facesim.runs.directory import find_runs
from facesim.spec.job import make_job
from facesim.util.errors import InputError
from tests.aws.iam import allows
from tests.aws.test_policy import PLACES

SMALL = ("--backend", "sagemaker", "--image-size", "32", "--instance-type", "ml.m5.xlarge")
NETWORK = ("--subnets", "subnet-0a1", "--security-groups", "sg-0a1")


@pytest.fixture
def bucket(account, faces) -> str:
    """A bucket of the user's with faces in it, and others beside them."""
    s3 = account.client("s3")
    s3.create_bucket(Bucket="of-the-user")
    for file in sorted(path for path in faces.rglob("*") if path.is_file()):
        s3.upload_file(str(file), "of-the-user", f"all/faces/{file.relative_to(faces).as_posix()}")
    s3.put_object(Bucket="of-the-user", Key="all/faces-of-others/1.png", Body=b"")
    return "of-the-user"


def dry_run(capsys, *options: str) -> tuple[dict, list[str]]:
    assert main(["run", *SMALL, *options, "--dry-run"]) == 0
    content = json.loads(capsys.readouterr().out)
    request = content["runs"][0]["request"]["CreateTrainingJob"]
    assert problems("CreateTrainingJob", request) == []
    return request, content["notices"]


@pytest.mark.parametrize("mode", ["File", "FastFile"])
def test_a_folder_in_s3_is_the_channel_and_what_cannot_be_known_is_told(endpoint, bucket, capsys, mode):
    request, notices = dry_run(capsys, "--data", f"s3://{bucket}/all/faces", "--input-mode", mode)

    (channel,) = request["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == f"s3://{bucket}/all/faces/"
    assert channel["InputMode"] == mode
    (notice,) = [notice for notice in notices if notice.startswith(f"s3://{bucket}/all/faces")]
    assert "80 files" in notice and "each host prepares them by itself" in notice


def test_data_in_a_bucket_of_another_region_is_refused_before_a_job_is_paid_for(endpoint, bucket, monkeypatch, capsys):
    # moto does not say where a bucket is, as S3 does with each answer.
    listed = S3Response.list_objects_v2

    def with_region(self):
        status, headers, body = listed(self)
        return status, {**headers, "x-amz-bucket-region": "eu-west-1"}, body

    monkeypatch.setattr(S3Response, "list_objects_v2", with_region)

    assert main(["run", *SMALL, "--data", f"s3://{bucket}/all/faces", "--dry-run"]) == 2

    assert "is in eu-west-1 and the job would run in us-east-1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_on_data_in_s3_uploads_none_of_it_and_leaves_the_classical_methods_out(
    endpoint, bucket, tmp_path, script, capsys
):
    script.given_data = True
    data = ("--data", f"s3://{bucket}/all/faces/", "--output", str(tmp_path))

    assert main(["compare", *SMALL, *data, "--strategy", "single"]) == 0

    (run,) = find_runs([tmp_path])
    assert [event for event in run.events() if event["event"] == "uploaded"] == []
    assert run.result()["state"] == "Completed"
    assert f"no classical baselines: s3://{bucket}/all/faces/ is not on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(("scheme", "kind"), [("efs", "EFS"), ("fsx", "FSxLustre")])
def test_a_file_system_is_a_channel_in_a_network_of_ones_own(endpoint, capsys, scheme, kind):
    data = ("--data", f"{scheme}://fs-0123456789abcdef0/share/faces/", "--input-mode", "FastFile")

    request, notices = dry_run(capsys, *data, *NETWORK)

    (channel,) = request["InputDataConfig"]
    assert channel["InputMode"] == "File"  # the only one that there is for them
    assert channel["DataSource"]["FileSystemDataSource"] == {
        "FileSystemId": "fs-0123456789abcdef0",
        "FileSystemType": kind,
        "FileSystemAccessMode": "ro",
        "DirectoryPath": "/share/faces",
    }
    assert any("how much there is is not known here" in notice for notice in notices)
    assert main(["run", *SMALL, *data, "--dry-run"]) == 2
    assert "give --subnets and --security-groups" in capsys.readouterr().err


def test_what_is_exported_has_the_file_system(endpoint, capsys):
    data = ("--data", "efs://fs-0123456789abcdef0/faces")

    assert main(["export-job", *SMALL[2:], *data, *NETWORK, "--format", "modeltrainer"]) == 0

    assert "FileSystemDataSource(file_system_id='fs-0123456789abcdef0'" in capsys.readouterr().out


def test_a_dry_run_on_data_in_s3_needs_no_account(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)

    _, notices = dry_run(capsys, "--data", "s3://a-bucket/faces", "--region", "us-east-1")

    assert any("how much there is cannot be asked: there are no AWS credentials" in notice for notice in notices)


def test_an_empty_folder_is_refused_before_anything_is_started(endpoint, bucket, capsys):
    assert main(["run", *SMALL, "--data", f"s3://{bucket}/nobody", "--dry-run"]) == 2
    assert f"--data s3://{bucket}/nobody: there is nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "backend", "message"),
    [
        ("s3://a-bucket/faces", "local", "copy it to this machine"),
        ("s3://a-bucket/", "sagemaker", "name the folder or file"),
        ("s3://A_BUCKET/faces", "sagemaker", "lower case"),
        ("gs://a-bucket/faces", "sagemaker", "gs:// is not read"),
        ("efs://faces/all", "sagemaker", "by its id"),
    ],
)
def test_an_address_that_cannot_be_read_is_told(data, backend, message):
    with pytest.raises(InputError, match=message):
        make_job(data=data, backend=backend)


def test_the_policies_allow_a_bucket_of_the_users_own_to_be_read():
    role, user = (json.loads(policy(name, PLACES, data="s3://of-the-user/all/faces")) for name in ("role", "user"))

    assert allows(role, "s3:GetObject", "arn:aws:s3:::of-the-user/all/faces/1.png")
    assert not allows(role, "s3:GetObject", "arn:aws:s3:::of-the-user/others/1.png")
    assert allows(role, "s3:ListBucket", "arn:aws:s3:::of-the-user")
    assert allows(user, "s3:ListBucket", "arn:aws:s3:::of-the-user")
    assert not allows(user, "s3:GetObject", "arn:aws:s3:::of-the-user/all/faces/1.png")
    assert not allows(json.loads(policy("role", PLACES)), "s3:ListBucket", "arn:aws:s3:::of-the-user")

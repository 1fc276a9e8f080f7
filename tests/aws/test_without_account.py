"""What needs no account: policies, dry runs, the cap and the forecast, also where nothing of AWS is installed."""

from __future__ import annotations

import json
import sys

import pytest

from facesim.cli import main
from tests.aws.test_commands import SMALL

NUMBER = "000000000000"


@pytest.fixture(params=["no packages", "no configuration", "no credentials"])
def nothing(request, monkeypatch, tmp_path) -> str:
    """This process knows nothing of AWS; why it does not."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
                 "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if request.param == "no packages":
        for name in [*sys.modules]:
            if name.split(".")[0] in ("boto3", "botocore", "sagemaker") or name.endswith("sagemaker.validation"):
                monkeypatch.delitem(sys.modules, name)
        for name in ("boto3", "botocore", "sagemaker", "sagemaker.core"):
            monkeypatch.setitem(sys.modules, name, None)
    if request.param == "no credentials":
        monkeypatch.setenv("AWS_REGION", "us-east-1")
    return request.param


@pytest.mark.parametrize("name", ["user", "role", "trust", "setup"])
def test_policies_are_printed_with_placeholders_that_say_so(nothing, name, capsys):
    assert main(["policy", name, "--bucket", "mine"]) == 0

    streams = capsys.readouterr()
    assert NUMBER in streams.out and json.loads(streams.out)["Version"] == "2012-10-17"
    assert f"{NUMBER} stands for the account's number" in streams.err
    assert ("stands for the region" in streams.err) == (nothing != "no credentials")


def test_a_policy_of_a_named_region_has_its_partition(nothing, capsys):
    assert main(["policy", "user", "--region", "cn-north-1"]) == 0

    streams = capsys.readouterr()
    assert "arn:aws-cn:logs:cn-north-1:" in streams.out
    assert "stands for the region" not in streams.err


@pytest.mark.parametrize("image", ["", "aws"])
def test_a_dry_run_shows_request_cost_and_placeholders(nothing, faces, tmp_path, image, capsys):
    options = [*SMALL, "--data", str(faces), "--output", str(tmp_path / "runs"), *(["--image", image] if image else [])]

    assert main(["compare", *options, "--dry-run"]) == 0, capsys.readouterr().err

    output = json.loads(capsys.readouterr().out)
    request = output["runs"][1]["request"]["CreateTrainingJob"]
    assert request["RoleArn"] == f"arn:aws:iam::{NUMBER}:role/facesim-training"
    assert "dkr.ecr.us-east-1.amazonaws.com" in request["AlgorithmSpecification"]["TrainingImage"]
    assert any(f"{NUMBER} stands for the account's number" in notice for notice in output["notices"])
    assert ("is not checked against AWS' description" in str(output["notices"])) == (nothing == "no packages")
    assert "can cost up to $18.33" in output["estimate"]

    assert main(["run", *options, "--max-cost", "1", "--max-run", "36000", "--dry-run"]) == 2
    assert "more than --max-cost 1; it fits with --max-run 13663" in capsys.readouterr().err


def test_what_is_to_run_is_refused_before_anything_starts(nothing, faces, tmp_path, capsys):
    assert main(["run", *SMALL, "--data", str(faces), "--output", str(tmp_path / "runs")]) == 2

    errors = capsys.readouterr().err
    assert "stands for the account's number" in errors
    assert ("pip install 'facesim-cluster[aws]'" if nothing == "no packages" else "AWS") in errors
    assert not (tmp_path / "runs").exists()

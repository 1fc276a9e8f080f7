"""The emulator as AWS' own clients see it."""

from __future__ import annotations

import threading

import pytest
from botocore.exceptions import ClientError

from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.site import site_of
from facesim.backends.training_job import training_job_request

#: Each of them takes little, all together a part of a minute.
pytestmark = pytest.mark.slow


@pytest.fixture
def request_(endpoint, account, job, inputs) -> dict:
    """A request whose data is there."""
    made = training_job_request(job, "facesim-one", inputs.folders, site_of(job.backend, Names()))
    s3 = account.client("s3")
    s3.create_bucket(Bucket=made.bucket)
    for uri, folder in made.uploads.items():
        for file in folder.iterdir():
            s3.upload_file(str(file), made.bucket, uri.split("/", 3)[3] + file.name)
    return made.request


@pytest.fixture
def sagemaker(account):
    return account.client("sagemaker")


def test_sagemakers_own_package_follows_a_job_to_its_end(endpoint, account, sagemaker, request_):
    from sagemaker.core.resources import TrainingJob

    sagemaker.create_training_job(**request_)
    job = TrainingJob.get("facesim-one", session=account.session, region=account.region)
    job.wait(poll=1, timeout=60)

    assert job.training_job_status == "Completed"
    assert job.model_artifacts.s3_model_artifacts.endswith("/facesim-one/output/model.tar.gz")
    assert job.billable_time_in_seconds == job.training_time_in_seconds
    assert [metric.metric_name for metric in job.final_metric_data_list] == ["epoch", "loss", "held_out_accuracy"]


def test_a_bucket_is_used_only_by_who_expects_its_owner(endpoint, account):
    s3 = account.client("s3")
    s3.create_bucket(Bucket="a-bucket")
    s3.put_object(Bucket="a-bucket", Key="one", Body=b"1", ExpectedBucketOwner=account.id)
    other = {"Bucket": "a-bucket", "ExpectedBucketOwner": "999999999999"}

    for ask in (s3.head_bucket, s3.list_objects_v2, lambda **bucket: s3.get_object(Key="one", **bucket)):
        with pytest.raises(ClientError) as refused:
            ask(**other)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_describe_repeats_the_request(endpoint, sagemaker, request_):
    sagemaker.create_training_job(**request_)

    description = sagemaker.describe_training_job(TrainingJobName="facesim-one")

    for name, value in request_.items():
        if name != "Tags":
            assert description[name] == value


def test_times_of_the_states_follow_on_each_other(endpoint, sagemaker, request_):
    sagemaker.create_training_job(**request_)
    assert endpoint.job("facesim-one").ended.wait(30)

    transitions = sagemaker.describe_training_job(TrainingJobName="facesim-one")["SecondaryStatusTransitions"]

    for one, next_one in zip(transitions, transitions[1:]):
        assert one["StartTime"] <= one["EndTime"] == next_one["StartTime"]


def test_a_name_is_taken_once(endpoint, sagemaker, request_):
    sagemaker.create_training_job(**request_)

    with pytest.raises(ClientError, match="ResourceInUse"):
        sagemaker.create_training_job(**request_)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"TrainingJobName": "no spaces please"}, "does not match"),
        ({"EnableManagedSpotTraining": True}, "MaxWaitTimeInSeconds"),
        ({"HyperParameters": {"job": "x" * 2501}}, "2501 is not within"),
    ],
)
def test_what_aws_would_refuse_is_refused(endpoint, sagemaker, request_, change, message):
    with pytest.raises(ClientError, match=message) as refused:
        sagemaker.create_training_job(**{**request_, **change})

    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_a_job_that_has_ended_cannot_be_stopped(endpoint, sagemaker, request_):
    sagemaker.create_training_job(**request_)
    assert endpoint.job("facesim-one").ended.wait(30)

    with pytest.raises(ClientError, match="in status Completed"):
        sagemaker.stop_training_job(TrainingJobName="facesim-one")


def test_jobs_are_listed_newest_first_in_pages_by_name_and_status(endpoint, sagemaker, request_, script):
    script.until = threading.Event()
    for number in range(5):
        sagemaker.create_training_job(**{**request_, "TrainingJobName": f"facesim-{number}"})
    sagemaker.stop_training_job(TrainingJobName="facesim-2")
    assert endpoint.job("facesim-2").ended.wait(30)

    def listed(**options) -> list[str]:
        pages = sagemaker.get_paginator("list_training_jobs").paginate(PaginationConfig={"PageSize": 2}, **options)
        return [job["TrainingJobName"] for page in pages for job in page["TrainingJobSummaries"]]

    assert listed() == [f"facesim-{number}" for number in (4, 3, 2, 1, 0)]
    assert listed(NameContains="-3") == ["facesim-3"]
    assert listed(StatusEquals="Stopped") == ["facesim-2"]
    assert listed(StatusEquals="InProgress") == [f"facesim-{number}" for number in (4, 3, 1, 0)]


def test_interruptions_are_of_spot_jobs_only(endpoint, sagemaker, request_, script):
    script.until = threading.Event()
    sagemaker.create_training_job(**request_)
    assert script.training.wait(30)

    endpoint.job("facesim-one").interrupt()
    script.until.set()

    assert endpoint.job("facesim-one").ended.wait(30)
    transitions = sagemaker.describe_training_job(TrainingJobName="facesim-one")["SecondaryStatusTransitions"]
    assert "Interrupted" not in [one["Status"] for one in transitions]


def test_ending_the_emulator_ends_its_jobs(endpoint, sagemaker, request_, script):
    script.until = threading.Event()
    sagemaker.create_training_job(**request_)
    assert script.training.wait(30)

    endpoint.stop()

    assert endpoint.job("facesim-one").ended.is_set()

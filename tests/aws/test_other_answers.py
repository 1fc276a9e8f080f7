"""What AWS answers at times and the endpoint of these tests does not by itself: late, in part, in small pages."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from moto.core.responses import ActionResult
from moto.logs.responses import LogsResponse
from moto.s3.responses import S3Response
from moto.sagemaker.responses import SageMakerResponse

from facesim.backends.sagemaker.advice import BusyError
from facesim.backends.sagemaker.calls import describe, newest
from facesim.backends.sagemaker.logs import LogTail
from facesim.backends.sagemaker.session import Account
from facesim.cli import main
from facesim.spec.job import make_job
from tests.aws.answers import Answers, answering
from tests.support.events import named, states
from tests.support.executions import follow, submit

#: Each of them takes little, all together a part of a minute.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("late", [3, 10**9], ids=["late", "never"])
def test_what_is_billed_is_waited_for_and_is_never_nothing_of_a_job_that_trained(
    endpoint, job, inputs, tmp_path, monkeypatch, late
):
    monkeypatch.setattr("facesim.backends.sagemaker.job._LATE_S", 1.0)
    describe, count = SageMakerResponse.describe_training_job, itertools.count()

    def described(self):
        answer = describe(self).result
        if answer["TrainingJobStatus"] == "Completed" and next(count) < late:
            for name in ("TrainingTimeInSeconds", "BillableTimeInSeconds"):
                answer.pop(name)
            answer["SecondaryStatusTransitions"].pop()
        for name in ("OutputDataConfig", "ResourceConfig", "StoppingCondition"):  # AWS need not repeat these
            answer.pop(name)
        return ActionResult(answer)

    monkeypatch.setattr(SageMakerResponse, "describe_training_job", described)
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    (billed,) = named(events, "billed")
    description = endpoint.job("facesim-one").describe()
    whole_s = (description["TrainingEndTime"] - description["TrainingStartTime"]).total_seconds()
    expected = description["BillableTimeInSeconds"] if late == 3 else pytest.approx(whole_s, abs=1)
    assert (events[-1]["outcome"], billed["billable_s"]) == ("completed", expected)
    assert states(events)[-1] == ("Completed" if late == 3 else "Uploading")
    assert late == 3 or billed["billable_s"] > 0


def test_an_end_without_its_time_is_an_end(endpoint, job, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("facesim.backends.sagemaker.job._LATE_S", 0.3)
    describe = SageMakerResponse.describe_training_job
    monkeypatch.setattr(
        SageMakerResponse,
        "describe_training_job",
        lambda self: ActionResult({name: value for name, value in describe(self).result.items()
                                   if name not in ("TrainingEndTime", "FinalMetricDataList")}),
    )  # fmt: skip

    events = follow(*submit(job, tmp_path / "one", inputs))

    assert events[-1]["outcome"] == "completed"


def test_lines_that_were_read_before_a_stream_was_denied_are_kept(endpoint, refuse, job, inputs, tmp_path, monkeypatch):
    get = LogsResponse.get_log_events
    denied = refuse(LogsResponse, "get_log_events", "AccessDeniedException")
    refused = LogsResponse.get_log_events

    def answered(self):
        return refused(self) if "algo-2" in json.loads(self.body)["logStreamName"] else get(self)

    monkeypatch.setattr(LogsResponse, "get_log_events", answered)
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    assert denied
    assert events[-1]["outcome"] == "completed"
    assert run.log_file("algo-1").read_text().count("hello from algo-1") == 1


def test_a_stream_that_never_says_that_it_ends_is_not_read_for_ever(endpoint, job, inputs, tmp_path, monkeypatch):
    count = itertools.count()
    empty = {"events": [], "nextBackwardToken": "b/0"}
    monkeypatch.setattr(
        LogsResponse, "get_log_events", lambda self: json.dumps({**empty, "nextForwardToken": f"f/{next(count)}"})
    )

    events = follow(*submit(job, tmp_path / "one", inputs))

    assert events[-1]["outcome"] == "completed"


def test_an_answer_that_nobody_understands_is_told_and_the_job_is_followed_on(
    endpoint, job, inputs, tmp_path, monkeypatch
):
    monkeypatch.setattr(LogsResponse, "get_log_events", lambda self: json.dumps({"events": [{"message": "no time"}]}))

    events = follow(*submit(job, tmp_path / "one", inputs))

    assert [event["why"] for event in named(events, "out_of_reach")] == ["logs cannot be read: KeyError: 'timestamp'"]
    assert events[-1]["outcome"] == "completed"


@pytest.fixture
def answers(monkeypatch) -> Iterator[Answers]:
    """What AWS answers, by operation, which an account then asks."""
    answers: Answers = {}
    with answering(answers) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLEEXAMPLE12")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        yield answers


def test_a_job_that_is_asked_to_stop_is_stopping_whatever_aws_says_of_it_yet(answers, capsys):
    answers["DescribeTrainingJob"] = lambda _: {"TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}
    answers["StopTrainingJob"] = lambda _: {}

    assert main(["cancel", "facesim-one", "--region", "us-east-1"]) == 0

    assert capsys.readouterr().out == "facesim-one: stopping\n"


def test_logs_of_a_host_that_a_job_does_not_have_name_those_that_it_has(answers, capsys):
    answers["DescribeTrainingJob"] = lambda request: {
        "TrainingJobName": request["TrainingJobName"],
        "TrainingJobStatus": "InProgress",
        "SecondaryStatus": "Training",
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 30},
    }

    assert main(["logs", "facesim-one", "--task", "worker-0", "--follow", "--region", "us-east-1"]) == 2

    assert "has no host 'worker-0'; there are algo-1, algo-2" in capsys.readouterr().err


def test_a_list_says_that_a_limit_ended_a_job(answers, capsys):
    answers["ListTrainingJobs"] = lambda _: {
        "TrainingJobSummaries": [
            {
                "TrainingJobName": "facesim-one",
                "TrainingJobArn": "arn:aws:sagemaker:us-east-1:123456789012:training-job/facesim-one",
                "CreationTime": 1_790_000_000,
                "TrainingJobStatus": "Stopped",
                "SecondaryStatus": "MaxRuntimeExceeded",
            }
        ]
    }

    assert main(["list", "--backend", "sagemaker", "--region", "us-east-1", "--json"]) == 0

    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["state"], listed["running"]) == ("MaxRuntimeExceeded", False)


def printed(text: str) -> dict:
    return {"timestamp": 1_790_000_000_000, "message": text}


def test_lines_are_read_once_from_pages_that_are_empty_or_say_nothing_of_a_next_one(answers):
    pages = {
        None: {"nextToken": "more"},
        "more": {"logStreams": [{"logStreamName": "facesim-one/algo-1-1"}]},
    }
    answers["DescribeLogStreams"] = lambda request: pages[request.get("nextToken")]
    lines = [printed("one"), printed("two")]
    answers["GetLogEvents"] = lambda request: {"events": lines}
    tail = LogTail(Account("us-east-1"), "facesim-one")

    assert [line.text for line in tail.new()] == ["one", "two"]
    lines.append(printed("three"))
    assert [line.text for line in tail.new()] == ["three"]
    answers["GetLogEvents"] = lambda request: {}
    assert list(tail.new()) == []


def test_a_stream_that_cannot_be_read_yet_hides_no_other(answers):
    streams = [{"logStreamName": f"facesim-one/algo-{number}-1"} for number in (1, 2)]
    answers["DescribeLogStreams"] = lambda request: {"logStreams": streams}
    late = {"facesim-one/algo-1-1"}

    def read(request: dict) -> Any:
        if request["logStreamName"] in late:
            return 400, {"__type": "ResourceNotFoundException", "message": "The specified log stream does not exist."}
        return {"events": [printed("hello")], "nextForwardToken": "f/1"} if "nextToken" not in request else {
            "nextForwardToken": request["nextToken"]
        }  # fmt: skip

    answers["GetLogEvents"] = read
    tail = LogTail(Account("us-east-1"), "facesim-one")

    assert [line.host for line in tail.new()] == ["algo-2"]
    late.clear()
    assert [line.host for line in tail.new()] == ["algo-1"]


@pytest.mark.parametrize("answer", [{}, "<html>Welcome to our network</html>"], ids=["empty", "no JSON"])
def test_what_is_no_description_of_a_job_is_asked_for_again(answers, answer):
    answers["DescribeTrainingJob"] = lambda request: answer

    with pytest.raises(BusyError, match="the answer has no SecondaryStatus and no TrainingJobStatus"):
        describe(Account("us-east-1"), "facesim-one")


def test_the_newest_jobs_are_found_however_small_the_pages_are(endpoint, account, job, inputs, tmp_path, monkeypatch):
    listed = SageMakerResponse.list_training_jobs

    def in_pages_of_one(self):
        self.body = json.dumps({**json.loads(self.body), "MaxResults": 1})
        return listed(self)

    monkeypatch.setattr(SageMakerResponse, "list_training_jobs", in_pages_of_one)
    for name in ("one", "two", "three"):
        follow(*submit(job, tmp_path / name, inputs))

    assert [one["TrainingJobName"] for one in newest(account, 2)] == ["facesim-three", "facesim-two"]


def test_an_upload_that_fails_each_time_is_given_up(endpoint, job, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("facesim.backends.sagemaker.creation._PATIENCE_S", 0.1)
    monkeypatch.setattr("facesim.backends.sagemaker.creation._TRY_AGAIN_S", 0.05)
    damaged = (400, {}, "<Error><Code>BadDigest</Code><Message>not as it was sent</Message></Error>")
    monkeypatch.setattr(S3Response, "put_object", lambda self: damaged)

    with pytest.raises(BusyError, match="lost on the way to AWS"):
        follow(*submit(job, tmp_path / "one", inputs))


def test_patience_begins_when_something_fails_and_not_when_waiting_began(
    endpoint, refuse, faces, inputs, tmp_path, monkeypatch
):
    monkeypatch.setattr("facesim.backends.sagemaker.calls._ROOM_EVERY_S", 1.0)
    monkeypatch.setattr("facesim.backends.sagemaker.creation._SIGN_IN_S", 0.9)
    monkeypatch.setattr("facesim.backends.sagemaker.creation._TRY_AGAIN_S", 0.05)
    quota = "ml.m5.xlarge for training job usage"
    endpoint.quotas[quota] = 1
    options = {"backend": "sagemaker", "data": str(faces), "image_size": 32, "strategy": "ps-async"}
    job = make_job(**options, instance_type="ml.m5.xlarge", quota_wait_s=60)
    run, execution = submit(job, tmp_path / "one", inputs)
    refused = []

    def once_it_waits(event: dict) -> None:
        if event["event"] == "out_of_reach" and event["what"] == "quota":
            endpoint.quotas.clear()
            refused.append(refuse(SageMakerResponse, "create_training_job", "ExpiredTokenException", times=1))

    events = follow(run, execution, on=once_it_waits)

    assert refused == [["ExpiredTokenException"]]
    assert events[-1]["outcome"] == "completed"

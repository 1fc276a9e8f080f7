"""What AWS refuses, denies or loses while a job runs there: told, survived, and no reason to stop what is paid for."""

from __future__ import annotations

import shutil
import signal
import threading
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ProxyConnectionError, SSLError
from botocore.parsers import ResponseParserError
from moto.logs.responses import LogsResponse
from moto.s3.responses import S3Response
from moto.sagemaker.responses import SageMakerResponse
from moto.sts.responses import TokenResponse

from facesim.backends.base import LeftRunning
from facesim.backends.sagemaker.advice import BusyError, ExpiredError, QuotaError, RefusedError
from facesim.backends.sagemaker.job import LostSight, SageMakerJob
from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.session import Account, AwsError, CredentialsError, DeniedError, asking
from facesim.backends.sagemaker.site import site_of
from facesim.backends.sagemaker.storage import split
from facesim.backends.training_job import training_job_request
from facesim.cli import main
from facesim.runs.directory import Run, find_runs
from facesim.runs.states import RunState
from facesim.spec.job import make_job
from facesim.study.observers import Observer
from facesim.study.runner import run_study
from facesim.util.errors import InputError
from tests.support.events import states
from tests.support.executions import follow, submit

SMALL = ("--backend", "sagemaker", "--image-size", "32", "--instance-type", "ml.m5.xlarge")
QUOTA = (
    "The account-level service limit 'ml.m5.xlarge for training job usage' is 0 Instances, with current utilization of "
    "0 Instances and a request delta of 1 Instances."
)


def messages(events: list[dict], what: str) -> list[str]:
    return [event["why"] for event in events if event["event"] == "out_of_reach" and event["what"] == what]


@pytest.mark.parametrize("on_interrupt", ["stop", "leave"])
def test_logs_that_may_not_be_read_stop_nothing(endpoint, refuse, job, inputs, tmp_path, on_interrupt):
    refuse(LogsResponse, "describe_log_streams", "AccessDeniedException")
    job = job.model_copy(update={"backend": job.backend.model_copy(update={"on_interrupt": on_interrupt})})
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    assert events[-1]["outcome"] == "completed"
    assert endpoint.job("facesim-one").status == "Completed"
    assert run.model_file.exists()
    (why,) = messages(events, "logs")
    assert "facesim policy" in why


@pytest.mark.slow
def test_credentials_that_expire_are_renewed_and_the_job_is_followed_on(endpoint, refuse, job, inputs, tmp_path):
    run, execution = submit(job, tmp_path / "one", inputs)
    before = execution._account.session
    refuse(SageMakerResponse, "describe_training_job", "ExpiredTokenException", "expired", times=3)

    events = follow(run, execution)

    assert events[-1]["outcome"] == "completed"
    assert len(messages(events, "describe")) == 1
    assert execution._account.session is not before


def test_a_job_that_may_not_be_described_for_good_is_left_alone(
    endpoint, refuse, job, inputs, tmp_path, script, monkeypatch
):
    monkeypatch.setattr("facesim.backends.remote_job._DENIED_S", 0.3)
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    refuse(SageMakerResponse, "describe_training_job", "AccessDeniedException")

    with pytest.raises(LostSight, match=r"continues at AWS.*facesim attach"):
        follow(run, execution)
    execution.close()

    assert endpoint.job("facesim-one").status == "InProgress"


def test_a_job_that_is_to_be_left_is_not_stopped_whatever_ends_its_following(endpoint, job, inputs, tmp_path, script):
    script.until = threading.Event()
    job = job.model_copy(update={"backend": job.backend.model_copy(update={"on_interrupt": "leave"})})
    _, execution = submit(job, tmp_path / "one", inputs)
    for event in execution.events(0.05):
        if event and event.get("state") == "Training":
            break

    execution.close()

    assert endpoint.job("facesim-one").status == "InProgress"


def test_the_users_wish_to_stop_is_kept_until_aws_takes_it(endpoint, refuse, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    asked = refuse(SageMakerResponse, "stop_training_job", "ThrottlingException", times=1)

    events = follow(run, execution, lambda event: execution.stop() if event.get("state") == "Training" else None)

    assert asked
    assert events[-1]["outcome"] == "stopped"


@pytest.mark.slow
def test_one_job_that_aws_refuses_fails_by_itself_and_the_study_goes_on(endpoint, refuse, faces, tmp_path, capsys):
    refuse(SageMakerResponse, "create_training_job", "ResourceLimitExceeded", QUOTA, times=1)
    output = tmp_path / "runs"

    code = main(["run", *SMALL, "--data", str(faces), "--output", str(output), "--seeds", "2"])

    assert code == 1
    first, second = (run.result() for run in find_runs([output]))
    assert (first["state"], second["state"]) == (RunState.FAILED, RunState.COMPLETED)
    assert "the quota “ml.m5.xlarge for training job usage”" in first["failure"]
    assert first["cost_usd"] == 0


@pytest.mark.slow
def test_a_run_that_is_lost_sight_of_does_not_end_the_study(endpoint, refuse, faces, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("facesim.backends.remote_job._DENIED_S", 0.01)
    output = tmp_path / "runs"
    refused = refuse(SageMakerResponse, "describe_training_job", "AccessDeniedException", times=2)

    code = main(["run", *SMALL, "--data", str(faces), "--output", str(output), "--seeds", "2"])

    assert code == 1
    assert refused
    first, second = find_runs([output])
    assert first.result() is None  # so `facesim attach` brings it home
    assert second.result()["state"] == RunState.COMPLETED
    capsys.readouterr()
    assert main(["attach", str(first.directory)]) == 0
    assert first.result()["state"] == RunState.COMPLETED


class InterruptsTwice(Observer):
    """Does what Ctrl-C does, and Ctrl-C again, once a job trains."""

    def happened(self, event) -> None:
        if getattr(event, "state", None) == RunState.TRAINING:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)


def test_after_an_interrupt_no_other_job_begins_though_the_first_cannot_be_stopped(
    endpoint, refuse, faces, tmp_path, script
):
    script.until = threading.Event()
    refuse(SageMakerResponse, "stop_training_job", "AccessDeniedException")
    options = {"backend": "sagemaker", "data": str(faces), "image_size": 32, "instance_type": "ml.m5.xlarge"}
    jobs = [make_job(**options, seed=seed) for seed in (1, 2)]

    with pytest.raises(LeftRunning, match=r"could not be stopped.*continues at AWS, and costs.*facesim cancel"):
        run_study(jobs, tmp_path / "runs", [InterruptsTwice()])

    (run,) = find_runs([tmp_path / "runs"])
    assert run.result() is None


@pytest.mark.slow
def test_a_run_that_is_lost_sight_of_does_not_keep_others_of_its_folder_from_being_followed(
    endpoint, refuse, faces, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "runs"
    assert main(["run", *SMALL, "--data", str(faces), "--output", str(output), "--seeds", "2"]) == 0
    first, second = find_runs([output])
    for run in (first, second):
        run.result_file.unlink()  # as if the command that followed it had been killed
    monkeypatch.setattr("facesim.backends.remote_job._DENIED_S", 0.01)
    refuse(SageMakerResponse, "describe_training_job", "AccessDeniedException", times=3)  # once before it is followed

    code = main(["attach", str(output)])

    assert code == 1
    assert f"{first.id} cannot be followed" in capsys.readouterr().err
    assert first.result() is None
    assert second.result()["state"] == RunState.COMPLETED


def test_a_new_life_of_a_run_tells_its_states_from_the_first(endpoint, job, inputs, tmp_path, script):
    script.fails_with = "an accident"
    run, execution = submit(job, tmp_path / "one", inputs)
    follow(run, execution)
    script.fails_with = None

    again = job.backend.open().render(job, run.directory, inputs)
    run.record("submitted")
    events = follow(run, job.backend.open().submit(run, again))

    assert states(events) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]


@pytest.mark.parametrize("harm", ["missing", "damaged", "empty"])
@pytest.mark.parametrize("name", ["output", "model"])
@pytest.mark.slow
def test_results_that_did_not_come_home_whole_are_told(
    endpoint, account, faces, tmp_path, capsys, monkeypatch, harm, name
):
    spoil(endpoint, account, monkeypatch, f"{name}.tar.gz", harm)
    output = tmp_path / "runs"

    code = main(["run", *SMALL, "--data", str(faces), "--output", str(output)])

    (run,) = find_runs([output])
    assert code == 1
    assert run.result()["state"] == RunState.FAILED
    assert f"{name}.tar.gz" in run.result()["failure"]
    assert f"{name}.tar.gz" in capsys.readouterr().out


@pytest.mark.slow
def test_results_for_which_there_is_no_room_here_stay_there_until_there_is(
    endpoint, job, inputs, tmp_path, monkeypatch
):
    monkeypatch.setattr("facesim.backends.remote_job._FULL_S", 0.1)
    usage = shutil.disk_usage

    def on(event):
        if event.get("state") == "Completed":
            monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(place)._replace(free=0))
        elif event["event"] == "out_of_reach":
            monkeypatch.setattr(shutil, "disk_usage", usage)

    run, execution = submit(job, tmp_path / "one", inputs)
    events = follow(run, execution, on)

    (why,) = messages(events, "results")
    assert "there is no room left in" in why
    assert (events[-1]["outcome"], run.model_file.exists()) == ("completed", True)


def spoil(endpoint, account, monkeypatch, file: str, harm: str) -> None:
    """What the job uploads as `file` is not, or only half, there."""
    from facesim.testing.emulator.storage import S3Store

    put = S3Store.upload

    def upload(self, directory, uri):
        put(self, directory, uri)
        if (directory / file).exists():
            bucket, prefix = split(uri)
            content = (directory / file).read_bytes()
            key = f"{prefix.rstrip('/')}/{file}"
            if harm == "missing":
                self._s3.delete_object(Bucket=bucket, Key=key)
            else:
                kept = content[: len(content) // 2] if harm == "damaged" else b""
                self._s3.put_object(Bucket=bucket, Key=key, Body=kept)

    monkeypatch.setattr(S3Store, "upload", upload)


#: The error of a code that nobody has seen before.
NEW = "SomethingNewException"


def refused_with(code: str, message: str = "no", **response) -> Exception:
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": response}, "Operation")


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (refused_with("ResourceLimitExceeded", QUOTA), AwsError, "“ml.m5.xlarge for training job usage”"),
        (refused_with("ExpiredToken"), ExpiredError, "sign in again"),
        (refused_with("SignatureDoesNotMatch"), CredentialsError, "does not belong to the access key id"),
        (
            refused_with("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than"),
            CredentialsError,
            "clock is wrong",
        ),
        (refused_with("RequestTimeTooSkewed"), CredentialsError, "clock is wrong"),
        (refused_with("AccessDeniedException"), DeniedError, "facesim policy"),
        (
            refused_with("PermanentRedirect", HTTPHeaders={"x-amz-bucket-region": "eu-west-1"}),
            InputError,
            "--region eu-west-1",
        ),
        (refused_with("BucketAlreadyExists"), InputError, "another --bucket"),
        (refused_with("TooManyBuckets"), InputError, "name one of them"),
        (refused_with("MissingAuthenticationToken"), CredentialsError, "sign in again"),
        (refused_with("KMS.DisabledException"), InputError, "another --kms-key"),
        (refused_with("ThrottlingException"), BusyError, "in a minute"),
        (refused_with("503"), BusyError, "AWS itself has trouble"),
        (refused_with(NEW, HTTPStatusCode=502), BusyError, "AWS itself has trouble"),
        (refused_with(NEW, HTTPStatusCode=429), BusyError, "in a minute"),
        (refused_with(NEW, HTTPStatusCode=403), DeniedError, "facesim policy"),
        (refused_with(NEW, HTTPStatusCode=400), AwsError, NEW),
        (
            ClientError({"Error": {"Code": "400", "Message": "Bad Request"}}, "HeadObject"),
            ExpiredError,
            "sign in again",
        ),
        (ClientError({"Error": {"Code": "400", "Message": "<html>"}}, "CreateTrainingJob"), AwsError, "<html>$"),
        (ClientError({"ResponseMetadata": {"HTTPStatusCode": 502}}, "Operation"), BusyError, "AWS itself has trouble"),
        (refused_with("RequestTimeout", HTTPStatusCode=400), BusyError, "lost on the way"),
        (ResponseParserError("Unable to parse response"), BusyError, "Unable to parse"),
        (
            refused_with("ResourceLimitExceeded", "The account-level service limit for training-job/ml.p2 is 0 Inst"),
            QuotaError,
            "the quota “training-job/ml.p2”",
        ),
        (
            refused_with("ValidationException", "Could not assume role arn:aws:iam::1:role/x"),
            RefusedError,
            "policy trust",
        ),
        (refused_with("ValidationException", "Requested image x not found"), RefusedError, "facesim image build"),
        (refused_with("ValidationException", "The subnet ID 'subnet-0' does not exist"), RefusedError, "one VPC"),
        (SSLError(endpoint_url="https://x", error="CERTIFICATE_VERIFY_FAILED"), AwsError, "AWS_CA_BUNDLE"),
        (ProxyConnectionError(proxy_url="http://127.0.0.1:9"), AwsError, "HTTPS_PROXY"),
        (ConnectTimeoutError(endpoint_url="https://x"), BusyError, "is the network there"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value)[:40],
)
def test_what_aws_says_comes_with_what_to_do(error, kind, advice):
    with pytest.raises(kind, match=advice), asking("do something"):
        raise error


@pytest.fixture
def configuration(monkeypatch, tmp_path):
    """A file in place of ~/.aws/config, with no word from the environment."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    return file


def test_a_malformed_configuration_file_is_told_with_its_name(configuration):
    configuration.write_text("region = [nothing\nx")

    with pytest.raises(InputError, match="config.*mend that file"):
        Account("us-east-1")


@pytest.mark.parametrize(("region", "hint"), [("us-east-7", "did you mean us-east-"), ("mars-1", "give another")])
def test_a_region_that_does_not_exist_is_told(configuration, region, hint):
    with pytest.raises(InputError, match=f"no AWS region '{region}'.*{hint}"):
        Account(region)


@pytest.mark.parametrize("endpoint_url", ["localhost:5055", "127.0.0.1", "example"])
def test_an_endpoint_without_a_scheme_is_told(configuration, monkeypatch, endpoint_url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint_url)

    with pytest.raises(InputError, match="AWS_ENDPOINT_URL.*must be a URL such as https://"):
        Account("us-east-1").client("s3")


def test_every_call_to_s3_says_whose_bucket_it_expects(endpoint, account, job, inputs, tmp_path):
    given = []
    account.session.events.register(
        "before-parameter-build.s3", lambda params, model, **_: given.append((model.name, params))
    )
    made = training_job_request(job, "facesim-one", inputs.folders, site_of(job.backend, Names()))
    run = Run.create(tmp_path / "one", job)

    follow(run, SageMakerJob(run, account, "facesim-one", made))

    assert {name for name, _ in given} >= {"HeadBucket", "PutObject", "ListObjectsV2", "GetObject"}
    silent = {name for name, params in given if params.get("ExpectedBucketOwner") != account.id}
    assert silent == {"CreateBucket"}  # which makes it one's own


def test_a_bucket_of_somebody_else_is_refused_before_anything_is_put_there(
    endpoint, job, inputs, tmp_path, monkeypatch
):
    # moto does not look whose bucket is expected, as AWS does.
    monkeypatch.setattr(S3Response, "head_bucket", lambda self: (403, {}, ""))
    run, execution = submit(job, tmp_path / "one", inputs)

    with pytest.raises(InputError, match="does not belong to the account 123456789012"):
        follow(run, execution)

    with pytest.raises(StopIteration):
        endpoint.job("facesim-one")


def test_a_job_waits_until_the_quota_has_room_for_it(endpoint, faces, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("facesim.backends.sagemaker.calls._ROOM_EVERY_S", 0.05)
    quota = "ml.m5.xlarge for training job usage"
    endpoint.quotas[quota] = 1
    options = {"backend": "sagemaker", "data": str(faces), "image_size": 32, "strategy": "ps-async"}
    job = make_job(**options, instance_type="ml.m5.xlarge", quota_wait_s=60)
    run, execution = submit(job, tmp_path / "one", inputs)

    def once_it_waits(event: dict) -> None:
        if event["event"] == "out_of_reach":
            endpoint.quotas[quota] = 2

    events = follow(run, execution, on=once_it_waits)

    assert quota in messages(events, "quota")[0]
    assert events[-1]["outcome"] == "completed"


def test_a_job_that_aws_has_no_instances_for_is_made_again_until_there_are(
    endpoint, faces, inputs, tmp_path, monkeypatch
):
    monkeypatch.setattr("facesim.backends.sagemaker.creation._CAPACITY_EVERY_S", 0.05)
    endpoint.capacity["ml.m5.xlarge"] = 1
    options = {"backend": "sagemaker", "data": str(faces), "image_size": 32, "strategy": "ps-async"}
    job = make_job(**options, instance_type="ml.m5.xlarge", quota_wait_s=60)
    run, execution = submit(job, tmp_path / "one", inputs)

    def once_it_waits(event: dict) -> None:
        if event["event"] == "out_of_reach":
            endpoint.capacity.clear()

    events = follow(run, execution, on=once_it_waits)

    assert messages(events, "capacity")[0].startswith("CapacityError")
    assert [event["name"] for event in events if event["event"] == "training_job"] == [
        "facesim-one",
        "facesim-one-try2",
    ]
    assert states(events) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert run.plan()["CreateTrainingJob"]["TrainingJobName"] == "facesim-one-try2"  # which `facesim attach` reads


def test_a_job_that_does_not_wait_for_instances_fails_with_the_reason(endpoint, job, inputs, tmp_path):
    endpoint.capacity["ml.m5.xlarge"] = 1
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    assert events[-1]["outcome"] == "failed"
    assert events[-1]["reason"].startswith("CapacityError: Unable to provision")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("response", "operation"), [(S3Response, "head_bucket"), (SageMakerResponse, "create_training_job")]
)
def test_a_job_that_cannot_be_made_as_credentials_have_expired_waits_for_new_ones(
    endpoint, refuse, job, inputs, tmp_path, monkeypatch, response, operation
):
    monkeypatch.setattr("facesim.backends.sagemaker.creation._TRY_AGAIN_S", 0.05)
    run, execution = submit(job, tmp_path / "one", inputs)
    before = execution._account.session
    refused = refuse(response, operation, "ExpiredToken", times=3)

    events = follow(run, execution)

    assert len(refused) == 3
    assert [event["what"] for event in events if event["event"] == "out_of_reach"]
    assert events[-1]["outcome"] == "completed"
    assert execution._account.session is not before


class AsPlanned(Observer):
    """Does something once the study is planned."""

    def __init__(self, then):
        self._then = then

    def planned(self, plan) -> None:
        self._then()


def test_jobs_at_the_same_time_are_sent_as_planned_whatever_becomes_of_the_credentials(
    endpoint, account, refuse, faces, tmp_path, monkeypatch
):
    monkeypatch.setattr("facesim.backends.sagemaker.creation._TRY_AGAIN_S", 0.05)
    options = {"backend": "sagemaker", "data": str(faces), "image_size": 32, "instance_type": "ml.m5.xlarge"}
    jobs = [make_job(**options, seed=seed) for seed in (1, 2)]
    refused = []
    then = AsPlanned(lambda: refused.append(refuse(TokenResponse, "get_caller_identity", "ExpiredToken", times=4)))

    runs = run_study(jobs, tmp_path / "runs", [then], parallel=2)

    assert refused[0]
    assert [run.result()["state"] for run in runs] == [RunState.COMPLETED] * 2
    requests = [run.plan()["CreateTrainingJob"] for run in runs]
    assert {request["RoleArn"].split(":")[4] for request in requests} == {account.id}


def test_a_request_with_placeholders_is_not_sent(endpoint, job, inputs, tmp_path):
    run = Run.create(tmp_path / "one", job)
    made = job.backend.open().render(job, run.directory, inputs)
    execution = job.backend.open().submit(run, replace(made, placeholders=("000000000000 stands for the number",)))

    with pytest.raises(InputError, match="cannot be sent: 000000000000 stands for the number"):
        follow(run, execution)


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_job_that_may_have_been_made_is_no_job_that_was_not(
    endpoint, account, into_a_dead_network, job, inputs, tmp_path, script, monkeypatch, interrupted
):
    monkeypatch.setattr("facesim.backends.sagemaker.creation._TRY_AGAIN_S", 0.05)
    monkeypatch.setattr("facesim.backends.sagemaker.creation._PATIENCE_S", 600 if interrupted else 0.0)
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    into_a_dead_network("create_training_job", "describe_training_job")

    def stop(event: dict) -> None:
        if interrupted and event["event"] == "out_of_reach":
            execution.stop()

    kind = LeftRunning if interrupted else LostSight
    with pytest.raises(kind, match="facesim-one may have been made, and may run at AWS, and cost: .*facesim cancel"):
        follow(run, execution, stop)

    endpoint.job("facesim-one").stop()


@pytest.mark.parametrize("interrupted", [True, False])
def test_a_job_whose_creation_was_answered_into_a_dead_network_is_followed_once_there_is_one(
    endpoint, into_a_dead_network, job, inputs, tmp_path, script, monkeypatch, interrupted
):
    monkeypatch.setattr("facesim.backends.sagemaker.creation._TRY_AGAIN_S", 0.05)
    script.until = threading.Event() if interrupted else None
    run, execution = submit(job, tmp_path / "one", inputs)
    into_a_dead_network("create_training_job", "describe_training_job", times=1)

    def stop(event: dict) -> None:
        if interrupted and event["event"] == "out_of_reach":
            execution.stop()

    events = follow(run, execution, stop)

    assert [event["name"] for event in events if event["event"] == "training_job"] == ["facesim-one"]
    assert events[-1]["outcome"] == ("stopped" if interrupted else "completed")


def test_following_that_ends_before_it_is_known_whether_a_job_was_made_ends_the_job(
    endpoint, into_a_dead_network, job, inputs, tmp_path, script
):
    script.until = threading.Event()
    _, execution = submit(job, tmp_path / "one", inputs)
    into_a_dead_network("create_training_job", "describe_training_job", times=1)
    for event in execution.events(0.05):
        if event and event["event"] == "out_of_reach":
            break

    execution.close()

    assert endpoint.job("facesim-one").ended.wait(10)
    assert endpoint.job("facesim-one").status == "Stopped"


def test_an_interrupt_ends_the_waiting_for_new_credentials(endpoint, refuse, job, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("facesim.backends.sagemaker.creation._TRY_AGAIN_S", 0.05)
    run, execution = submit(job, tmp_path / "one", inputs)
    refuse(SageMakerResponse, "create_training_job", "ExpiredTokenException")

    events = follow(run, execution, lambda event: execution.stop() if event["event"] == "out_of_reach" else None)

    assert events[-1]["outcome"] == "stopped"

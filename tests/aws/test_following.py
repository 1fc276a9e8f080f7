"""A training job from its creation until it is home, against an AWS-shaped endpoint."""

from __future__ import annotations

import json
import threading

import pytest

from facesim.backends.sagemaker.calls import cancel, describe
from facesim.backends.sagemaker.job import LeftRunning, SageMakerJob
from facesim.backends.sagemaker.session import Account
from facesim.billing.bill import make_bill
from facesim.metrics.files import read_samples
from facesim.preflight.checks import preflight
from facesim.runs.directory import Run
from facesim.runs.events import event_of
from facesim.runs.records import TaskOutcome
from facesim.spec.backends import BACKENDS
from facesim.spec.job import changed_job, make_job
from facesim.spec.spot import Spot
from facesim.util.errors import InputError
from tests.aws.conftest import SECRET
from tests.aws.hosts import OUTCOME
from tests.aws.relay import Relay
from tests.support.events import states
from tests.support.executions import follow, submit

#: Each of them takes little, all together a part of a minute.
pytestmark = pytest.mark.slow


def test_a_job_goes_through_sagemakers_states_to_its_end(endpoint, job, inputs, tmp_path):
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    assert states(events) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert (events[-1]["event"], events[-1]["outcome"]) == ("node_ended", "completed")
    assert [event["name"] for event in events if event["event"] == "training_job"] == ["facesim-one"]


def test_what_was_rendered_is_what_aws_is_sent(endpoint, job, inputs, tmp_path):
    rendered = BACKENDS["sagemaker"]().open().render(job, tmp_path / "one", inputs)
    follow(*submit(job, tmp_path / "one", inputs))

    assert endpoint.job("facesim-one").request == rendered.request


def test_results_come_home_into_an_ordinary_run_directory(endpoint, job, inputs, tmp_path):
    run, execution = submit(job, tmp_path / "one", inputs)

    follow(run, execution)

    assert run.model_file.read_bytes() == b"a model"
    assert run.outcome() == TaskOutcome.model_validate(OUTCOME)
    assert sorted(file.name for file in run.logs.iterdir()) == [
        "algo-1.log",
        "algo-2.log",
        "monitor-0-algo-2.log",
        "monitor-0.log",
    ]
    samples = read_samples(run.metrics)
    assert set(samples["run_id"]) == {"one"}
    assert set(samples["source"]) == {"psutil", "training", "cloudwatch"}
    assert not (run.metrics / "live.jsonl").exists()
    assert not list(run.directory.glob(".home-*"))


def test_utilisation_from_cloudwatch_is_in_percent_of_the_host(endpoint, job, inputs, tmp_path, script):
    script.cpu_percent = 50.0  # which CloudWatch tells as 200, of an instance with four vCPUs
    run, execution = submit(job, tmp_path / "one", inputs)

    follow(run, execution)

    samples = read_samples(run.metrics)
    measured = samples[(samples["source"] == "cloudwatch") & (samples["role"] == "host")]
    assert set(measured["host"]) == {"algo-1", "algo-2"}
    assert measured.loc[measured["name"] == "cpu_percent", "value"].tolist() == [50.0, 50.0]
    assert measured.loc[measured["name"] == "cpu_count", "value"].tolist() == [4.0, 4.0]
    assert measured.loc[measured["name"] == "memory_percent", "value"].tolist() == [25.0, 25.0]


def test_what_training_printed_is_a_metric_of_the_job(endpoint, job, inputs, tmp_path):
    run, execution = submit(job, tmp_path / "one", inputs)

    follow(run, execution)

    samples = read_samples(run.metrics)
    points = samples[(samples["source"] == "cloudwatch") & (samples["role"] == "chief")]
    assert dict(zip(points["name"], points["value"])) == {"epoch": 1.0, "loss": 0.5, "held_out_accuracy": 0.75}


def test_while_it_trains_metrics_and_logs_of_every_host_are_here_already(endpoint, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    seen = {}

    for event in execution.events(0.05):
        live = run.metrics / "live.jsonl"
        if event is None and live.exists() and not seen:
            seen = {log.name: log.read_text() for log in run.logs.iterdir()}
            seen["held_out_accuracy"] = read_samples(run.metrics).set_index("name").loc["held_out_accuracy", "value"]
            script.until.set()
    execution.close()

    assert "hello from algo-1, attempt 1" in seen["algo-1.log"]
    assert seen["algo-2.log"] == "hello from algo-2, attempt 1\n"
    assert seen["held_out_accuracy"] == 0.75


def test_data_that_is_there_already_is_not_uploaded_again(endpoint, job, inputs, tmp_path):
    first = follow(*submit(job, tmp_path / "one", inputs))
    second = follow(*submit(job, tmp_path / "two", inputs))

    assert {event["file"] for event in first if event["event"] == "uploaded"} >= {
        "dataset.json",
        "images.u8",
        "labels.npy",
    }
    assert [event for event in second if event["event"] == "uploaded"] == []


def test_an_upload_that_broke_off_goes_on_where_it_was(endpoint, account, job, inputs, tmp_path):
    first = follow(*submit(job, tmp_path / "one", inputs))
    uri = next(event["to"] for event in first if event["event"] == "uploaded")
    bucket, prefix = uri.removeprefix("s3://").split("/", 1)
    account.client("s3").put_object(Bucket=bucket, Key=prefix + "images.u8", Body=b"half of it")

    second = follow(*submit(job, tmp_path / "two", inputs))

    assert [event["file"] for event in second if event["event"] == "uploaded"] == ["images.u8"]


def test_a_failure_is_told_with_its_reason_and_what_there_is_comes_home(endpoint, job, inputs, tmp_path, script):
    script.fails_with = "the loss became nan in epoch 3"
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    assert events[-1]["outcome"] == "failed"
    assert events[-1]["reason"] == "AlgorithmError: the loss became nan in epoch 3"
    assert states(events)[-1] == "Failed"
    assert not read_samples(run.metrics).empty


def test_the_bill_is_what_aws_says(endpoint, account, job, inputs, tmp_path):
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    bill = next(event for event in events if event["event"] == "billed")
    description = describe(account, "facesim-one")
    assert bill["billable_s"] == description["BillableTimeInSeconds"]
    assert bill["instance_s"] == 2 * description["BillableTimeInSeconds"]
    assert bill["cost_usd"] == pytest.approx(2 * 0.230 * description["BillableTimeInSeconds"] / 3600)


def test_stopping_drains_the_job_and_brings_it_home(endpoint, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution, lambda event: execution.stop() if event.get("state") == "Training" else None)

    assert "out_of_reach" not in [event["event"] for event in events]
    assert events[-1]["outcome"] == "stopped"
    assert states(events)[-3:] == ["Stopping", "Uploading", "Stopped"]
    assert run.model_file.exists()


def test_a_second_interrupt_does_not_wait_for_the_job_to_end(endpoint, account, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)

    def interrupt(event):
        if event.get("state") == "Training":
            execution.stop()
        if event["event"] == "stopping":
            execution.kill()

    with pytest.raises(LeftRunning, match="facesim attach .* brings home what it saves, and its bill"):
        follow(run, execution, interrupt)

    assert endpoint.job("facesim-one").ended.wait(10)
    assert run.result() is None
    follow(run, SageMakerJob(run, account, "facesim-one"))
    (billed,) = (event for event in run.events() if event["event"] == "billed")
    assert billed["billable_s"] == endpoint.job("facesim-one").describe()["BillableTimeInSeconds"]
    assert run.model_file.exists()


def test_a_job_that_is_to_be_left_is_left_however_often_it_is_interrupted(endpoint, job, inputs, tmp_path, script):
    """As where the network hangs, and the first Ctrl-C seems to do nothing."""
    script.until = threading.Event()
    left = job.model_copy(update={"backend": job.backend.model_copy(update={"on_interrupt": "leave"})})
    run, execution = submit(left, tmp_path / "one", inputs)

    def interrupt_twice(event):
        if event.get("state") == "Training":
            execution.stop()
            execution.kill()

    with pytest.raises(LeftRunning, match="continues at AWS"):
        follow(run, execution, interrupt_twice)
    execution.close()

    assert endpoint.job("facesim-one").status == "InProgress"


def test_cancelling_twice_is_as_cancelling_once(endpoint, account, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    cancelled = []

    def cancel_twice(event):
        if event.get("state") == "Training":
            cancelled.extend([cancel(account, "facesim-one"), cancel(account, "facesim-one")])

    events = follow(run, execution, cancel_twice)

    assert cancelled == [True, True]
    assert events[-1]["outcome"] == "stopped"
    assert cancel(account, "facesim-one") is False


def test_a_job_that_nobody_follows_any_more_is_stopped(endpoint, job, inputs, tmp_path, script):
    script.until = threading.Event()
    _, execution = submit(job, tmp_path / "one", inputs)
    for event in execution.events(0.05):
        if event and event.get("state") == "Training":
            break

    execution.close()

    assert endpoint.job("facesim-one").ended.wait(10)
    assert endpoint.job("facesim-one").status == "Stopped"


def test_a_job_can_be_left_and_taken_up_again(endpoint, account, job, inputs, tmp_path, script):
    script.until = threading.Event()
    left = job.model_copy(update={"backend": job.backend.model_copy(update={"on_interrupt": "leave"})})
    run, execution = submit(left, tmp_path / "one", inputs)
    with pytest.raises(LeftRunning, match="facesim attach"):
        follow(run, execution, lambda event: execution.stop() if event.get("state") == "Training" else None)
    execution.close()
    assert endpoint.job("facesim-one").status == "InProgress"
    script.until.set()

    events = follow(run, SageMakerJob(run, account, "facesim-one"))

    assert events[-1]["outcome"] == "completed"
    assert states(run.events()) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert run.model_file.exists()


def test_while_aws_is_out_of_reach_the_job_goes_on(endpoint, job, inputs, tmp_path, script, monkeypatch):
    script.until = threading.Event()
    line = Relay(int(endpoint.url.rpartition(":")[2]))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    run, execution = submit(job, tmp_path / "one", inputs)
    lost = []

    def cut(event):
        if event.get("state") == "Training":
            line.cut()
        if event["event"] == "out_of_reach":
            lost.append(event["why"])
            line.mend()
            script.until.set()

    events = follow(run, execution, cut)

    assert len(lost) == 1
    assert events[-1]["outcome"] == "completed"
    line.cut()


def test_a_spot_job_goes_on_from_its_checkpoints_after_an_interruption(endpoint, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job.model_copy(update={"spot": Spot()}), tmp_path / "one", inputs)

    def reclaim(event):
        if event.get("state") == "Training" and not script.until.is_set():  # the first time
            assert script.training.wait(10)
            endpoint.job("facesim-one").interrupt()
        if event.get("state") == "Interrupted":
            script.until.set()

    events = follow(run, execution, reclaim)

    assert states(events) == [
        "Starting", "Downloading", "Training", "Interrupted",
        "Starting", "Downloading", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    assert script.resumed_from == [b"after attempt 1"]
    assert "attempt 1" in run.log_file("algo-1").read_text()
    assert "attempt 2" in run.log_file("algo-1").read_text()


def test_spot_is_billed_for_less_than_its_time_and_says_what_it_saved(endpoint, job, inputs, tmp_path):
    run, execution = submit(job.model_copy(update={"spot": Spot()}), tmp_path / "one", inputs)

    events = follow(run, execution)

    bill = next(event for event in events if event["event"] == "billed")
    description = json.loads((run.directory / "training_job.json").read_text())
    assert bill["spot"]
    assert bill["billable_s"] == description["BillableTimeInSeconds"] <= description["TrainingTimeInSeconds"]
    assert make_bill(run.events(), job.groups).billable_s == description["BillableTimeInSeconds"]


def test_a_run_that_goes_on_is_another_job_with_the_checkpoints_of_the_first(endpoint, job, inputs, tmp_path, script):
    script.fails_with = "an accident"
    run, execution = submit(job, tmp_path / "one", inputs)
    follow(run, execution)
    script.fails_with = None
    where = BACKENDS["sagemaker"]().open()

    again = where.render(job, run.directory, inputs)
    run.record("submitted")
    events = follow(run, where.submit(run, again))

    assert [event["name"] for event in events if event["event"] == "training_job"] == ["facesim-one-again1"]
    assert script.resumed_from == [b"after attempt 1"]
    assert states(events)[-1] == "Completed"


def test_a_run_that_goes_on_keeps_what_its_earlier_jobs_left(endpoint, account, job, inputs, tmp_path, script):
    where = BACKENDS["sagemaker"]().open()
    run, execution = submit(job, tmp_path / "one", inputs)

    def goes_on(prints: str) -> None:
        script.prints, script.fails_with = (prints,), "an accident"
        again = where.render(job, run.directory, inputs)
        run.record("submitted")
        follow(run, where.submit(run, again))

    def points() -> set[tuple[str, float]]:
        samples = read_samples(run.metrics)
        rows = samples[samples["source"] == "cloudwatch"]
        assert not rows.duplicated(["host", "role", "name", "time_unix_s"]).any()
        return set(zip(rows["name"], rows["time_unix_s"]))

    script.prints, script.fails_with = ("the first",), "an accident"
    follow(run, execution)
    before = points()
    goes_on("the second")
    goes_on("the third")
    follow(run, SageMakerJob(run, account, "facesim-one-again2"))  # as after the command was killed at its end

    def printed(log: str) -> list[str]:
        return [line for line in run.log_file(log).read_text().splitlines() if line.startswith("the ")]

    logs = {"algo-1-earlier1": ["the first"], "algo-1-earlier2": ["the second"], "algo-1": ["the third"]}
    assert {log: printed(log) for log in logs} == logs
    assert points() >= before


@pytest.mark.parametrize("completed", [False, True])
def test_a_run_whose_job_goes_on_at_aws_or_has_completed_there_is_not_started_again(
    endpoint, job, inputs, tmp_path, script, completed
):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    for event in execution.events(0.05):
        if event is not None and event["event"] == "training_job":
            break  # as when the command is killed
    where = BACKENDS["sagemaker"]().open()
    if completed:
        script.until.set()
        assert endpoint.job("facesim-one").ended.wait(20)

    with pytest.raises(
        InputError, match="facesim attach .*brings home" if completed else "continues at AWS: `facesim att"
    ):
        where.render(job, run.directory, inputs)

    endpoint.job("facesim-one").stop()


@pytest.mark.parametrize(
    ("elsewhere", "message"),
    [
        ({"region": "eu-west-1"}, "--region us-east-1: its training job may go on there.*give --region us-east-1"),
        ({"bucket": "another-bucket"}, "not in another-bucket; give --bucket sagemaker-us-east-1"),
    ],
)
def test_a_run_does_not_go_on_in_another_place_than_where_its_job_may_still_run(
    endpoint, job, inputs, tmp_path, script, elsewhere, message
):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    for event in execution.events(0.05):
        if event is not None:
            run.record(event_of(event))
            if event["event"] == "training_job":
                break  # as when the command is killed
    other = changed_job(job, elsewhere)

    with pytest.raises(InputError, match=message):
        other.backend.open().render(other, run.directory, inputs)

    endpoint.job("facesim-one").stop()


def test_a_run_that_never_became_a_job_may_go_on_with_another_bucket(endpoint, account, job, inputs, tmp_path):
    wrong = changed_job(job, {"bucket": "bucket-of-nobody"})
    run = Run.create(tmp_path / "one", wrong)
    run.record("submitted")
    run.plan_file.write_text(wrong.backend.open().render(wrong, tmp_path / "two", inputs).to_json())

    again = job.backend.open().render(job, run.directory, inputs)

    assert again.request["CheckpointConfig"]["S3Uri"].startswith("s3://sagemaker-us-east-1-")


def test_a_cluster_with_parameter_servers_of_their_own_is_measured_by_what_each_host_has(
    endpoint, faces, inputs, tmp_path, script
):
    script.cpu_percent = 40.0
    job = make_job(
        backend="sagemaker", data=str(faces), image_size=32, strategy="ps-async", ps_instance_type="ml.m5.large"
    )
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    samples = read_samples(run.metrics)
    measured = samples[(samples["source"] == "cloudwatch") & (samples["role"] == "host")].set_index(["name", "host"])
    assert measured.loc["cpu_count", "value"].to_dict() == {"algo-1": 8.0, "algo-2": 2.0, "algo-3": 8.0}
    assert measured.loc["cpu_percent", "value"].to_dict() == {"algo-1": 40.0, "algo-2": 40.0, "algo-3": 40.0}
    bill = next(event for event in events if event["event"] == "billed")
    assert bill["cost_usd"] == pytest.approx((2 * 0.461 + 0.115) * bill["billable_s"] / 3600)


def test_an_interrupt_before_the_job_exists_creates_none(endpoint, job, inputs, tmp_path):
    run, execution = submit(job, tmp_path / "one", inputs)
    execution.stop()

    events = follow(run, execution)

    assert events[-1]["outcome"] == "stopped"
    with pytest.raises(StopIteration):
        endpoint.job("facesim-one")


def test_credentials_are_nowhere_in_what_is_left(endpoint, job, inputs, tmp_path, script):
    script.prints = (f"my key is {SECRET}", "AWS_SECRET_ACCESS_KEY=abc123def456", "id AKIAIOSFODNN7EXAMPLE")
    run, execution = submit(job, tmp_path / "one", inputs)

    follow(run, execution)

    kept = b"".join(path.read_bytes() for path in run.directory.rglob("*") if path.is_file())
    assert b"my key is [removed]" in kept
    for secret in (SECRET, "AKIAEXAMPLEEXAMPLE12", "AKIAIOSFODNN7EXAMPLE", "abc123def456"):
        assert secret.encode() not in kept


def test_without_credentials_it_is_said_what_to_do(endpoint, job, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(InputError, match="no AWS credentials; run `aws configure`"):
        preflight([job], [tmp_path / "one"])  # which a run goes through before it is submitted


def test_without_a_region_it_is_said_what_to_do(monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(InputError, match="give --region"):
        Account()

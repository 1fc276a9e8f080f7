"""The command line at AWS, against an AWS-shaped endpoint."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from moto.logs.responses import LogsResponse
from moto.sagemaker.responses import SageMakerResponse

from facesim.backends.sagemaker.validation import problems
from facesim.cli import main
from facesim.runs.directory import find_runs
from tests.conftest import facesim

SMALL = ("--backend", "sagemaker", "--image-size", "32", "--instance-type", "ml.m5.xlarge")


@pytest.fixture
def options(faces, tmp_path) -> list[str]:
    return [*SMALL, "--data", str(faces), "--output", str(tmp_path / "runs")]


@pytest.fixture
def ended(endpoint, options, tmp_path, capsys):
    """A run at AWS that has ended."""
    assert main(["run", *options]) == 0
    capsys.readouterr()
    (run,) = find_runs([tmp_path / "runs"])
    return run


def test_a_dry_run_prints_a_request_that_aws_would_take_and_starts_nothing(
    endpoint, account, options, tmp_path, capsys
):
    assert main(["compare", *options, "--dry-run"]) == 0

    output = json.loads(capsys.readouterr().out)
    requests = [run["request"]["CreateTrainingJob"] for run in output["runs"]]
    assert [problems("CreateTrainingJob", request) for request in requests] == [[], []]
    assert [request["ResourceConfig"]["InstanceCount"] for request in requests] == [1, 2]
    assert "can cost up to $18.33" in output["estimate"]
    assert account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_with_everything_named_needs_no_aws_at_all(options, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/i:1"
    named = [
        "--region",
        "eu-west-1",
        "--role",
        "arn:aws:iam::123456789012:role/r",
        "--bucket",
        "a-bucket",
        "--image",
        image,
    ]

    assert main(["run", *options, *named, "--dry-run"]) == 0

    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["request"]["CreateTrainingJob"]["AlgorithmSpecification"]["TrainingImage"] == image


def test_what_could_cost_too_much_is_refused_before_anything_is_started(endpoint, account, options, tmp_path, capsys):
    assert main(["run", *options, "--max-cost", "1", "--max-run", "36000"]) == 2

    assert "more than --max-cost 1; it fits with --max-run 13663" in capsys.readouterr().err
    assert account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []
    assert account.client("s3").list_buckets()["Buckets"] == []
    assert not (tmp_path / "runs").exists()


def test_a_run_ends_in_table_report_and_the_bill_that_aws_told(endpoint, options, tmp_path, capsys):
    assert main(["run", *options]) == 0

    shown = capsys.readouterr().out
    (run,) = find_runs([tmp_path / "runs"])
    result = run.result()
    job = json.loads((run.directory / "training_job.json").read_text())
    assert "can cost up to $6.25" in shown
    assert f"{endpoint.url} is not AWS: what runs there is emulated" in shown
    assert "numbers are" in shown and "measured" not in shown
    assert (result["state"], result["measurement"], result["backend"]) == ("Completed", "emulated", "sagemaker")
    assert result["held_out_accuracy"] == 0.75
    assert result["billing"]["billable_s"] == job["BillableTimeInSeconds"]
    assert result["cost_usd"] == pytest.approx(0.230 * job["BillableTimeInSeconds"] / 3600)
    (report,) = (tmp_path / "runs").glob("report-*.html")
    assert "sagemaker" in report.read_text()


@pytest.mark.parametrize(
    ("url", "emulated"),
    [
        (None, False),
        ("https://api.sagemaker.us-east-1.amazonaws.com", False),
        ("https://vpce-1-2.sagemaker.us-east-1.vpce.amazonaws.com", False),
        ("http://127.0.0.1:5055", True),
        ("http://localhost:4566", True),
        ("https://amazonaws.com.example.org", True),
    ],
)
def test_only_an_endpoint_of_aws_measures(url, emulated, endpoint, monkeypatch):
    from facesim.backends.sagemaker.session import Account

    monkeypatch.delenv("AWS_ENDPOINT_URL")
    if url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", url)

    assert Account().emulator == (url if emulated else None)


def test_a_failed_job_is_a_failed_run_with_the_reason_of_its_host(endpoint, options, tmp_path, capsys, script):
    script.fails_with = "the loss became nan"

    assert main(["run", *options]) == 1

    (run,) = find_runs([tmp_path / "runs"])
    assert run.result()["state"] == "Failed"
    assert run.result()["failure"] == "AlgorithmError: the loss became nan"


@pytest.mark.slow
def test_status_logs_and_cancel_take_a_run_or_the_name_of_a_job(ended, capsys):
    for target in (str(ended.directory), f"facesim-{ended.id}"):
        assert main(["status", target]) == 0
        assert f"facesim-{ended.id}: Completed" in capsys.readouterr().out
        assert main(["logs", target, "--follow"]) == 0
        assert "algo-1  hello from algo-1, attempt 1" in capsys.readouterr().out
        assert main(["cancel", target]) == 0
        assert "had ended already" in capsys.readouterr().out
    assert main(["status"]) == 0
    assert f"facesim-{ended.id} " in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_asked_for_where_it_was_made_whatever_region_is_the_users_by_now(ended, capsys, monkeypatch):
    ended.result_file.unlink()
    monkeypatch.setenv("AWS_REGION", "eu-west-1")

    for verb in ("status", "logs", "cancel", "attach"):
        assert main([verb, str(ended.directory)]) == 0, capsys.readouterr().err
    assert main(["status", str(ended.directory), "--region", "eu-west-1"]) != 0


@pytest.mark.slow
def test_a_job_that_the_account_does_not_have_is_not_waited_for(ended, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("facesim.backends.remote_job._DENIED_S", 0.01)
    ended.result_file.unlink()
    told = f"the AWS account 123456789012 has no training job facesim-{ended.id} in eu-west-1: give the --region that"

    for named in (ended.directory, f"facesim-{ended.id}"):
        assert main(["attach", str(named), "--region", "eu-west-1", "--output", str(tmp_path / "elsewhere")]) == 1
        errors = capsys.readouterr().err
        assert told in errors and "AWS_PROFILE" in errors and "continues at AWS" not in errors
    assert main(["attach", str(ended.directory)]) == 0


@pytest.mark.slow
def test_following_logs_survives_that_aws_does_not_answer_for_a_while(ended, refuse, capsys, monkeypatch):
    monkeypatch.setattr("facesim.backends.sagemaker.backend._LOGS_EVERY_S", 0.05)
    refuse(LogsResponse, "get_log_events", "ServiceUnavailableException", times=8)
    refuse(SageMakerResponse, "describe_training_job", "ExpiredTokenException", times=2)

    assert main(["logs", str(ended.directory), "--follow"]) == 0

    output = capsys.readouterr().out
    assert "algo-1  hello from algo-1, attempt 1" in output
    assert "sign in again; it is asked again" in output
    assert "AWS itself has trouble" in output
    refuse(LogsResponse, "get_log_events", "AccessDeniedException")
    assert main(["logs", str(ended.directory), "--follow"]) != 0


@pytest.mark.slow
def test_attaching_by_name_makes_the_run_again_from_what_is_at_aws(ended, tmp_path, capsys):
    assert main(["attach", f"facesim-{ended.id}", "--output", str(tmp_path / "elsewhere")]) == 0

    (again,) = find_runs([tmp_path / "elsewhere"])
    assert again.directory != ended.directory
    for name in ("state", "held_out_accuracy", "cost_usd"):
        assert again.result()[name] == ended.result()[name]


@pytest.mark.slow
def test_a_run_that_was_attached_to_by_name_goes_on_as_it_was_started(endpoint, options, tmp_path, script):
    """With its isolation, network, key and role: from here nobody has named them."""
    network = ["--subnets", "subnet-0a1", "--security-groups", "sg-0a1", "--network-isolation", "--encrypt-traffic"]
    script.fails_with = "the loss became nan"
    assert main(["run", *options, *network, "--role", "our-role", "--kms-key", "alias/ours"]) == 1
    (run,) = find_runs([tmp_path / "runs"])
    assert main(["attach", f"facesim-{run.id}", "--output", str(tmp_path / "elsewhere")]) == 1
    (again,) = find_runs([tmp_path / "elsewhere"])
    script.fails_with = None

    assert main(["run", "--resume", str(again.directory)]) == 0

    first, second = (dict(endpoint.job(name).request) for name in (f"facesim-{run.id}", _job_of(again)))
    assert first.pop("TrainingJobName") != second.pop("TrainingJobName")
    assert second == first


def _job_of(run):
    return run.plan()["CreateTrainingJob"]["TrainingJobName"]


@pytest.mark.slow
def test_attaching_to_a_folder_follows_every_run_of_it_that_has_not_ended(ended, tmp_path, capsys):
    ended.result_file.unlink()  # as if the command that followed it had been killed

    assert main(["attach", str(tmp_path / "runs")]) == 0

    assert ended.result()["state"] == "Completed"
    assert (tmp_path / "runs" / "report.html").exists()
    assert main(["attach", str(tmp_path)]) == 0  # all have ended: that is reported


@pytest.mark.slow
def test_jobs_of_a_study_run_together_as_far_as_the_quota_goes(endpoint, options, tmp_path, monkeypatch, script):
    monkeypatch.setattr("facesim.backends.sagemaker.calls._ROOM_EVERY_S", 0.05)
    endpoint.quotas["ml.m5.xlarge for training job usage"] = 2
    script.until = threading.Event()
    script.training_jobs_due = 2

    def once_two_train() -> None:
        assert script.all_training.wait(60)
        script.until.set()

    watcher = threading.Thread(target=once_two_train)
    watcher.start()

    assert main(["run", *options, "--seeds", "3", "--parallel", "3"]) == 0

    watcher.join()
    runs = find_runs([tmp_path / "runs"])
    assert [run.result()["state"] for run in runs] == ["Completed"] * 3
    waited = [event for run in runs for event in run.events() if event["event"] == "out_of_reach"]
    assert {event["what"] for event in waited} == {"quota"}


@pytest.mark.slow
def test_a_job_that_is_stopped_in_aws_console_ends_its_study_and_that_is_said(endpoint, options, capsys, script):
    script.until = threading.Event()  # until it is stopped

    def stop_it() -> None:
        assert script.training.wait(60)
        (job,) = endpoint.training_jobs("123456789012", "us-east-1").all()
        job.stop()

    watcher = threading.Thread(target=stop_it)
    watcher.start()

    assert main(["run", *options, "--seeds", "3"]) == 130

    watcher.join()
    assert "a run that is stopped ends its study; not run: 2 of 3 jobs" in capsys.readouterr().out


@pytest.mark.slow
def test_attaching_to_a_study_follows_what_was_submitted_and_runs_the_rest(endpoint, options, tmp_path, script):
    script.until = threading.Event()
    script.training_jobs_due = 2
    study = [sys.executable, "-m", "facesim", "run", *options, "--seeds", "3", "--parallel", "2"]
    command = subprocess.Popen(study, stdout=subprocess.DEVNULL)
    assert script.all_training.wait(60)
    command.kill()  # as when a laptop's battery is empty
    command.wait()
    script.until.set()
    (file,) = (tmp_path / "runs" / "studies").glob("*.json")

    assert main(["attach", str(file)]) == 0

    runs = find_runs([tmp_path / "runs"])
    assert [run.result()["state"] for run in runs] == ["Completed"] * 3
    assert sorted(job.name for job in endpoint.training_jobs("123456789012", "us-east-1").all()) == sorted(
        f"facesim-{run.id}" for run in runs
    )  # none was started twice


def test_a_job_that_is_not_there_is_an_error_in_words(endpoint, capsys):
    assert main(["status", "facesim-nobody"]) == 1

    assert "has no training job facesim-nobody in us-east-1: give the --region that" in capsys.readouterr().err


@pytest.mark.slow
def test_jobs_at_aws_are_listed_and_told_in_the_words_of_every_backend(ended, capsys):
    assert main(["list", "--backend", "sagemaker", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert main(["status", str(ended.directory), "--json"]) == 0
    output = json.loads(capsys.readouterr().out)

    assert (listed["name"], listed["state"], listed["running"]) == (f"facesim-{ended.id}", "Completed", False)
    assert (output["state"], output["running"], output["strategy"]) == ("Completed", False, "single")
    assert output["tested_in_words"] == "held-out"
    assert [name for name, _, _ in output["spans"]][-1] == "Completed"
    assert output["description"]["TrainingJobStatus"] == "Completed"
    assert main(["logs", str(ended.directory), "--host", "algo-1", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["source"] for line in lines} == {"algo-1"}
    assert main(["cancel", str(ended.directory), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "name": f"facesim-{ended.id}", "state": "Completed", "ended_before": True,
    }  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_can_leave_the_job_and_attach_takes_it_up(endpoint, options, tmp_path, script):
    script.until = threading.Event()
    command = subprocess.Popen(
        [sys.executable, "-m", "facesim", "run", *options, "--on-interrupt", "leave"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert script.training.wait(60)
    command.send_signal(signal.SIGINT)
    _, output = command.communicate(timeout=60)
    assert command.returncode == 130
    assert "facesim attach" in output
    (run,) = find_runs([tmp_path / "runs"])
    assert run.result() is None
    assert endpoint.job(f"facesim-{run.id}").status == "InProgress"

    script.until.set()
    attached = facesim("attach", run.directory)

    assert attached.code == 0, attached.errors
    assert run.result()["state"] == "Completed"


@pytest.mark.slow
def test_ctrl_c_without_a_terminal_stops_the_job_and_brings_it_home(endpoint, options, tmp_path, script):
    script.until = threading.Event()
    command = subprocess.Popen([sys.executable, "-m", "facesim", "run", *options], stdout=subprocess.DEVNULL)
    assert script.training.wait(60)

    command.send_signal(signal.SIGINT)

    assert command.wait(60) == 130
    (run,) = find_runs([tmp_path / "runs"])
    assert run.result()["state"] == "Stopped"
    assert run.model_file.exists()


def test_the_emulator_is_an_endpoint_that_any_aws_client_finds_by_one_variable(tmp_path):
    import boto3

    command = subprocess.Popen(
        [sys.executable, "-m", "facesim", "emulator", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        line = command.stdout.readline()
        settings = dict(word.split("=", 1) for word in line.split()[1:])
        client = boto3.client(
            "sts",
            settings["AWS_REGION"],
            endpoint_url=settings["AWS_ENDPOINT_URL"],
            aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        )
        assert client.get_caller_identity()["Account"].isdigit()
    finally:
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=30)
    assert command.returncode == 0


def test_an_emulator_that_cannot_listen_says_so(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert main(["emulator", "--port", str(port)]) == 1

    assert f"cannot listen on 127.0.0.1, port {port}: Address already in use" in capsys.readouterr().err


def test_policy_prints_what_has_to_be_allowed(endpoint, capsys):
    for name in ("user", "role", "trust"):
        assert main(["policy", name]) == 0
        assert json.loads(capsys.readouterr().out)["Statement"]
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [["--bucket", "s3://mine/"], ["--bucket", "a..b"], ["--prefix", "../x"], ["--role", "two words"]]
)
def test_a_policy_is_not_written_for_names_that_aws_does_not_take(endpoint, capsys, option):
    assert main(["policy", *option]) == 2
    assert f"{option[0]} {option[1]} is not allowed" in capsys.readouterr().err

"""Forecasts beside what is paid for at AWS, and the job that measures an instance type, at an AWS-shaped endpoint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from facesim.backends.sagemaker.bill import AFTER_S
from facesim.cli import main
from facesim.forecast.profile_data import Compute, FixedTimes, Machine, Profile, Ring, Server, Variable
from facesim.planning.expectations import forecast_lines
from facesim.planning.saved import instances_file
from facesim.preflight.inputs import prepare_inputs
from facesim.profiling.profile import profile_file
from facesim.runs.directory import find_runs
from facesim.spec.job import make_job
from tests.support.kernels import keep

pytestmark = pytest.mark.usefixtures("own_cache")

SMALL = ("--image-size", "32")


def variable(number: int, shape: tuple[int, ...]) -> Variable:
    size = 4 * math.prod(shape)
    return Variable(name=f"v{number}", shape=shape, held_bytes=size, sent_bytes=size)


@pytest.fixture
def profiled(faces: Path, own_cache: Path) -> Profile:
    """This machine has a profile of the paper's network on the small faces."""
    profile = Profile(
        created="2026-11-26T00:00:00Z",
        machine=Machine(cores=2, sgemm_gflops=150),
        model="paper-cnn",
        batch=32,
        examples=64,
        compute=(Compute(batch=8, step_s=0.02, cv=0.05), Compute(batch=32, step_s=0.06, cv=0.05)),
        variables=(variable(0, (4608, 256)), variable(1, (256,))),
        server=Server(message_s=1e-4, byte_s=1e-9, saturation_s=0.01),
        ring=Ring(alpha_s=2e-4, byte_s=3e-10),
        fixed=FixedTimes(start_s=5, first_step_s=2, evaluation_s=0.3),
    )
    job = make_job(data=str(faces), image_size=32)
    keep()  # the profile is of a machine and its kernels
    file = profile_file(job, prepare_inputs(job, lambda *_: None))
    file.parent.mkdir(parents=True, exist_ok=True)
    profile.save(file)
    return profile


@pytest.fixture
def options(faces, tmp_path) -> list[str]:
    return [*SMALL, "--data", str(faces), "--output", str(tmp_path / "runs")]


def test_a_dry_run_shows_the_forecast_beside_what_it_can_cost(endpoint, profiled, options, capsys):
    kind = ("--backend", "sagemaker", "--instance-type", "ml.m5.xlarge")

    assert main(["compare", *options, *kind, "--workers", "3", "--dry-run"]) == 0

    output = json.loads(capsys.readouterr().out)
    assert "can cost up to $" in output["estimate"]
    single, cluster, both = output["forecast"]
    assert single.startswith("forecast: single on ml.m5.xlarge: ") and "8 times in 10; bound by " in single
    assert cluster.startswith("forecast: ps-async, 3 workers, 1 ps on ml.m5.xlarge: ")
    assert both.startswith("forecast of all 2 jobs: $")


def test_a_forecast_says_what_ends_the_job_before_it_is_done(profiled, faces):
    job = make_job(data=str(faces), image_size=32, backend="sagemaker", max_run=60)

    forecast, limit = forecast_lines([job], [prepare_inputs(job, lambda *_: None)])

    assert forecast.startswith("forecast: single on ") and limit.startswith("--max-run 60 is not looked at: it ends")


def test_the_sum_of_forecasts_says_of_how_many_jobs_it_is(profiled, faces):
    kinds = ("ml.m5.xlarge", "ml.m5.2xlarge", "ml.g5.xlarge")
    jobs = [make_job(data=str(faces), image_size=32, backend="sagemaker", instance_type=kind) for kind in kinds]

    inputs = [prepare_inputs(job, lambda *_: None) for job in jobs]

    *_, unknown, together = forecast_lines(jobs, inputs)

    assert unknown.startswith("no forecast of single: nobody knows how fast ml.g5.xlarge trains")
    assert together.startswith("forecast of 2 of 3 jobs: $")


@pytest.mark.parametrize("abroad", [False, True])
def test_a_cap_goes_by_the_region_of_the_job_wherever_the_account_is(endpoint, options, monkeypatch, capsys, abroad):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1" if abroad else "eu-west-1")
    command = ["run", *options, "--backend", "sagemaker", "--region", "eu-west-1" if abroad else "us-east-1"]

    assert main([*command, "--max-cost", "500", "--dry-run"]) == (2 if abroad else 0)
    told = capsys.readouterr()
    assert ("--max-cost 500 cannot be kept to: prices are those of us-east-1, not of eu-west-1" in told.err) is abroad
    assert main([*command, "--dry-run"]) == 0
    assert (
        "prices are those of us-east-1, not of eu-west-1" in json.loads(capsys.readouterr().out)["estimate"]
    ) is abroad


def test_without_a_profile_a_dry_run_says_how_to_have_a_forecast(endpoint, options, faces, capsys):
    assert main(["run", *options, "--backend", "sagemaker", "--dry-run"]) == 0

    (forecast,) = json.loads(capsys.readouterr().out)["forecast"]
    assert forecast.startswith(f"no forecast: facesim profile --data {faces} --image-size 32 measures this machine")


def test_a_dry_run_that_costs_nothing_needs_no_forecast(options, capsys):
    assert main(["run", *options, "--dry-run"]) == 0

    assert "forecast" not in json.loads(capsys.readouterr().out)


def test_a_paid_run_begins_with_its_forecast_and_ends_against_it(endpoint, profiled, options, tmp_path, capsys):
    assert main(["run", *options, "--backend", "sagemaker", "--instance-type", "ml.m5.xlarge"]) == 0

    output = capsys.readouterr().out
    assert output.index("can cost up to $") < output.index("notice: forecast: single on ml.m5.xlarge: ")
    (run,) = find_runs([tmp_path / "runs"])
    forecast = run.forecast()
    assert forecast.instance_type == "ml.m5.xlarge" and forecast.total_s > 100
    assert "its 80 % interval" in " ".join(output.split())


def test_the_job_that_measures_a_type_is_short_and_has_a_limit(endpoint, account, profiled, options, tmp_path, capsys):
    assert main(["calibrate", "--instance-type", "ml.c5.2xlarge", *options, "--dry-run"]) == 0

    output = json.loads(capsys.readouterr().out)
    (run,) = output["runs"]
    request = run["request"]["CreateTrainingJob"]
    assert request["ResourceConfig"]["InstanceType"] == "ml.c5.2xlarge"
    assert request["ResourceConfig"]["InstanceCount"] == 1
    limit_s = request["StoppingCondition"]["MaxRuntimeInSeconds"]
    assert 180 < limit_s < 1800
    assert f"${0.408 * (limit_s + AFTER_S) / 3600:.2f} instances" in output["estimate"]
    # A little more than two minutes of training, and what is around it.
    (forecast,) = output["forecast"]
    assert forecast.startswith("forecast: single on ml.c5.2xlarge: ") and " min " in forecast
    assert account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_the_job_that_measures_a_type_is_of_the_images_that_there_are(endpoint, profiled, options, tmp_path, capsys):
    file = tmp_path / "profile.json"
    profiled.model_copy(update={"examples": 64_000, "identities": 800}).save(file)
    command = ["calibrate", "--instance-type", "ml.c5.2xlarge", *options, "--dry-run"]

    forecasts = []
    for more in ([], ["--profile", str(file)]):
        assert main([*command, *more]) == 0
        shown = capsys.readouterr()
        forecasts += json.loads(shown.out)["forecast"]

    assert forecasts[0] == forecasts[1]  # as many epochs
    assert "was measured with 800 identities, the data has 8" in shown.err


def test_what_an_emulated_instance_took_is_not_learnt(endpoint, account, profiled, options, tmp_path, capsys):
    assert main(["calibrate", "--instance-type", "ml.c5.2xlarge", *options]) == 0

    assert "the numbers are emulated: nothing is learnt of ml.c5.2xlarge" in capsys.readouterr().out
    (job,) = account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    assert job["TrainingJobStatus"] == "Completed"
    assert not instances_file().exists()


def test_a_type_that_nobody_has_and_a_cost_above_the_cap_are_refused(endpoint, account, profiled, options, capsys):
    assert main(["calibrate", "--instance-type", "ml.c5.huge", *options]) == 2
    assert "ml.c5.huge" in capsys.readouterr().err
    assert main(["calibrate", "--instance-type", "ml.c5.2xlarge", "--max-cost", "0.01", *options]) == 2
    assert "more than --max-cost 0.01" in capsys.readouterr().err
    assert account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []

"""A search by SageMaker's own tuner, against an AWS-shaped endpoint: its request, its trials, and how it is stopped."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from moto.sagemaker.responses import SageMakerResponse

from cluster.hosted.contract import Contract
from facesim.api import Tuning
from facesim.backends import hosted
from facesim.backends.sagemaker.tuning import describe, training_jobs, tuning_job
from facesim.backends.sagemaker.validation import problems
from facesim.backends.training_job import BOOTSTRAP, checkpoints_of, job_json, job_of
from facesim.cli.tune import show_tuning
from facesim.runs.directory import find_runs
from facesim.spec.job import make_job
from facesim.study.observers import Observer
from facesim.tuning.findings import find
from facesim.tuning.sagemaker import kept_in
from facesim.tuning.sagemaker_request import plan_search
from facesim.tuning.search import Search, Tuner
from facesim.tuning.space import read_space
from facesim.util.errors import InputError, StillRunning
from tests.conftest import facesim_here, parse

pytest.importorskip("optuna", reason="the extra tune is not installed")

SPACE = {"learning_rate": "1e-4..1e-2", "batch": "8,16", "augment": "yes,no", "warmup_epochs": "1..9"}


@pytest.fixture(autouse=True)
def hurried_tuner(monkeypatch):
    monkeypatch.setattr("facesim.tuning.sagemaker._LOOK_EVERY_S", 0.1)
    monkeypatch.setattr("facesim.tuning.sagemaker._TICK_S", 0.02)


@pytest.fixture
def arguments(endpoint, faces, tmp_path) -> list[str]:
    space = [f"--search={name.replace('_', '-')}={values}" for name, values in SPACE.items()]
    return [
        "tune", "--backend=sagemaker", "--tuner=sagemaker", "--image-size=32", "--instance-type=ml.m5.xlarge",
        f"--data={faces}", f"--output={tmp_path / 'tune'}", "--validation=0.2", *space,
    ]  # fmt: skip


@pytest.fixture
def search(endpoint, faces) -> Search:
    given = {"backend": "sagemaker", "data": str(faces), "image_size": 32, "instance_type": "ml.m5.xlarge"}
    return Search(given, read_space(SPACE), trials=3, tuner=Tuner())


def made_nothing(account) -> bool:
    return not account.client("sagemaker").list_training_jobs()["TrainingJobSummaries"]


def test_a_dry_run_prints_the_request_that_aws_would_take_and_starts_nothing(arguments, account, tmp_path):
    command = facesim_here(*arguments, "--dry-run", "--trials=3", "--parallel=2", "--deadline=2h", "--spot", "--seed=3")

    shown = parse(command)
    request = shown["request"]["CreateHyperParameterTuningJob"]
    assert problems("CreateHyperParameterTuningJob", request) == []
    config, definition = request["HyperParameterTuningJobConfig"], request["TrainingJobDefinition"]
    assert config["ParameterRanges"] == {
        "ContinuousParameterRanges": [
            {"Name": "learning_rate", "MinValue": "0.0001", "MaxValue": "0.01", "ScalingType": "Logarithmic"}
        ],
        "CategoricalParameterRanges": [
            {"Name": "batch", "Values": ["8", "16"]},
            {"Name": "augment", "Values": ["true", "false"]},
        ],
        "IntegerParameterRanges": [
            {"Name": "warmup_epochs", "MinValue": "1", "MaxValue": "9", "ScalingType": "Linear"}
        ],
    }
    assert config["Strategy"] == "Bayesian" and config["TrainingJobEarlyStoppingType"] == "Auto"
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Maximize", "MetricName": "held_out_accuracy"}
    limits = {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 2, "MaxRuntimeInSeconds": 7200}
    assert config["ResourceLimits"] == limits and config["RandomSeed"] == 3
    metrics = [one["Name"] for one in definition["AlgorithmSpecification"]["MetricDefinitions"]]
    assert "held_out_accuracy" in metrics
    assert definition["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400}
    assert definition["EnableManagedSpotTraining"]
    assert job_of(definition["StaticHyperParameters"]).experiment.validation == 0.2
    assert "no more than 2 trials can run to their end: the 2 training jobs can cost up to" in shown["estimate"]
    assert shown["forecast"][0].startswith("each trial: ")
    assert made_nothing(account) and not (tmp_path / "tune").exists()


def test_only_trials_on_spot_capacity_are_given_the_checkpoints_of_all(search, tmp_path):
    spot = replace(search, given={**search.given, "spot": True})

    definitions = [plan_search(one, tmp_path / "tune").job.request["TrainingJobDefinition"] for one in (search, spot)]

    assert ["CheckpointConfig" in definition for definition in definitions] == [False, True]


def test_hyperband_ends_trials_by_itself(arguments):
    request = parse(facesim_here(*arguments, "--dry-run", "--tuner-strategy=hyperband", "--epochs=6"))["request"]

    config = request["CreateHyperParameterTuningJob"]["HyperParameterTuningJobConfig"]
    assert (config["Strategy"], config["TrainingJobEarlyStoppingType"]) == ("Hyperband", "Off")
    assert config["StrategyConfig"] == {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": 7}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trials=751"], "--trials 751: a tuning job has 750 at the most"),
        (["--parallel=4"], "--parallel 4: at the most 3 of 3 trials"),
        (["--deadline=60s"], "a tuning job has 120 s to"),
        (["--search=momentum=" + ",".join(str(one / 100) for one in range(31))], "momentum has 31 values: 30 are"),
        (["--backend=local"], "--tuner sagemaker is for --backend sagemaker, not local"),
        (["--tuner=optuna", "--parallel=2"], "--parallel is for --tuner sagemaker"),
        (["--tensorboard"], "--tensorboard does not go with --tuner sagemaker"),
        (["--search=cache=memory,none"], "--search cache: SageMaker's tuner gives all trials the same input"),
        (["--max-cost=1"], "more than --max-cost 1; it fits with --max-run"),
        (["--budget=1", "--max-run=9000"], "more than --budget 1; it fits with --max-run"),
        (["--budget=5", "--region=eu-west-1"], "--budget 5 cannot be kept to: prices are those of us-east-1"),
        (["--tuner=optuna", "--budget=5", "--region=eu-west-1"], "--budget 5 cannot be kept to: prices are those of"),
        (["--budget=0.05"], "too little for 3 trials, of which each has its instances for 300 s at the least: there"),
    ],
)
def test_what_sagemaker_cannot_search_is_refused_before_anything_is_paid(
    arguments, account, tmp_path, options, message
):
    replaced = {option.partition("=")[0] for option in options} - {"--search"}
    kept = [one for one in (*arguments, "--trials=3") if one.partition("=")[0] not in replaced]

    command = facesim_here(*kept, *options)

    assert command.code == 2 and message in command.errors
    assert made_nothing(account) and not (tmp_path / "tune").exists()


def test_a_budget_is_the_time_that_each_trial_has(arguments):
    shown = parse(facesim_here(*arguments, "--dry-run", "--trials=3", "--budget=1"))

    stop = shown["request"]["CreateHyperParameterTuningJob"]["TrainingJobDefinition"]["StoppingCondition"]
    assert 300 < stop["MaxRuntimeInSeconds"] < 6000
    assert "can cost up to $1.00" in shown["estimate"] or "can cost up to $0.99" in shown["estimate"]


class InterruptsTheFirst(Observer):
    """Does what Ctrl-C does, once a trial has begun."""

    def noticed(self, text: str) -> None:
        if text.startswith("trial 1 "):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_trials_come_home_as_runs_with_the_report_of_any_search(arguments, account, tmp_path, script):
    script.accuracy = lambda given: 0.9 if given["batch"] == "16" else 0.5

    report = parse(facesim_here(*arguments, "--trials=4", "--parallel=2", "--json"))

    trials = report["trials"]
    assert [trial["state"] for trial in trials] == ["complete"] * 4
    assert {trial["params"]["batch"]: trial["validation_accuracy"] for trial in trials} == {8: 0.5, 16: 0.9}
    assert report["best"]["params"]["batch"] == 16 and "--batch 16" in report["command"]
    assert max(report["importance"], key=report["importance"].get) == "batch"
    assert Path(report["report"]).read_text().count("<svg") == 3
    for trial in trials:
        (run,) = [run for run in find_runs([tmp_path / "tune"]) if str(run.directory) == trial["run"]]
        experiment = run.job().experiment
        assert {name: getattr(experiment, name) for name in trial["params"]} == trial["params"]
        assert run.result().backend == "sagemaker" and run.model_file.exists()
    counters = describe(account, kept_in(tmp_path / "tune").name)["TrainingJobStatusCounters"]
    assert counters["Completed"] == 4

    again = parse(facesim_here(*arguments, "--trials=4", "--parallel=2", "--json"))  # all is home
    assert again["trials"] == trials
    more = facesim_here(*arguments, "--trials=5", "--parallel=2")
    assert more.code == 2 and "not even --trials" in more.errors


@pytest.mark.slow
def test_a_search_that_is_left_is_attached_to_and_cancelled(search, account, endpoint, tmp_path, script):
    script.until = threading.Event()
    output = tmp_path / "tune"
    leaves = Search({**search.given, "on_interrupt": "leave"}, search.space, trials=3, tuner=Tuner(parallel=2))
    with pytest.raises(StillRunning, match=f"facesim attach {output}.*facesim cancel {output}"):
        find(leaves, output, [InterruptsTheFirst()])
    name = kept_in(output).name

    cancelled = json.loads(facesim_here("cancel", output, "--json").output)
    assert cancelled["name"] == name and not cancelled["ended_before"]
    attached = facesim_here("attach", output, "--json")

    assert attached.code == 1, "no trial is complete"
    report = json.loads(attached.output)
    assert {trial["state"] for trial in report["trials"]} == {"pruned"} and len(report["trials"]) <= 2
    assert describe(account, name)["HyperParameterTuningJobStatus"] == "Stopped"
    assert json.loads(facesim_here("cancel", name, "--json").output)["ended_before"]


@pytest.mark.slow
def test_ctrl_c_stops_the_tuning_job_and_brings_home_what_there_is(search, account, tmp_path, script):
    script.until = threading.Event()

    findings = find(search, tmp_path / "tune", [InterruptsTheFirst()])

    assert findings.stopped and [trial.state for trial in findings.trials] == ["pruned"]
    assert findings.trials[0].run.model_file.exists()
    (job,) = training_jobs(account, kept_in(tmp_path / "tune").name)
    assert job["TrainingJobStatus"] == "Stopped"


class FirstStarted(Observer):
    """Does something once the first run comes home."""

    def __init__(self, then):
        self._then = then

    def started(self, run, position, jobs) -> None:
        self._then()
        self._then = lambda: None


@pytest.mark.slow
def test_a_trial_that_is_lost_sight_of_is_one_that_has_not_ended(search, refuse, tmp_path, script, monkeypatch):
    """As in a search by Optuna; the same command again brings it home."""
    monkeypatch.setattr("facesim.backends.remote_job._DENIED_S", 0.01)

    def deny() -> None:
        refuse(SageMakerResponse, "describe_training_job", "AccessDeniedException", times=2)

    found = find(search, tmp_path / "tune", [FirstStarted(deny)])

    assert sorted(one.state for one in found.trials) == ["complete", "complete", "running"]
    assert found.trials[2].run.result() is None and found.trials[2].params.keys() == SPACE.keys()
    assert "3 trials (2 complete, 0 ended early, 0 failed, 1 not ended)" in found.sentences()[0]
    assert show_tuning(Tuning(found), tmp_path / "tune", as_json=True) == 1

    again = find(search, tmp_path / "tune", [])

    assert [one.state for one in again.trials] == ["complete"] * 3
    assert {one.run.id for one in again.trials} == {one.run.id for one in found.trials}


def test_a_search_that_cannot_be_looked_at_goes_on_and_says_what_to_do(search, tmp_path, script, refuse, account):
    script.until = threading.Event()
    refuse(SageMakerResponse, "list_training_jobs_for_hyper_parameter_tuning_job", "AccessDeniedException")

    with pytest.raises(StillRunning, match="continues at AWS, and costs; `facesim attach .*AccessDenied"):
        find(search, tmp_path / "tune", [])

    name = kept_in(tmp_path / "tune").name
    assert describe(account, name)["HyperParameterTuningJobStatus"] == "InProgress"
    with pytest.raises(InputError, match="holds a search with other options"):
        find(replace(search, trials=4), tmp_path / "tune", [])


def test_a_search_that_may_have_been_made_says_so(search, account, tmp_path, script, into_a_dead_network):
    script.until = threading.Event()
    into_a_dead_network("create_hyper_parameter_tuning_job", "describe_hyper_parameter_tuning_job", times=1)

    with pytest.raises(StillRunning, match="may have been made, and may run at AWS, and cost: .*facesim cancel"):
        find(search, tmp_path / "tune", [])

    name = kept_in(tmp_path / "tune").name
    assert json.loads(facesim_here("cancel", tmp_path / "tune", "--json").output)["name"] == name


def test_a_host_takes_what_the_tuner_set_and_keeps_its_checkpoints_apart(tmp_path, monkeypatch):
    job = make_job(backend="sagemaker", data="photos/", recipe="modern", spot=True)
    static = {"job": job_json(job)}
    tuned = {**static, "learning_rate": "3.2E-4", "batch": "16", "augment": "true",
             "_tuning_objective_metric": "held_out_accuracy"}  # fmt: skip

    trial = job_of(tuned)

    assert job_of(static) == job_of({**static, "_tuning_objective_metric": "x"})
    changed = {"learning_rate": 0.00032, "batch": 16, "augment": True}
    assert trial == job_of(static).model_copy(update={"experiment": job.experiment.model_copy(update=changed)})
    shared = {"CheckpointConfig": {"S3Uri": "s3://b/c/"}, "TrainingJobName": "one"}
    assert checkpoints_of({**shared, "HyperParameters": static}) == "s3://b/c/"
    assert checkpoints_of({**shared, "HyperParameters": tuned}) == "s3://b/c/one/"
    with pytest.raises(ValueError, match="no_such_option"):
        job_of({**static, "no_such_option": "1"})

    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (tmp_path / "input" / "data" / "data").mkdir(parents=True)
    (tmp_path / "input" / "data" / "data" / "dataset.json").touch()
    (config / "resourceconfig.json").write_text('{"current_host": "algo-1", "hosts": ["algo-1"]}')
    (config / "inputdataconfig.json").write_text('{"data": {}}')
    (config / "hyperparameters.json").write_text(json.dumps(tuned))
    monkeypatch.setenv("TRAINING_JOB_NAME", "one")
    (task,) = hosted.plan(Contract.read(tmp_path)).plan.tasks
    assert str(tmp_path / "checkpoints" / "one") in task.arguments


def test_an_image_that_only_an_entrypoint_brings_facesim_into_is_refused(search, tmp_path):
    job = plan_search(search, tmp_path / "tune").job
    algorithm = {**job.made.request["AlgorithmSpecification"], "ContainerEntrypoint": BOOTSTRAP}
    made = replace(job.made, request={**job.made.request, "AlgorithmSpecification": algorithm})

    with pytest.raises(InputError, match="--image aws does not go with --tuner sagemaker"):
        tuning_job(made, job.name, job.request["HyperParameterTuningJobConfig"])


def test_the_emulator_refuses_what_sagemaker_does(search, account, tmp_path):
    request = plan_search(search, tmp_path / "tune").job.request
    client = account.client("sagemaker")
    config = request["HyperParameterTuningJobConfig"]
    for changed, message in (
        ({"Strategy": "Hyperband"}, "must be Off"),
        ({"ResourceLimits": {**config["ResourceLimits"], "MaxNumberOfTrainingJobs": 751}}, "750 at the most"),
    ):
        with pytest.raises(ClientError, match=message):
            client.create_hyper_parameter_tuning_job(
                **{**request, "HyperParameterTuningJobConfig": {**config, **changed}}
            )
    for unknown in ("describe_hyper_parameter_tuning_job", "stop_hyper_parameter_tuning_job"):
        with pytest.raises(ClientError, match="ResourceNotFound"):
            getattr(client, unknown)(HyperParameterTuningJobName="none")

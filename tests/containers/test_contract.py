"""What every backend has to do, whatever it is: the same tests for all of them.

A backend is put to the test by a class of `tests.containers.places`: add one, and a line to `PLACES` there.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.containers import engine
from facesim.backends.base import Execution
from facesim.backends.sagemaker.session import Account
from facesim.backends.sagemaker.storage import split
from facesim.metrics.files import read_samples
from facesim.preflight.inputs import prepare_inputs
from facesim.runs.directory import Run
from facesim.runs.events import event_of
from facesim.runs.states import Outcome, RunState
from facesim.spec.backends import BACKENDS
from facesim.spec.job import Job, make_job
from facesim.spec.own_model import OwnModel
from facesim.study.result import finish
from facesim.util.errors import InputError
from tests.conftest import facesim_here
from tests.containers.places import PLACES, Kubernetes, SageMaker, within_its_job
from tests.integration.conftest import OWN_FILE

#: The first of them may have to wait for the image to be made.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.usefixtures("loaded")]

#: Small and quick, but a real cluster that learns: two workers and a parameter server.
OPTIONS: dict[str, Any] = {
    "strategy": "ps-async",
    "model": "compact-cnn",
    "image_size": 32,
    "batch": 8,
    "learning_rate": 0.003,
    "sampling_s": 0.5,
    "instance_type": "ml.m5.large",
}
#: Of the run that completes: enough for an asynchronous cluster to have learnt, whatever the order of its updates.
EPOCHS = 12


@pytest.fixture(scope="module")
def kubernetes(containers: str, tmp_path_factory) -> Iterator[Kubernetes]:
    for package in ("kubernetes", "kubernetes_validate", "simple_websocket"):
        pytest.importorskip(package)
    from tests.kubernetes.cluster import TestCluster
    from tests.kubernetes.containers import ContainerNode

    node = ContainerNode(containers)
    cluster = TestCluster(tmp_path_factory.mktemp("kubernetes") / "cluster", node)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("KUBECONFIG", str(cluster.kubeconfig))
        environment.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield Kubernetes(cluster)
        cluster.stop()
        node.close()


@pytest.fixture(scope="module")
def sagemaker(containers: str) -> Iterator[SageMaker]:
    pytest.importorskip("moto")
    from facesim.testing.emulator.endpoint import Emulator

    endpoint = Emulator(image=containers)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint.start())
        environment.setenv("AWS_REGION", "us-east-1")
        environment.setenv("AWS_ACCESS_KEY_ID", "nobody")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        yield SageMaker(endpoint)
        endpoint.stop()


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> Any:
    return PLACES[request.param](request)


class Executed:
    """A job that was submitted and followed to its end as a study does; `act` is called once, when it trains, a
    checkpoint of it is kept, and its faults have begun.
    """

    def __init__(self, place: Any, job: Job, directory: Path, act: Callable[[Execution, Run], None] | None = None):
        self.where = BACKENDS[place.name]().open()
        self.request = self.where.render(job, directory, prepare_inputs(job, lambda *_: None))
        self.run = Run.create(directory, job)
        self.run.record("submitted")
        execution = self.where.submit(self.run, self.request)
        acted = act is None
        try:
            for event in execution.events(0.2):
                if event is not None:
                    self.run.record(event_of(event))
                    self.end = event
                if not acted and self._trains() and place.kept(self.run) and (not job.faults or self.events("fault")):
                    acted = True
                    act(execution, self.run)
        finally:
            execution.close()
            execution.close()
        self.left = place.left(self.run)
        state = Outcome(self.end["outcome"]).state
        self.result = finish(self.run, state, self.end.get("reason"), job.backend.measurement, 1.0)

    def _trains(self) -> bool:
        return any('"epoch"' in file.read_text() for file in self.run.metrics.glob("*.jsonl"))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.run.events() if event["event"] == name]


@pytest.fixture
def shown_by(pytestconfig) -> Callable[[str, bool], None]:
    """Skip what takes long and what another backend shows as well, unless all cases are asked for. (Hosts of the
    endpoint are containers as docker's are.)
    """

    def shown_by(other: str, same: bool) -> None:
        if same and not pytestconfig.getoption("--exhaustive"):
            pytest.skip(f"{other} shows it; --exhaustive does it here as well")

    return shown_by


@pytest.fixture
def execute(place, faces, tmp_path, shown_by):
    shown_by("docker", place.name == "kubernetes")  # but for a host that is drained

    def execute(act=None, **options: Any) -> Executed:
        job = make_job(backend=place.name, data=str(faces), **{**OPTIONS, **place.options, **options})
        executed = Executed(place, job, tmp_path / _name(), act)
        assert executed.left == []
        return executed

    return execute


@pytest.fixture(scope="module")
def completed(place, faces, tmp_path_factory) -> Executed:
    """One run that completes, for all tests that look at what it leaves."""
    job = make_job(backend=place.name, data=str(faces), epochs=EPOCHS, **OPTIONS, **place.options)
    return Executed(place, job, tmp_path_factory.mktemp(place.name) / _name())


def _name() -> str:
    """A run directory's, of which a training job gets its name: once and for all at AWS."""
    return f"run-{secrets.token_hex(3)}"


def test_a_dry_run_shows_what_is_run_and_starts_nothing(place, faces, tmp_path):
    options = [word for name, value in OPTIONS.items() for word in (f"--{name.replace('_', '-')}", value)]

    shown = facesim_here(
        "run", "--backend", place.name, "--data", faces, *options, "--output", tmp_path, "--dry-run", "--json"
    )

    assert shown.code == 0, shown.errors
    (run,) = json.loads(shown.output)["runs"]
    assert run["job"]["strategy"]["name"] == "ps-async"
    assert "compact-cnn" in json.dumps(run["request"]) or "worker-1" in json.dumps(run["request"])
    assert list(tmp_path.iterdir()) == []


def test_the_request_that_was_rendered_is_on_record(completed):
    assert completed.run.plan_file.read_text() == completed.request.to_json()


def test_a_job_completes_and_leaves_model_and_findings(completed, place):
    assert completed.end["event"] == "node_ended"
    assert completed.end["outcome"] == "completed"
    assert completed.left == []
    assert completed.run.model_file.exists()
    assert completed.result["state"] == RunState.COMPLETED
    assert completed.result["measurement"] == place.measurement
    assert completed.result["held_out_accuracy"] > 0.4
    assert completed.result["examples_seen"] == EPOCHS * completed.result["data"]["training_examples"]


def test_its_replicas_trained_together(completed):
    assert completed.result["sync_audit"]["verdict"] == "together"
    assert completed.result["wire_bytes"] > 0


def test_logs_of_every_task_come_home(completed):
    for task in ("chief-0", "worker-0", "worker-1", "ps-0", "monitor-0"):
        assert completed.run.log_file(task).exists()
    assert f"facesim: epoch={EPOCHS};" in completed.run.log_file("chief-0").read_text()


def test_tensorboards_files_of_every_host_are_in_the_bucket(completed, place):
    if place.name != "sagemaker":
        pytest.skip("elsewhere there is no bucket")
    config = completed.run.plan()["CreateTrainingJob"]["TensorBoardOutputConfig"]
    bucket, prefix = split(config["S3OutputPath"])

    listed = Account().client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}facesim-{completed.run.id}/")

    folders = {one["Key"].partition("/tensorboard-output/")[2].rpartition("/")[0] for one in listed["Contents"]}
    assert {"", "algo-1", "algo-2", "algo-1/worker-0", "algo-2/worker-1"} <= folders
    assert all(one["Size"] > 0 for one in listed["Contents"])


def test_metrics_tell_host_role_and_source(completed, place):
    samples = read_samples(completed.run.metrics)

    assert set(samples["run_id"]) == {completed.run.id}
    assert {"chief", "worker", "ps", "host", "monitor"} <= set(samples["role"])
    assert {"psutil", "sockets", "training"} <= set(samples["source"])
    if len(place.hosts) > 1:
        assert {within_its_job(host) for host in samples["host"].unique()} == set(place.hosts)
    workers = samples[(samples["role"] == "worker") & (samples["source"] == "psutil")]
    assert set(workers["task_index"]) == {0, 1}
    assert workers[workers["name"] == "cpu_percent"]["value"].between(0, 100).all()
    epochs = samples[(samples["source"] == "training") & (samples["name"] == "epoch")]
    assert list(epochs["value"]) == list(range(1, EPOCHS + 1))
    assert completed.result["resources"]["host"]["cpu_percent_mean"] > 0


def test_the_report_shows_it_like_any_other_run(completed, tmp_path):
    shown = facesim_here("report", completed.run.directory, "--output", tmp_path / "report.html")

    assert shown.code == 0, shown.errors
    assert "together" in shown.output
    assert (tmp_path / "report.html").exists()


def test_training_starts_from_the_network_that_is_named(execute, study, place, shown_by):
    shown_by("sagemaker", place.name == "docker")
    source = study.runs["single"]

    run = execute(strategy="single", epochs=1, pretrained=str(source.directory))

    network = hashlib.sha256(source.model_file.read_bytes()).hexdigest()
    assert run.result["state"] == RunState.COMPLETED
    assert run.run.outcome()["pretrained_sha256"] == network
    assert network in run.request.to_json()  # where it is found, wherever that is


def test_a_network_of_the_user_s_own_goes_along(execute, place, shown_by):
    """By its content: the image has nothing at the path that the job names."""
    shown_by("docker", place.name != "docker")

    run = execute(strategy="single", epochs=1, model=f"{OWN_FILE}:build")

    assert run.result["state"] == RunState.COMPLETED
    assert run.result["held_out_accuracy"] is not None
    assert run.run.job().experiment.model == str(OwnModel.find(f"{OWN_FILE}:build"))


def test_a_failure_comes_with_its_reason(execute, place, shown_by):
    shown_by("sagemaker", place.name == "docker")
    failed = execute(learning_rate=1e18, epochs=20, model="plain-cnn", strategy="single")

    assert failed.end["outcome"] == "failed"
    texts = str(failed.end.get("reason")) + failed.run.log_tail("chief-0")
    assert "lower --learning-rate" in texts
    assert failed.result["state"] == RunState.FAILED


def test_cancelling_twice_drains_once_and_leaves_a_readable_run(execute, place, shown_by):
    shown_by("sagemaker", place.name == "docker")

    def cancel_twice(execution: Execution, run: Run) -> None:
        execution.stop()
        execution.stop()

    stopped = execute(cancel_twice, epochs=100_000, checkpoint_s=1)

    assert stopped.end["outcome"] == "stopped"
    assert stopped.run.model_file.exists()
    assert stopped.result["examples_seen"] > 0
    assert stopped.result["state"] == RunState.STOPPED


def lose_a_host(execution: Execution, run: Run) -> None:
    """As `docker kill` does: what a crash of the second host's machine looks like to everybody else."""
    for container in engine.connect().containers.list(filters={"label": engine.JOB}):
        if container.name.startswith(f"facesim-{run.id}") and container.name.endswith("algo-2"):
            container.kill()


@pytest.mark.parametrize(
    "how", ["its capacity is taken away", pytest.param("a host is lost", marks=pytest.mark.exhaustive)]
)
def test_an_interrupted_job_goes_on_from_its_checkpoint(execute, place, how, shown_by):
    if how == "a host is lost" and len(place.hosts) == 1:
        pytest.skip("all its tasks are on one host")
    if how == "a host is lost" and place.name == "kubernetes":
        pytest.skip("a node that is lost is capacity that is taken away")
    shown_by("sagemaker", place.name in ("docker", "local"))
    interrupt = lose_a_host if how == "a host is lost" else place.interrupt
    # It trains no further than the freeze before it is interrupted, however quick or slow all this is.
    frozen = {"kind": "freeze", "target": "chief-0", "at_step": 60, "for_s": 100}

    resumed = execute(interrupt, epochs=12, checkpoint_steps=10, faults=[frozen])

    assert resumed.end["outcome"] == "completed"
    assert resumed.result["examples_seen"] == 12 * resumed.result["data"]["training_examples"]
    assert resumed.events("restored")[-1]["examples"] > 0
    assert resumed.result["recovery"]["restarts"] == 1
    assert resumed.result["recovery"]["faults"] == 1  # the job that goes on is not frozen again
    assert resumed.result["sync_audit"]["verdict"] == "together", resumed.result["sync_audit"]
    samples = read_samples(resumed.run.metrics)
    epochs = samples[(samples["role"] == "chief") & (samples["name"] == "epoch")]
    assert set(epochs["value"]) == set(range(1, 13))


@pytest.mark.exhaustive
def test_a_drained_host_has_a_synchronous_job_saved_and_started_again(place, faces, tmp_path):
    if place.name != "kubernetes":
        pytest.skip("elsewhere hosts are not stopped one by one")
    job = make_job(
        backend=place.name, data=str(faces), **{**OPTIONS, "strategy": "allreduce"}, **place.options,
        epochs=60, checkpoint_steps=10,
    )  # fmt: skip

    resumed = Executed(
        place, job, tmp_path / _name(), lambda _, run: place.cluster.jobsets[f"facesim-{run.id}"].evict(1)
    )

    assert resumed.end["outcome"] == "completed"
    assert [event["state"] for event in resumed.events("state")].count("Interrupted") == 1
    assert resumed.events("restored")[-1]["examples"] > 0


@pytest.mark.exhaustive
def test_capacity_is_taken_away_as_a_script_says(execute, place, shown_by):
    shown_by("docker", place.name == "local")
    faults = [{"kind": "interrupt", "target": "algo-2", "at_step": 30, "notice_s": 5.0}]
    if not place.plays_capacity:
        with pytest.raises(InputError, match="cannot be played"):
            execute(epochs=12, faults=faults)
        return

    played = execute(epochs=12, faults=faults)

    assert played.end["outcome"] == "completed"
    assert played.events("fault")[0]["target"] == "algo-2"
    assert played.result["recovery"]["restarts"] == 1
    assert played.result["examples_seen"] == 12 * played.result["data"]["training_examples"]


def test_a_fault_at_a_step_comes_wherever_its_target_is(execute, place, shown_by):
    shown_by("local", place.name != "local")
    faults = [
        {"kind": "kill", "target": "worker-1", "at_step": 20},
        {"kind": "freeze", "target": "worker-1", "at_step": 50, "for_s": 0.3},
    ]

    disturbed = execute(epochs=12, faults=faults)

    assert disturbed.end["outcome"] == "completed"
    assert [(event["kind"], event["target"]) for event in disturbed.events("fault")] == [
        ("kill", "worker-1"),
        ("freeze", "worker-1"),
    ]
    assert {within_its_job(event.get("host") or "") for event in disturbed.events("fault")} == {place.hosts[-1]}
    assert len([event for event in disturbed.events("task_started") if event["task"] == "worker-1"]) == 2
    assert disturbed.result["sync_audit"]["verdict"] == "together"


@pytest.mark.exhaustive
def test_a_parameter_server_that_is_killed_on_a_host_of_its_own_costs_the_work_since_the_checkpoint(
    execute, place, shown_by
):
    if len(place.hosts) == 1:
        pytest.skip("all its tasks are on one host")
    shown_by("sagemaker", place.name == "docker")
    faults = [{"kind": "kill", "target": "ps-0", "at_step": 45}]

    disturbed = execute(epochs=12, checkpoint_steps=10, ps_instance_type="ml.m5.large", faults=faults)

    assert disturbed.end["outcome"] == "completed"
    assert [event["host"] for event in disturbed.events("fault")] == ["algo-2"]  # groups take turns
    assert disturbed.events("restored")[-1]["examples"] >= 30 * 8
    assert disturbed.result["examples_seen"] == 12 * disturbed.result["data"]["training_examples"]
    assert disturbed.result["sync_audit"]["verdict"] == "together"

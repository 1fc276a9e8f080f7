"""What a host of a job makes of its contract."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.hosted.contract import Contract, HostWork
from facesim.backends.hosted import plan
from facesim.backends.training_job import job_json
from facesim.data.prepared import FACTS_FILE, PreparedData
from facesim.metrics.host_identity import host_index, host_name
from facesim.spec.job import make_job


@pytest.fixture
def contract(tmp_path, monkeypatch, faces):
    """A host's contract, as its start finds it: `contract(host, checkpoints, job)`."""

    def contract(host: str, checkpoints: Path, job: str = "one", **options) -> Contract:
        root = tmp_path / f"{host}-{len(list(tmp_path.iterdir()))}"
        (root / "input" / "config").mkdir(parents=True)
        (root / "model").mkdir()
        resources = {"current_host": host, "hosts": ["algo-1", "algo-2"]}
        files = {
            "resourceconfig": resources,
            "hyperparameters": {"job": job_json(make_job(strategy="allreduce", **options))},
            "inputdataconfig": {"data": {}},
        }
        for name, content in files.items():
            (root / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
        (root / "checkpoints").symlink_to(checkpoints)
        data = root / "input" / "data" / "data"
        data.parent.mkdir()
        if "data" in options:
            data.symlink_to(faces)
        else:
            data.mkdir()
            (data / FACTS_FILE).touch()
        monkeypatch.setenv("TRAINING_JOB_NAME", job)
        return Contract.read(root)

    return contract


@pytest.mark.parametrize(("outcome", "job", "over"), [
    ("completed", "one", True), ("failed", "one", True), ("stopped", "one", False), ("completed", "another", False),
])  # fmt: skip
def test_a_host_knows_whether_the_first_has_ended_before_it_started(contract, tmp_path, outcome, job, over):
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    plan(contract("algo-1", checkpoints)).finish(outcome)

    late = plan(contract("algo-2", checkpoints, job))

    assert late.over is over
    (attending,) = (task for task in late.plan.tasks if task.name == late.plan.leader)
    assert attending.arguments[-1] is over
    assert attending.arguments[1] == (120.0 if over else 600.0)


def test_data_that_is_given_as_it_is_is_prepared_by_every_host_alike(contract, tmp_path, monkeypatch):
    options = {"backend": "sagemaker", "data": "s3://a-bucket/faces", "image_size": 32, "subset": "identities=5"}
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))

    works = [plan(contract(host, tmp_path / "checkpoints", **options)) for host in ("algo-1", "algo-2")]

    data = [
        PreparedData.load(Path(argument))
        for work in works
        for task in work.plan.tasks
        for argument in task.arguments[2:3]
        if task.role in ("chief", "worker")
    ]
    assert [(len(one.labels), len(one.names)) for one in data] == [(50, 5), (50, 5)]
    assert data[0].sha256 == data[1].sha256


def test_every_host_has_a_number_of_its_own_whatever_it_is_called(contract, tmp_path, monkeypatch):
    """Kubernetes calls them by a Job's name, which may end with any number."""
    hosts = [f"facesim-1-worker-0-{number}.facesim-1" for number in range(2)]
    (tmp_path / "checkpoints").mkdir()

    works = [plan(replace(contract("algo-1", tmp_path / "checkpoints"), current_host=host, hosts=tuple(hosts)))
             for host in hosts]  # fmt: skip

    numbers = []
    for work in works:
        for name, value in work.plan.monitor.environment.items():
            monkeypatch.setenv(name, value)
        numbers.append((host_name(), host_index()))
    assert numbers == [(hosts[0], 0), (hosts[1], 1)]
    assert all(work.plan.monitor.environment.items() <= work.plan.tasks[0].environment.items() for work in works)


def test_workers_that_share_hosts_take_turns_on_them(contract, tmp_path):
    (tmp_path / "checkpoints").mkdir()

    works = [
        plan(contract(host, tmp_path / "checkpoints", workers=4, workers_per_host=2)) for host in ("algo-1", "algo-2")
    ]

    computing = [[task.name for task in work.plan.tasks if task.role in ("chief", "worker")] for work in works]
    assert computing == [["worker-1", "chief-0"], ["worker-0", "worker-2"]]


def test_what_a_host_recorded_before_an_interruption_is_there_again_and_that_of_others_is_not(contract, tmp_path):
    checkpoints = tmp_path / "checkpoints"
    for host in ("algo-1", "algo-2"):
        (checkpoints / "recorded" / host).mkdir(parents=True)
        (checkpoints / "recorded" / host / "sockets.jsonl").write_text(f'{{"host": "{host}"}}\n')

    work = plan(contract("algo-2", checkpoints))

    assert (work.kept.source / "sockets.jsonl").read_text() == '{"host": "algo-2"}\n'
    assert [path.name for path in (checkpoints / "recorded").iterdir()] == ["algo-2"]


def test_a_fault_that_comes_once_does_not_come_again_in_another_jobset_of_the_run(contract, tmp_path):
    """Whose hosts are called by its name."""
    (tmp_path / "checkpoints").mkdir()
    faults = [
        {"kind": "kill", "target": "worker-0", "at_step": 3},
        {"kind": "kill", "target": "chief-0", "per_minute": 1},
    ]

    def work(jobset: str) -> HostWork:
        hosts = tuple(f"{jobset}-worker-0-{number}.{jobset}" for number in range(2))
        given = contract("algo-1", tmp_path / "checkpoints", jobset, faults=faults)
        return plan(replace(given, current_host=hosts[0], hosts=hosts, groups={"worker": hosts}))

    first = work("facesim-one")
    first.record("fault", number=0, kind="kill", target="worker-0")
    (first.kept.source / "sockets.jsonl").write_text("{}\n")
    second = work("facesim-one-again1")

    assert [[fault.number for fault in one.plan.faults] for one in (first, second)] == [[0, 1], [1]]
    assert not list(second.kept.source.glob("*"))  # of the first: it is home, by the name of the host that recorded it


def test_a_variable_names_the_host_where_all_hosts_are_given_the_same_files(contract, tmp_path, monkeypatch):
    monkeypatch.setenv("CLUSTER_CURRENT_HOST", "algo-2")
    monkeypatch.setenv("CLUSTER_STOPPED_EXIT_CODE", "143")

    host = contract("algo-1", tmp_path)

    assert (host.current_host, host.stopped_exit_code) == ("algo-2", 143)


def test_what_the_sdks_local_mode_lays_out_is_a_contract(tmp_path, faces, monkeypatch):
    local = pytest.importorskip("sagemaker.core.modules.local_core.local_container")
    from sagemaker.core.modules.configs import Channel
    from sagemaker.core.shapes import DataSource, FileSystemDataSource

    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path / "cache"))
    place = FileSystemDataSource(
        file_system_id="local", file_system_access_mode="ro", file_system_type="EFS", directory_path=str(faces)
    )
    options = {"strategy": "allreduce", "epochs": 1, "image_size": 32, "sagemaker_region": "us-east-1"}
    job = local._LocalContainer(
        training_job_name="facesim-local",
        instance_type="local_cpu",
        instance_count=2,
        image="facesim",
        container_root=str(tmp_path),
        input_data_config=[Channel(channel_name="data", data_source=DataSource(file_system_data_source=place))],
        hyper_parameters={name: json.dumps(value) for name, value in options.items()},
        environment={},
        container_entrypoint=None,
        container_arguments=None,
    )
    for host in job.hosts:
        job._create_config_file_directories(host)
        job._write_config_files(host, job.input_data_config, job.hyper_parameters)
    (tmp_path / "algo-2" / "input" / "data").mkdir()
    (tmp_path / "algo-2" / "input" / "data" / "data").symlink_to(faces)

    work = plan(Contract.read(tmp_path / "algo-2"))

    (worker,) = [task for task in work.plan.tasks if task.role == "worker"]
    assert len(PreparedData.load(Path(worker.arguments[2])).names) == 8  # images as a user has them were prepared
    assert (tmp_path / "algo-2" / "checkpoints").is_dir()  # which the local mode does not have

"""Hosts of containers with another framework: which image they run, what is in it, what they do in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import cluster
from cluster.hosted.contract import Contract
from facesim.backends import hosted
from facesim.backends.image import IMAGE, requirements, variant
from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.site import site_of
from facesim.metrics.machine import packages_here
from facesim.preflight.inputs import DATA, Inputs, prepare_inputs
from facesim.spec.backends import SageMaker
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW
from facesim.spec.job import Job, make_job
from facesim.util.errors import InputError
from tests.conftest import facesim_here
from tests.frameworks.conftest import OTHERS


def job_of(framework: str, faces: Path, **options: object) -> Job:
    return make_job(
        **{"backend": "docker", "strategy": "allreduce", "workers": 2, "framework": framework, "data": str(faces),
           "image_size": 32, **options}
    )  # fmt: skip


@pytest.fixture(scope="module")
def inputs(faces: Path) -> Inputs:
    return prepare_inputs(job_of("torch", faces), lambda *_: None)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_image_gets_its_own_framework_and_no_other(framework):
    names = {re.split(r"[\[<>=; -]", line)[0] for line in requirements(framework=framework)}

    assert names & {*FRAMEWORKS} == {framework}
    assert {"keras", "numpy", "psutil"} <= names
    assert not any("extra" in line or "nvidia" in line for line in requirements(framework=framework))
    assert any("nvidia-ml-py" in line for line in requirements(framework=framework, cuda=True))


def test_the_jax_of_an_image_with_cuda_has_cuda():
    assert "jax[cuda12]>=0.6" in requirements(framework="jax", cuda=True)


def test_the_dockerfile_takes_the_framework():
    stages = (Path(cluster.__file__).with_name("Dockerfile")).read_text().split("\nFROM ")

    assert "ARG FRAMEWORK=tensorflow" in stages[0]
    assert all("\nARG FRAMEWORK\n" in stage for stage in stages[1:])
    assert "KERAS_BACKEND=${FRAMEWORK}" in stages[-1]


@pytest.mark.parametrize("framework", OTHERS)
def test_the_request_names_the_image_with_the_framework_and_starts_the_same_node(framework, faces, inputs, tmp_path):
    ours, theirs = (
        job.backend.open().render(job, tmp_path / "one", inputs).request
        for job in (job_of(framework, faces), job_of(TENSORFLOW, faces))
    )

    assert ours["AlgorithmSpecification"]["TrainingImage"] == f"{IMAGE}-{framework}"
    assert theirs["AlgorithmSpecification"]["TrainingImage"] == IMAGE
    assert ours["AlgorithmSpecification"]["ContainerEntrypoint"] == ["python3", "-m", "cluster.node"]
    assert ours["Environment"]["KERAS_BACKEND"] == framework
    assert not any(name.startswith("TF_") for name in ours["Environment"])
    assert ours["ResourceConfig"] == theirs["ResourceConfig"]


@pytest.mark.parametrize("framework", OTHERS)
def test_hosts_train_with_the_framework_and_have_the_same_places(framework, faces, inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINING_JOB_NAME", "one")
    job = job_of(framework, faces)
    request = job.backend.open().render(job, tmp_path / "one", inputs).request

    places = []
    for host in ("algo-1", "algo-2"):
        config = tmp_path / host / "input" / "config"
        config.mkdir(parents=True)
        for name, content in {
            "resourceconfig": {"current_host": host, "hosts": ["algo-1", "algo-2"]},
            "hyperparameters": request["HyperParameters"],
            "inputdataconfig": {"data": {}},
        }.items():
            (config / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / host / "input" / "data").mkdir()
        (tmp_path / host / "input" / "data" / DATA).symlink_to(inputs.folders[DATA])
        work = hosted.plan(Contract.read(tmp_path / host)).plan
        (task,) = [task for task in work.tasks if "TF_CONFIG" in task.environment]
        assert task.target == f"facesim.training.{framework}.task:train"
        assert work.preload == FRAMEWORKS[framework].preload
        places.append(json.loads(task.environment["TF_CONFIG"]))

    assert places[0]["cluster"] == places[1]["cluster"]
    assert [place["task"]["type"] for place in places] == ["chief", "worker"]


@pytest.mark.parametrize("framework", OTHERS)
def test_sagemaker_takes_the_image_with_the_framework_and_with_cuda_where_there_are_gpus(framework):
    names = Names("us-east-1")

    def image_for(instance_type: str) -> str:
        return site_of(SageMaker(), names, [instance_type], framework).image

    assert image_for("ml.m5.large").endswith(f"/facesim:{IMAGE.partition(':')[2]}-{framework}")
    assert image_for("ml.g5.xlarge").endswith(variant(framework, cuda=True))
    with pytest.raises(InputError, match=rf"AWS' image for TensorFlow.*facesim image build --framework {framework}"):
        site_of(SageMaker(image="aws"), names, ["ml.m5.large"], framework)


@pytest.mark.parametrize("framework", OTHERS)
def test_a_run_of_hosts_records_no_version_of_what_this_machine_has(framework, faces):
    assert packages_here(job_of(framework, faces)) == ()
    assert framework in packages_here(job_of(framework, faces, backend="local"))


def test_a_framework_that_no_image_can_have_is_told_before_an_engine_is_asked():
    refused = facesim_here("image", "build", "--framework", "caffe")

    assert refused.code == 2
    assert "caffe" in refused.errors and "torch" in refused.errors

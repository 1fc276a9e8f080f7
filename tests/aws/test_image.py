"""AWS' own image: what is brought into it, and how it becomes a host of facesim's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from facesim import __version__
from facesim.backends.image import name_in_ecr, requirements
from facesim.backends.sagemaker.names import Names
from facesim.backends.sagemaker.site import site_of, stage_source
from facesim.backends.training_job import content_key
from facesim.preflight.inputs import prepare_inputs
from facesim.spec.backends import SageMaker
from facesim.spec.job import make_job
from facesim.util.errors import InputError


def test_the_image_is_the_one_that_sagemakers_package_knows(account):
    site = site_of(SageMaker(image="aws"), Names())

    assert site.image.startswith("763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-training:2.21-cpu-py312")
    assert site.source is not None


@pytest.mark.parametrize(
    ("instances", "kind"),
    [(["ml.m5.large"], "cpu"), (["ml.g4dn.xlarge"], "gpu"), (["ml.g5.xlarge", "ml.m5.large"], "gpu")],
)
def test_aws_image_is_the_one_for_the_instances(account, instances, kind):
    assert f"-{kind}-" in site_of(SageMaker(image="aws"), Names(), instances).image


def test_facesims_own_image_is_the_one_with_cuda_for_instances_with_a_gpu(account):
    assert site_of(SageMaker(), Names(), ["ml.g4dn.xlarge"]).image.endswith(f"/facesim:{__version__}-cuda")
    assert site_of(SageMaker(), Names(), ["ml.m5.large"]).image.endswith(f"/facesim:{__version__}")
    assert site_of(SageMaker(image="faces:1"), Names(), ["ml.g4dn.xlarge"]).image.endswith("/faces:1")


def test_aws_image_gets_what_a_host_needs_and_nothing_for_reports():
    needed = (stage_source() / "requirements.txt").read_text()

    assert "pydantic" in needed and "numpy" in needed
    assert not any(name in needed for name in ("matplotlib", "scikit-image", "jinja2", "tensorflow"))


def test_the_image_with_cuda_gets_what_measures_gpus():
    assert requirements("tensorflow[and-cuda]")[-1].startswith("nvidia-ml-py")
    assert any(line.startswith("tensorflow[and-cuda]") for line in requirements("tensorflow[and-cuda]"))
    assert not any("nvidia" in line for line in requirements())


def test_a_job_on_gpus_is_rendered_with_the_image_that_can_use_them(endpoint, faces, tmp_path):
    job = make_job(backend="sagemaker", data=str(faces), image_size=32, instance_type="ml.g5.xlarge", image="aws")

    request = job.backend.open().render(job, tmp_path / "one", prepare_inputs(job, lambda *_: None)).request

    assert "-gpu-" in request["AlgorithmSpecification"]["TrainingImage"]


@pytest.mark.parametrize(
    "name",
    [
        *("team/faces:1", "docker.io/team/faces:1", "public.ecr.aws/team/faces:1", "localhost:5000/faces"),
        *("registry.example.com/team/faces:1", "europe-docker.pkg.dev/team/faces:1", "faces.azurecr.io/faces:1"),
        "123456789012.dkr.ecr.us-east-1.amazonaws.com.example.com/faces:1",
    ],
)
def test_an_image_that_sagemaker_cannot_take_is_refused(account, name):
    with pytest.raises(InputError, match="not in Amazon ECR"):
        site_of(SageMaker(image=name), Names())


@pytest.mark.parametrize("host", ["dkr.ecr.{}.amazonaws.com", "dkr.ecr-fips.{}.amazonaws.com", "dkr-ecr.{}.on.aws"])
def test_an_image_is_taken_of_any_account_in_the_region_of_the_job(account, host):
    here, elsewhere = (f"210987654321.{host.format(region)}/faces:1" for region in ("us-east-1", "eu-west-1"))

    assert site_of(SageMaker(image=here), Names()).image == here
    with pytest.raises(InputError, match="is in eu-west-1 and the job would run in us-east-1"):
        site_of(SageMaker(image=elsewhere), Names())


def test_an_image_without_a_registry_is_in_the_accounts_own(account):
    assert site_of(SageMaker(image="faces:2"), Names()).image == "123456789012.dkr.ecr.us-east-1.amazonaws.com/faces:2"


@pytest.mark.parametrize("named", ["team/facesim:dev", "registry.example.com:5000/team/facesim:dev", "facesim:dev"])
def test_jobs_take_the_image_that_is_pushed_where_facesims_own_has_another_name(account, monkeypatch, named):
    monkeypatch.setattr("facesim.backends.image.IMAGE", named)

    image = site_of(SageMaker(), Names(), ["ml.g5.xlarge"]).image

    assert image == "123456789012.dkr.ecr.us-east-1.amazonaws.com/facesim:dev-cuda"
    assert image.endswith(f"/{name_in_ecr(f'{named}-cuda')}")  # as it is pushed


def test_what_the_image_lacks_is_named_and_tensorflow_is_not():
    requirements = (stage_source() / "requirements.txt").read_text().splitlines()

    assert any(line.startswith("pydantic") for line in requirements)
    assert not any(line.startswith("tensorflow") for line in requirements)
    assert not any("extra ==" in line for line in requirements)


def test_several_that_stage_at_once_share_what_is_whole_and_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("FACESIM_CACHE", str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        staged = set(pool.map(lambda _: stage_source(), range(4)))
    (folder,) = staged
    before = (folder / "bootstrap.py").stat().st_ino

    assert stage_source() == folder
    assert (folder / "bootstrap.py").stat().st_ino == before  # another job may be uploading it
    assert [path.name for path in folder.parent.iterdir()] == [content_key(folder)]


@pytest.mark.slow
def test_the_bootstrap_becomes_the_node_with_the_source_that_came_with_it(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(stage_source(), source)
    (source / "requirements.txt").write_text("")
    (source / "cluster" / "node.py").write_text(
        "import cluster, os, sys; print(os.getpid(), cluster.__file__, sys.argv[1:])"
    )

    started = subprocess.Popen(
        [sys.executable, str(source / "bootstrap.py"), "--contract", "a:b"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    output, _ = started.communicate(timeout=60)

    assert started.returncode == 0
    assert output.split(maxsplit=2) == [
        str(started.pid),
        str(source / "cluster" / "__init__.py"),
        "['--contract', 'a:b']\n",
    ]

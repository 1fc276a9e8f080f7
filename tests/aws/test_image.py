"""AWS' own image: what is brought into it, and how it becomes a host of facesim's."""

from __future__ import annotations

import os
import subprocess
import sys

from facesim.aws.site import site_of, stage_source
from facesim.spec.backends import SageMaker


def test_the_image_is_the_one_that_sagemakers_package_knows(account):
    site = site_of(SageMaker(image="aws"), account)

    assert site.image.startswith("763104351884.dkr.ecr.us-east-1.amazonaws.com/tensorflow-training:2.21-cpu-py312")
    assert site.source is not None


def test_an_image_without_a_registry_is_in_the_accounts_own(account):
    assert site_of(SageMaker(image="faces:2"), account).image == "123456789012.dkr.ecr.us-east-1.amazonaws.com/faces:2"


def test_what_the_image_lacks_is_named_and_tensorflow_is_not():
    requirements = (stage_source() / "requirements.txt").read_text().splitlines()

    assert any(line.startswith("pydantic") for line in requirements)
    assert not any(line.startswith("tensorflow") for line in requirements)
    assert not any("extra ==" in line for line in requirements)


def test_staging_twice_gives_the_same_content():
    from facesim.backends.training_job import _content_key

    assert _content_key(stage_source()) == _content_key(stage_source())


def test_the_bootstrap_becomes_the_node_with_the_source_that_came_with_it(tmp_path):
    source = stage_source()
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
    told, _ = started.communicate(timeout=60)

    assert started.returncode == 0
    assert told.split(maxsplit=2) == [
        str(started.pid),
        str(source / "cluster" / "__init__.py"),
        "['--contract', 'a:b']\n",
    ]

"""An engine with this facesim's image. Where there is none, what needs it is skipped."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cluster.containers import engine
from facesim.backends import image
from facesim.spec.frameworks import TENSORFLOW
from facesim.util.errors import InputError
from tests.containers.jobs import NAME, SHAPES, Played, request_for

#: Bases to build the image on, unless FACESIM_BASE_IMAGE names one: the one that .ci/base-image.sh makes, the default.
BASES = ("facesim-base:debian", image.BASE)


def _base(client) -> str:
    from docker.errors import ImageNotFound

    for name in filter(None, (os.environ.get("FACESIM_BASE_IMAGE"), *BASES)):
        try:
            client.images.get(name)
            return name
        except ImageNotFound:
            continue
    return image.BASE  # perhaps it can be pulled


@pytest.fixture(scope="session")
def containers(takes_long) -> str:
    """The name of the image, up to date."""
    return up_to_date(TENSORFLOW)


def up_to_date(framework: str) -> str:
    """The name of the image with a framework, made if need be; where it cannot be made, the test is skipped."""
    name = image.IMAGE + image.variant(framework)
    try:
        client = engine.connect()
    except engine.EngineError as error:
        pytest.skip(str(error))
    try:
        image.check(name, framework)
    except InputError:
        # In a process of its own, with the user's cache: the tests' own would have all wheels downloaded again.
        environment = {name: value for name, value in os.environ.items() if name != "FACESIM_CACHE"}
        build = [sys.executable, "-m", "facesim", "image", "build", "--base", _base(client), "--framework", framework]
        built = subprocess.run(build, env=environment, capture_output=True, text=True)
        if built.returncode != 0:
            pytest.skip(f"the image cannot be made here: {built.stderr.strip()[-500:]}")
    return name


@pytest.fixture
def play(containers, tmp_path):
    def play(
        text: str,
        *,
        hosts: int = 1,
        on=lambda job, event: None,
        shapes=SHAPES,
        grace_s=20.0,
        frozen_s=None,
        **fields,
    ) -> Played:
        request = request_for(containers, text, hosts, **fields)
        played = Played(request, tmp_path, on, shapes, grace_s=grace_s, frozen_s=frozen_s)
        assert left(NAME) == []
        return played

    return play


def left(job: str) -> list[str]:
    """Names of containers and networks that are in the engine of jobs whose name begins so."""
    client = engine.connect()
    things = [
        *client.containers.list(all=True, filters={"label": engine.JOB}, ignore_removed=True),
        *client.networks.list(filters={"label": engine.JOB}),
    ]
    return [thing.name for thing in things if thing.name.startswith(job)]

"""An endpoint for each test, and a job ready to be sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("moto")

from facesim.aws.session import Account
from facesim.emulator.endpoint import Emulator
from facesim.job import Job, make_job
from facesim.study import prepare_data
from tests.aws.hosts import Script

SECRET = "not-a-real-secret-but-as-long-as-one"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def endpoint(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """The emulator with scripted hosts; the client finds it by AWS_ENDPOINT_URL, as any AWS client would."""
    emulator = Emulator(start=script.start)
    monkeypatch.setenv("AWS_ENDPOINT_URL", emulator.start())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLEEXAMPLE12")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield emulator
    emulator.stop()


@pytest.fixture
def account(endpoint: Emulator) -> Account:
    return Account()


@pytest.fixture
def job(faces: Path) -> Job:
    return make_job(backend="sagemaker", data=str(faces), image_size=32, strategy="ps-async")


@pytest.fixture
def data(job: Job) -> Path:
    """The job's data, prepared."""
    return prepare_data(job, lambda *_: None).directory

"""An endpoint for each test, and a job ready to be sent to it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("moto")

from botocore.loaders import Loader, create_loader
from moto.core.exceptions import JsonRESTError
from moto.sagemaker.responses import SageMakerResponse

from facesim.backends.sagemaker.calls import AT_WORK
from facesim.backends.sagemaker.session import Account
from facesim.preflight.inputs import Inputs, prepare_inputs
from facesim.spec.job import Job, make_job
from facesim.testing.emulator.endpoint import Emulator
from tests.aws.hosts import Script

SECRET = "not-a-real-secret-but-as-long-as-one"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the endpoint more often than one would ask AWS."""
    for name in ("_DESCRIBE_EVERY_S", "_LOGS_EVERY_S"):
        monkeypatch.setattr(f"facesim.backends.sagemaker.job.{name}", 0.1)
    AT_WORK.clear()  # of tests that leave their jobs


@pytest.fixture(scope="session", autouse=True)
def descriptions_of_services_are_read_once() -> Iterator[None]:
    """And not by the account of each test: to find and parse them was half of what these tests did."""
    read: dict[tuple, object] = {}

    def loader(search_path: str | None = None) -> Loader:
        one = create_loader(search_path)
        one._cache = read
        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", loader)
        yield


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
    return make_job(
        backend="sagemaker", data=str(faces), image_size=32, strategy="ps-async", instance_type="ml.m5.xlarge"
    )


@pytest.fixture
def inputs(job: Job) -> Inputs:
    """What the job reads, prepared."""
    return prepare_inputs(job, lambda *_: None)


@pytest.fixture
def refuse(endpoint, monkeypatch):
    """Let the server answer an operation with an error, the first `times` times."""

    def refuse(response: type, operation: str, code: str, message: str = "no", times: int = 10**9) -> list[str]:
        answer, asked = getattr(response, operation), []
        count = itertools.count()

        def answered(self):
            if next(count) < times:
                asked.append(code)
                error = JsonRESTError(code, message)
                error.code = 400
                raise error
            return answer(self)

        monkeypatch.setattr(response, operation, answered)
        return asked

    return refuse


@pytest.fixture
def into_a_dead_network(refuse, monkeypatch):
    """AWS makes what it is asked for, and neither that answer arrives nor one to what is asked of it, `times` times."""

    def answers(create: str, describe: str, times: int = 10**9) -> None:
        made = getattr(SageMakerResponse, create)
        monkeypatch.setattr(SageMakerResponse, create, lambda self: made(self) and lost(create))
        refuse(SageMakerResponse, describe, "ServiceUnavailable", times=times)

    def lost(operation: str) -> None:
        raise JsonRESTError("ServiceUnavailable", f"no answer to {operation}")

    return answers

"""A cluster for each test, and a job ready to be sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("kubernetes_validate")
pytest.importorskip("simple_websocket")

from facesim.preflight.inputs import Inputs, prepare_inputs
from facesim.spec.job import Job, make_job
from tests.kubernetes.cluster import TestCluster
from tests.kubernetes.hosts import Script


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the cluster more often than one would ask another."""
    for name in ("job._LOOK_EVERY_S", "job._RESULTS_EVERY_S", "storage._LOOK_EVERY_S", "pods._AGAIN_S"):
        monkeypatch.setattr(f"facesim.backends.kubernetes.{name}", 0.05)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def cluster(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestCluster]:
    """A cluster with scripted hosts; the client finds it by KUBECONFIG, as any client would."""
    cluster = TestCluster(tmp_path / "cluster", script)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    yield cluster
    cluster.stop()


@pytest.fixture
def other(cluster: TestCluster, tmp_path: Path) -> Iterator[TestCluster]:
    """Another cluster, which the user's configuration does not name before `cluster.switch(other)`."""
    other = TestCluster(tmp_path / "other-cluster", Script())
    yield other
    other.stop()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """S3 with a bucket, for the client and for what runs in pods."""
    pytest.importorskip("moto")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    s3 = boto3.client("s3", "us-east-1")
    s3.create_bucket(Bucket="a-bucket")
    yield s3
    server.stop()


def a_job(faces: Path, **options: Any) -> Job:
    return make_job(
        **{"backend": "kubernetes", "data": str(faces), "image_size": 32, "strategy": "ps-async", **options}
    )


@pytest.fixture
def job(faces: Path) -> Job:
    return a_job(faces)


@pytest.fixture
def inputs(job: Job) -> Inputs:
    """What the job reads, prepared."""
    return prepare_inputs(job, lambda *_: None)

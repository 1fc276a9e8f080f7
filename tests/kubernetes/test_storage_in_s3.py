"""A folder in S3 in place of the claim: what is in pods beside a host is run for real."""

from __future__ import annotations

import threading

import pytest

from facesim.spec.backends import BACKENDS
from facesim.util.errors import InputError
from tests.kubernetes.conftest import a_job
from tests.support.events import named, states
from tests.support.executions import follow, submit


def names(s3) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket="a-bucket").get("Contents", [])]


@pytest.mark.slow
def test_a_job_goes_on_from_its_checkpoint_in_s3_and_comes_home_from_there(
    cluster, s3, faces, inputs, tmp_path, script
):
    script.until = threading.Event()
    job = a_job(faces, storage="s3://a-bucket/team", strategy="single")
    trained = []

    def on(event: dict) -> None:
        if event["event"] == "state" and event["state"] == "Training":
            trained.append(event)
            if len(trained) == 1:
                cluster.jobsets["facesim-one"].evict(0)
            else:
                script.until.set()

    run, execution = submit(job, tmp_path / "one", inputs)
    events = follow(run, execution, on)

    assert states(events) == [
        "Starting", "Training", "Interrupted", "Starting", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    assert {event["file"] for event in named(events, "uploaded")} >= {"dataset.json", "labels.npy"}
    assert script.resumed_from == ["after attempt 0"]
    assert (events[-1]["outcome"], run.model_file.read_bytes()) == ("completed", b"a model")
    assert run.outcome() is not None
    assert not list(cluster.claim.iterdir())
    assert {name.rpartition("/")[0].rpartition("/")[0] for name in names(s3)} == {"team/data"}  # all else is home


@pytest.mark.slow
def test_what_keeps_a_pod_from_its_storage_is_told(cluster, s3, faces, inputs, tmp_path, monkeypatch):
    job = a_job(faces, storage="s3://a-bucket", strategy="single")
    run, execution = submit(job, tmp_path / "one", inputs)

    s3_url = s3.meta.endpoint_url

    def on(event: dict) -> None:
        if event["event"] == "uploaded":
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        elif event["event"] == "out_of_reach":  # the client is here, where the network is there again
            monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)

    events = follow(run, execution, on)

    assert events[-1]["outcome"] == "failed"
    assert "Could not connect" in events[-1]["reason"]


def test_a_bucket_that_is_missing_is_told_before_anything_is_made(cluster, s3, faces, inputs, tmp_path):
    job = a_job(faces, storage="s3://another-bucket/team", strategy="single")

    with pytest.raises(InputError, match="there is no bucket for --storage s3://another-bucket/team/"):
        follow(*submit(job, tmp_path / "one", inputs))
    findings = list(BACKENDS["kubernetes"]().open().examine(job))

    assert cluster.jobsets == {}
    assert [finding.level for finding in findings] == ["ok", "fail"]

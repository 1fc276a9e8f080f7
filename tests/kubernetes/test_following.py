"""A JobSet from its creation until it is home, against a Kubernetes-shaped API server."""

from __future__ import annotations

import threading

import pytest

from facesim.backends.base import LeftRunning, Target
from facesim.metrics.files import read_samples
from facesim.runs.directory import Run
from facesim.runs.records import TaskOutcome
from facesim.spec.backends import BACKENDS
from tests.aws.hosts import OUTCOME
from tests.conftest import wait_until
from tests.kubernetes.conftest import a_job
from tests.support.events import named, states
from tests.support.executions import follow, submit

#: Each of them takes little, all together a part of a minute.
pytestmark = pytest.mark.slow


def test_a_job_goes_through_its_states_and_its_results_come_home(cluster, job, inputs, tmp_path):
    rendered = BACKENDS["kubernetes"]().open().render(job, tmp_path / "one", inputs)
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    assert states(events) == ["Starting", "Training", "Uploading", "Completed"]
    assert (events[-1]["event"], events[-1]["outcome"]) == ("node_ended", "completed")
    assert [event["name"] for event in named(events, "jobset")] == ["facesim-one"]
    assert {event["file"] for event in named(events, "uploaded")} >= {"dataset.json", "labels.npy"}
    assert cluster.jobsets["facesim-one"].document["spec"] == rendered.documents[0]["spec"]
    assert run.model_file.read_bytes() == b"a model"
    assert run.outcome() == TaskOutcome.model_validate(OUTCOME)
    hosts = {f"facesim-one-worker-0-{index}.facesim-one" for index in range(2)}
    assert {log.stem for log in run.logs.iterdir()} == hosts
    samples = read_samples(run.metrics)
    assert set(samples["run_id"]) == {"one"}
    assert set(samples["host"]) == hosts
    assert not list(run.directory.glob(".home-*"))


def test_the_claim_is_left_with_the_data_alone_and_these_are_not_uploaded_again(cluster, job, inputs, tmp_path):
    follow(*submit(job, tmp_path / "one", inputs))
    second = follow(*submit(job, tmp_path / "two", inputs))

    assert named(second, "uploaded") == []
    folder = cluster.claim / "facesim"
    assert [path.name for path in folder.iterdir() if any(path.iterdir())] == ["data"]
    assert not [name for name in cluster.pods if name.endswith("-files")]


def test_a_pod_that_is_evicted_is_an_interruption_from_which_the_checkpoint_goes_on(
    cluster, job, inputs, tmp_path, script
):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)

    def evict(event):
        if event["event"] == "state" and event["state"] == "Training" and not script.resumed_from:
            cluster.jobsets["facesim-one"].evict(1, "Eviction API: evicting for the drain of node-7")
        if event["event"] == "state" and event["state"] == "Interrupted":
            script.until.set()

    events = follow(run, execution, evict)

    assert states(events) == [
        "Starting", "Training", "Interrupted", "Starting", "Training", "Uploading", "Completed",
    ]  # fmt: skip
    assert script.resumed_from == ["after attempt 0"]
    (recovering,) = named(events, "recovering")
    assert "evicting for the drain of node-7" in recovering["why"]
    assert events[-1]["outcome"] == "completed"
    assert {host.environment["ATTEMPT"] for host in script.started} == {"0", "1"}


def test_a_host_that_is_stopped_from_outside_is_told_from_one_that_is_done(cluster, job, inputs, tmp_path, script):
    """A drained host saves and ends without an error: that is no reason to think that its work is done."""
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)

    def terminate(event):
        if event["event"] == "state" and event["state"] == "Training" and not script.resumed_from:
            cluster.pods_of("facesim-one")[0].terminate(10)
        if event["event"] == "state" and event["state"] == "Interrupted":
            script.until.set()

    events = follow(run, execution, terminate)

    assert len(named(events, "recovering")) == 1
    assert events[-1]["outcome"] == "completed"


def test_more_interruptions_than_are_allowed_are_the_reason_of_the_failure(cluster, faces, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(a_job(faces, max_restarts=0), tmp_path / "one", inputs)

    def evict(event):
        if event["event"] == "state" and event["state"] == "Training":
            cluster.jobsets["facesim-one"].evict(0, "node-7 is low on memory")

    events = follow(run, execution, evict)

    assert events[-1]["outcome"] == "failed"
    assert "more often than --max-restarts 0 allows: " in events[-1]["reason"]
    assert "node-7 is low on memory" in events[-1]["reason"]


def test_a_failure_is_told_with_the_hosts_own_reason_and_is_not_tried_again(cluster, job, inputs, tmp_path, script):
    script.fails_with = "facesim-one-worker-0-0.facesim-one: the loss became nan in epoch 3"
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution)

    assert states(events)[-1] == "Failed"
    assert events[-1]["reason"].endswith("the loss became nan in epoch 3")
    assert named(events, "recovering") == []
    assert not read_samples(run.metrics).empty
    assert "facesim-one" in cluster.jobsets  # with its pods, for `kubectl logs`


def test_a_job_that_is_stopped_saves_and_leaves_nothing_in_the_cluster(cluster, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)

    def stop(event):
        if event["event"] == "state" and event["state"] == "Training":
            execution.stop()
            execution.stop()

    events = follow(run, execution, stop)

    assert states(events) == ["Starting", "Training", "Stopping", "Uploading", "Stopped"]
    assert events[-1]["outcome"] == "stopped"
    assert run.model_file.exists()
    assert (cluster.jobsets, cluster.pods) == ({}, {})
    assert any((cluster.claim / "facesim" / "checkpoints" / "facesim-one").iterdir())  # it may go on


def test_a_run_that_goes_on_is_another_jobset_with_the_checkpoints_of_the_first(cluster, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    follow(run, execution, lambda event: execution.stop() if event["event"] == "state" else None)
    script.until.set()

    where = BACKENDS["kubernetes"]().open()
    request = where.render(job, run.directory, inputs)
    run.record("submitted")
    events = follow(run, where.submit(run, request))

    assert request.name == "facesim-one-again1"
    assert events[-1]["outcome"] == "completed"
    assert not (cluster.claim / "facesim" / "checkpoints" / "facesim-one").exists()


def test_a_job_that_is_killed_is_gone_at_once(cluster, faces, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(a_job(faces, on_interrupt="stop"), tmp_path / "one", inputs)

    events = follow(run, execution, lambda event: execution.kill() if event["event"] == "state" else None)

    assert events[-1]["outcome"] == "stopped"
    assert cluster.jobsets == {}
    assert not run.model_file.exists()


def test_a_job_that_is_left_is_followed_again_by_another_command(cluster, faces, inputs, tmp_path, script):
    script.until = threading.Event()
    job = a_job(faces, on_interrupt="leave")
    run, execution = submit(job, tmp_path / "one", inputs)
    with pytest.raises(LeftRunning, match="continues in the cluster.*facesim attach"):
        follow(run, execution, lambda event: execution.stop() if event["event"] == "state" else None)
    run.claim.release()
    script.until.set()

    where, target = BACKENDS["kubernetes"]().open(), Target(job.backend, run.id, Run.open(run.directory))
    assert where.can_follow(target)
    attached = where.attach(target, tmp_path)
    events = follow(run, attached.execution)

    assert events[-1]["outcome"] == "completed"
    assert run.model_file.exists()
    for host in range(2):
        log = run.log_file(f"facesim-one-worker-0-{host}.facesim-one").read_text()
        assert log.count("hello from") == 1


def test_a_jobset_that_somebody_deletes_is_a_failed_run(cluster, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(
        run, execution, lambda event: cluster.jobsets["facesim-one"].delete() if event["event"] == "state" and
        event["state"] == "Training" else None,
    )  # fmt: skip

    assert (events[-1]["outcome"], "was deleted" in events[-1]["reason"]) == ("failed", True)


def test_a_limit_ends_the_job_and_what_was_saved_comes_home(cluster, faces, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(a_job(faces, max_run=1), tmp_path / "one", inputs)

    events = follow(run, execution)

    assert events[-1]["outcome"] == "max_runtime_exceeded"
    assert [event["limit_s"] for event in named(events, "limit_exceeded")] == [1.0]
    assert run.model_file.exists()


def test_pods_that_are_isolated_have_a_policy_that_goes_with_their_jobset(cluster, faces, inputs, tmp_path):
    follow(*submit(a_job(faces, network_isolation=True), tmp_path / "one", inputs))

    (owner,) = cluster.policies["facesim-one"]["metadata"]["ownerReferences"]
    assert owner["uid"] == cluster.jobsets["facesim-one"].document["metadata"]["uid"]


def test_what_pods_printed_that_are_gone_is_kept_when_their_job_is_followed_again(
    cluster, faces, inputs, tmp_path, script
):
    script.until = threading.Event()
    job = a_job(faces, on_interrupt="leave")
    run, execution = submit(job, tmp_path / "one", inputs)
    log = run.log_file("facesim-one-worker-0-0.facesim-one")

    def evict() -> None:
        wait_until(lambda: log.exists() and "attempt 0" in log.read_text())
        cluster.jobsets["facesim-one"].evict(1)

    def on(event) -> None:
        if event["event"] == "state" and event["state"] == "Training":
            execution.stop() if script.resumed_from else threading.Thread(target=evict).start()

    with pytest.raises(LeftRunning):
        follow(run, execution, on)
    run.claim.release()
    script.until.set()

    attached = job.backend.open().attach(Target(job.backend, run.id, Run.open(run.directory)), tmp_path)
    follow(run, attached.execution)

    assert "attempt 0" in log.with_name(f"{log.stem}-earlier1.log").read_text()
    assert "attempt 1" in log.read_text() and "attempt 0" not in log.read_text()

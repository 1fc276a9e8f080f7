"""A JobSet from its creation until it is home, against a Kubernetes-shaped API server."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from typing import Any

import pytest

from facesim.backends.base import Cancelled, LeftRunning, Target
from facesim.backends.kubernetes.job import end_state
from facesim.metrics.files import read_samples
from facesim.runs.directory import Run
from facesim.runs.records import TaskOutcome
from facesim.runs.states import Outcome
from facesim.spec.backends import BACKENDS
from facesim.util.errors import InputError
from tests.aws.hosts import OUTCOME
from tests.conftest import wait_until
from tests.kubernetes.conftest import a_job
from tests.kubernetes.pods import now
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


def test_what_follows_a_line_of_the_node_s_own_is_read(cluster, job, inputs, tmp_path, script):
    """It says, without a time, why it breaks off."""
    script.until = threading.Event()
    said = "failed to create fsnotify watcher: too many open files"
    run, execution = submit(job, tmp_path / "one", inputs)

    def break_off(event) -> None:
        if event["event"] == "state" and event["state"] == "Training":
            for pod in list(cluster.pods.values()):
                with pod.changed:
                    pod.printed += [tuple(said.split(" ", 1)), (now(), "and on")]
            script.until.set()

    events = follow(run, execution, break_off)

    assert events[-1]["outcome"] == "completed"
    for host in range(2):
        log = run.log_file(f"facesim-one-worker-0-{host}.facesim-one").read_text()
        assert [log.count(text) for text in ("hello from", said, "and on")] == [1, 1, 1]


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


def entering(state: str, act: Callable[[], Any]) -> Callable[[Any], None]:
    """Do it when the run enters a state."""

    def on(event: Any) -> None:
        if event["event"] == "state" and event["state"] == state:
            act()

    return on


def left_in_training(job, place, inputs, meanwhile=lambda: None) -> tuple[Run, Target]:
    """A run whose job trains on while nobody follows it."""
    run, execution = submit(job, place, inputs)

    def leave() -> None:
        meanwhile()
        execution.stop()

    with pytest.raises(LeftRunning):
        follow(run, execution, entering("Training", leave))
    run.claim.release()
    run = Run.open(run.directory)
    return run, Target(job.backend, run.id, run)


def complete_and_remove(cluster, script) -> None:
    """What the cluster does with a job that has completed, once it was kept for its time."""
    script.until.set()
    jobset = cluster.jobsets["facesim-one"]
    wait_until(lambda: end_state(jobset.document) is Outcome.COMPLETED)
    jobset.delete()


def test_a_run_keeps_to_the_cluster_that_it_was_made_in(cluster, other, faces, inputs, tmp_path, script):
    script.until = threading.Event()
    job = a_job(faces, on_interrupt="leave")
    run, target = left_in_training(job, tmp_path / "one", inputs, lambda: cluster.switch(other))
    where = job.backend.open()

    there = rf"was made in the cluster at {re.escape(cluster.url)}: .* give --kube-context test, or start a new run"
    with pytest.raises(InputError, match=there):
        where.render(job, run.directory, inputs)
    by_name = a_job(faces, kube_context="test")
    with pytest.raises(InputError, match="continues in the cluster: `facesim attach"):
        where.render(by_name, run.directory, inputs)
    assert where.can_follow(target)
    assert where.status(target).state == "Training"
    assert next(where.logs(target)).source == "facesim-one-worker-0-0.facesim-one"
    assert where.cancel(target) == Cancelled("facesim-one", "Stopping", ended=False)
    events = follow(run, where.attach(target, tmp_path).execution)

    assert events[-1]["outcome"] == "stopped"
    assert run.model_file.exists()


def test_who_follows_a_job_stays_with_its_cluster_when_there_are_new_credentials(
    cluster, other, job, inputs, tmp_path, script
):
    script.until = threading.Event()

    def on(event: Any) -> None:
        if event["event"] == "state" and event["state"] == "Training":
            cluster.refusals[("GET", "jobsets")] = (401, "Unauthorized")
        elif event["event"] == "out_of_reach":
            cluster.switch(other)
            cluster.refusals.clear()
            script.until.set()

    events = follow(*submit(job, tmp_path / "one", inputs), on)

    assert named(events, "out_of_reach")
    assert events[-1]["outcome"] == "completed"


def test_a_context_that_leads_to_another_cluster_now_does_not_make_a_job_one_that_is_gone(
    cluster, other, faces, inputs, tmp_path, script
):
    script.until = threading.Event()
    job = a_job(faces, on_interrupt="leave")
    _, target = left_in_training(job, tmp_path / "one", inputs)
    cluster.kubeconfig.write_text(cluster.kubeconfig.read_text().replace(cluster.url, other.url))
    where = job.backend.open()

    for ask in (where.status, where.cancel, where.can_follow, lambda target: where.attach(target, tmp_path)):
        with pytest.raises(InputError, match=f"made in the cluster at {cluster.url}, and the context test leads to"):
            ask(target)


def test_what_is_not_in_the_cluster_any_more_has_not_ended_for_that(cluster, faces, inputs, tmp_path, script):
    script.until = threading.Event()
    job = a_job(faces, on_interrupt="leave")
    run, target = left_in_training(job, tmp_path / "one", inputs)
    cluster.jobsets["facesim-one"].delete(grace_s=0)
    where = job.backend.open()

    gone = "is not in the cluster any more: .*; `facesim attach .*one` brings home what it left"
    with pytest.raises(InputError, match=gone):
        where.cancel(target)
    with pytest.raises(InputError, match=gone):
        where.render(job, run.directory, inputs)
    (note,) = where.status(target).notes
    assert re.search(gone, note)
    events = follow(run, where.attach(target, tmp_path).execution)

    assert (events[-1]["outcome"], "was deleted" in events[-1]["reason"]) == ("failed", True)
    assert where.render(job, run.directory, inputs).name == "facesim-one-again1"
    assert not where.can_follow(target)


@pytest.mark.parametrize("followed", [True, False])
def test_a_job_whose_jobset_was_removed_before_anybody_looked_has_completed(
    cluster, faces, inputs, tmp_path, script, followed
):
    script.until = threading.Event()
    job = a_job(faces, on_interrupt="leave")
    if followed:
        run, execution = submit(job, tmp_path / "one", inputs)
        events = follow(run, execution, entering("Training", lambda: complete_and_remove(cluster, script)))
    else:
        run, target = left_in_training(job, tmp_path / "one", inputs)
        complete_and_remove(cluster, script)
        where = job.backend.open()
        assert where.can_follow(target)
        events = follow(run, where.attach(target, tmp_path).execution)

    assert (states(events)[-1], events[-1]["outcome"]) == ("Completed", "completed")
    assert run.model_file.read_bytes() == b"a model"
    assert not (cluster.claim / "facesim" / "checkpoints" / "facesim-one").exists()


def test_results_that_wait_for_the_pod_that_fetches_them_can_be_left(cluster, job, inputs, tmp_path):
    run, execution = submit(job, tmp_path / "one", inputs)

    def on(event: Any) -> None:
        if event["event"] == "state" and event["state"] == "Uploading":
            cluster.trouble = ("Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")
        elif event["event"] == "pod_pending":
            execution.stop()

    with pytest.raises(LeftRunning, match="what it left is not here yet.*facesim attach"):
        follow(run, execution, on)
    cluster.trouble = None
    run.claim.release()

    target = Target(job.backend, run.id, Run.open(run.directory))
    events = follow(run, job.backend.open().attach(target, tmp_path).execution)
    assert events[-1]["outcome"] == "completed"


def test_an_interrupt_that_comes_as_a_job_ends_does_not_keep_its_results_from_coming_home(
    cluster, job, inputs, tmp_path
):
    run, execution = submit(job, tmp_path / "one", inputs)

    events = follow(run, execution, entering("Uploading", execution.stop))

    assert events[-1]["outcome"] == "completed"


@pytest.mark.parametrize("left", [False, True])
def test_results_for_which_there_is_no_room_here_stay_there_until_there_is(
    cluster, job, inputs, tmp_path, monkeypatch, left
):
    monkeypatch.setattr("facesim.backends.remote_job._FULL_S", 0.1)
    usage = shutil.disk_usage
    run, execution = submit(job, tmp_path / "one", inputs)

    def on(event: Any) -> None:
        if event["event"] == "state" and event["state"] == "Uploading":
            monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(place)._replace(free=0))
        elif event["event"] == "out_of_reach":
            assert event["what"] == "results" and "there is no room left in" in event["why"]
            monkeypatch.setattr(shutil, "disk_usage", usage)
            if left:
                execution.stop()

    if left:
        with pytest.raises(LeftRunning, match="there is no room left.*facesim attach"):
            follow(run, execution, on)
        assert any((cluster.claim / "facesim" / "jobs").iterdir())
    else:
        events = follow(run, execution, on)
        assert named(events, "out_of_reach")
        assert (events[-1]["outcome"], run.model_file.exists()) == ("completed", True)

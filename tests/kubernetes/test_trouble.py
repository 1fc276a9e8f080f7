"""What a cluster refuses, and what keeps pods from starting, told with advice."""

from __future__ import annotations

import json
import re
import threading

import pytest

from facesim.backends.base import Target
from facesim.runs.directory import Run
from facesim.spec.backends import BACKENDS
from facesim.util.errors import FacesimError, InputError
from tests.conftest import facesim_here
from tests.kubernetes.conftest import a_job
from tests.support.events import named, states
from tests.support.executions import follow, submit


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, 'pods is forbidden: User "me" cannot create'), "admin has to allow it: docs/backends.md"),
        ((403, "exceeded quota: team, requested: cpu=1"), "quota has no room .* --pod-cpus"),
        ((403, 'violates PodSecurity "restricted:latest"'), "does not take such pods"),
        ((401, "Unauthorized"), "sign in to the cluster again"),
        ((500, "etcdserver: leader changed"), "try again later"),
    ],
)
def test_what_the_cluster_refuses_is_told_with_advice_and_nothing_is_left(
    cluster, job, inputs, tmp_path, refusal, message
):
    cluster.refusals[("POST", "pods")] = refusal
    run, execution = submit(job, tmp_path / "one", inputs)

    with pytest.raises(FacesimError, match=message):
        follow(run, execution)

    assert (cluster.jobsets, cluster.pods) == ({}, {})


def test_a_cluster_without_jobsets_is_told_how_to_get_them(cluster, job, inputs, tmp_path):
    cluster.refusals[("POST", "jobsets")] = (404, "404 page not found")

    with pytest.raises(FacesimError, match=r"has no JobSets: .*jobset\.sigs\.k8s\.io"):
        follow(*submit(job, tmp_path / "one", inputs))
    assert cluster.pods == {}


def test_a_namespace_that_is_missing_is_named(cluster, faces, inputs, tmp_path):
    with pytest.raises(FacesimError, match="kubectl create namespace team"):
        follow(*submit(a_job(faces, namespace="team"), tmp_path / "one", inputs))


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"kube_context": "other"}, "--kube-context names one"), ({}, "no cluster is configured")],
)
def test_without_a_configuration_it_is_told_where_one_is_looked_for(
    cluster, faces, inputs, tmp_path, monkeypatch, setting, message
):
    if not setting:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))

    with pytest.raises(InputError, match=message):
        submit(a_job(faces, **setting), tmp_path / "one", inputs)


def test_a_cluster_that_does_not_answer_is_told(cluster, job, inputs, tmp_path):
    cluster.kubeconfig.write_text(cluster.kubeconfig.read_text().replace(cluster.url, "http://127.0.0.1:1"))
    run, execution = submit(job, tmp_path / "one", inputs)

    with pytest.raises(FacesimError, match="refused.*is it the right cluster"):
        follow(run, execution)


def when(name: str, act, **details):
    """Do it at the first event of a name with these details."""
    done = []

    def on(event):
        if event["event"] == name and not done and all(event[key] == value for key, value in details.items()):
            done.append(event)
            act()

    return on


def test_an_image_that_cannot_be_pulled_ends_the_job_before_anything_is_uploaded(cluster, job, inputs, tmp_path):
    cluster.trouble = ("InvalidImageName", 'couldn\'t parse image name "facesim"')

    with pytest.raises(FacesimError, match="InvalidImageName.*--image.*imagePullSecrets"):
        follow(*submit(job, tmp_path / "one", inputs))
    assert (cluster.jobsets, cluster.pods) == ({}, {})


def test_pods_that_cannot_start_are_told_and_what_never_will_ends_the_job(cluster, job, inputs, tmp_path):
    def act():
        cluster.trouble = ("ErrImageNeverPull", "Container image is not present with pull policy of Never")

    def on(event):
        when("uploaded", act)(event)
        if event["event"] == "pod_pending":
            cluster.trouble = None

    events = follow(*submit(job, tmp_path / "one", inputs), on)

    assert events[-1]["outcome"] == "failed"
    assert "does not start: ErrImageNeverPull" in events[-1]["reason"]
    assert len(named(events, "pod_pending")) == 1  # not for each pod again


def test_pods_for_which_there_is_no_room_wait_and_can_be_stopped(cluster, job, inputs, tmp_path):
    def act():
        cluster.trouble = ("Unschedulable", "0/3 nodes are available: 3 Insufficient cpu.")

    run, execution = submit(job, tmp_path / "one", inputs)

    def on(event):
        when("uploaded", act)(event)
        if event["event"] == "pod_pending":
            assert "3 Insufficient cpu.; it starts when nodes have so much free" in event["why"]
            cluster.trouble = None
            execution.stop()

    events = follow(run, execution, on)

    assert (events[-1]["outcome"], states(events)) == ("stopped", ["Starting", "Stopping", "Uploading", "Stopped"])


def test_a_cluster_that_cannot_be_asked_for_a_while_is_no_reason_to_stop(cluster, job, inputs, tmp_path, script):
    script.until = threading.Event()

    def on(event):
        if event["event"] == "state" and event["state"] == "Training":
            cluster.refusals[("GET", "jobsets")] = (503, "the server is currently unable to handle the request")
        elif event["event"] == "out_of_reach":
            cluster.refusals.clear()
            script.until.set()

    events = follow(*submit(job, tmp_path / "one", inputs), on)

    assert [event["what"] for event in named(events, "out_of_reach")] == ["describe"]
    assert events[-1]["outcome"] == "completed"


def test_commands_ask_the_cluster_about_a_run(cluster, faces, inputs, tmp_path, script):
    """From another terminal: status, logs, list, cancel; then the follower brings home what was saved."""
    script.until = threading.Event()
    run, execution = submit(a_job(faces, tags={"team": "faces"}), tmp_path / "one", inputs)
    shown = {}

    def ask():
        shown["status"] = facesim_here("status", run.directory)
        shown["facts"] = facesim_here("status", run.directory, "--json")
        shown["logs"] = facesim_here("logs", run.directory)
        for tag in ("team=faces", "team=voices"):
            shown[tag] = facesim_here("list", "--backend", "kubernetes", "--tag", tag)
        shown["cancel"] = facesim_here("cancel", run.directory)
        shown["again"] = facesim_here("cancel", run.directory)

    events = follow(run, execution, when("state", ask, state="Training"))

    assert all(command.code == 0 for command in shown.values()), [command.errors for command in shown.values()]
    assert "facesim-one: Training" in shown["status"].output
    assert json.loads(shown["facts"].output)["tested_in_words"] == "held-out"
    assert "facesim-one-worker-0-1.facesim-one  hello from" in shown["logs"].output
    assert "facesim-one" in shown["team=faces"].output and "team=faces" in shown["team=faces"].output
    assert shown["team=voices"].output == "no runs of facesim's at kubernetes with team=voices\n"
    assert shown["again"].output == shown["cancel"].output == "facesim-one: stopping\n"  # not that it had ended
    assert (events[-1]["outcome"], run.model_file.exists()) == ("stopped", True)


def test_jobs_of_another_namespace_are_listed(cluster, faces, inputs, tmp_path):
    cluster.namespace = "team"
    follow(*submit(a_job(faces, namespace="team"), tmp_path / "one", inputs))

    listed = facesim_here("list", "--backend", "kubernetes", "--namespace", "team", "--kube-context", "test")
    wrong = facesim_here("list", "--backend", "kubernetes", "--namespace", "Team")
    misplaced = facesim_here("list", "--backend", "sagemaker", "--namespace", "team")

    assert "facesim-one" in listed.output, listed.errors
    assert (wrong.code, misplaced.code) == (2, 2)
    assert "--namespace 'Team' is not allowed" in wrong.errors
    assert "--namespace means nothing to --backend sagemaker" in misplaced.errors


def test_a_run_whose_jobset_continues_is_not_started_again_beside_it(cluster, job, inputs, tmp_path, script):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)

    def render():
        with pytest.raises(InputError, match="continues in the cluster: `facesim attach"):
            BACKENDS["kubernetes"]().open().render(job, Run(run.directory).directory, inputs)
        script.until.set()

    follow(run, execution, when("state", render, state="Training"))


def test_a_doctor_looks_at_the_cluster_and_the_claim(cluster, faces):
    findings = {finding.name: finding for finding in BACKENDS["kubernetes"]().open().examine(a_job(faces))}
    missing = list(BACKENDS["kubernetes"]().open().examine(a_job(faces, storage_claim="other")))

    assert (findings["cluster"].level, findings["claim"].level) == ("ok", "ok")
    assert (missing[-1].level, '"other" not found' in missing[-1].finding) == ("fail", True)


def test_a_doctor_is_asked_about_the_job_that_is_to_run(cluster, monkeypatch):
    for name in ("_python", "_machine", "_tensorflow", "_kernels", "_network", "_containers", "_disk"):
        monkeypatch.setattr(f"facesim.cli.doctor.{name}", lambda: iter(()))
    cluster.namespace = "team"
    job = ("--backend", "kubernetes", "--namespace", "team", "--kube-context", "test", "--framework", "torch")

    found = facesim_here("doctor", *job, "--json")
    missing = facesim_here("doctor", *job, "--storage-claim", "other", "--json")

    assert [(one["name"], one["level"]) for one in json.loads(found.output)] == [("cluster", "ok"), ("claim", "ok")]
    assert "namespace team" in found.output
    assert (missing.code, '\\"other\\" not found' in missing.output) == (1, True), missing.output


def test_a_claim_without_a_volume_is_no_ok(cluster, faces):
    cluster.claim_phase = "Pending"

    findings = list(BACKENDS["kubernetes"]().open().examine(a_job(faces)))

    (claim,) = (finding for finding in findings if finding.name == "claim")
    assert claim.level == "note" and "facesim is Pending, and has no volume" in claim.finding


@pytest.mark.parametrize("option", ["namespace", "storage", "storage_claim"])
def test_a_run_does_not_go_on_in_another_place_than_where_its_jobset_may_still_run(
    cluster, faces, inputs, tmp_path, script, option
):
    script.until = threading.Event()
    run, execution = submit(a_job(faces), tmp_path / "one", inputs)
    elsewhere = a_job(faces, **{option: {"storage": "s3://a-bucket/other"}.get(option, "other")})

    def render():
        with pytest.raises(InputError, match=f"--{option.replace('_', '-')}.*leave that out, or start a new run"):
            elsewhere.backend.open().render(elsewhere, run.directory, inputs)
        script.until.set()

    follow(run, execution, when("state", render, state="Training"))


def test_a_run_of_which_an_earlier_version_recorded_no_cluster_keeps_to_its_context(
    cluster, other, faces, inputs, tmp_path, script
):
    script.until = threading.Event()
    run, execution = submit(a_job(faces), tmp_path / "one", inputs)
    elsewhere = a_job(faces, kube_context="other")

    def render():
        events = re.sub(r', "(context|server)": "[^"]*"', "", run.events_file.read_text())
        run.events_file.write_text(events)
        cluster.switch(other)
        with pytest.raises(InputError, match="not where --kube-context other leads; leave that out"):
            elsewhere.backend.open().render(elsewhere, run.directory, inputs)
        script.until.set()

    follow(run, execution, when("state", render, state="Training"))


def test_a_run_whose_jobset_was_never_made_may_go_on_in_another_place(cluster, faces, inputs, tmp_path):
    run, execution = submit(a_job(faces, namespace="teem"), tmp_path / "one", inputs)
    with pytest.raises(FacesimError, match="kubectl create namespace teem"):
        follow(run, execution)
    job = a_job(faces)

    request = job.backend.open().render(job, run.directory, inputs)

    assert request.documents[0]["metadata"]["namespace"] == "default"


@pytest.mark.parametrize("follow_it", [False, True])
def test_a_host_that_there_is_not_is_told_at_once(cluster, job, inputs, tmp_path, script, follow_it):
    script.until = threading.Event()
    run, execution = submit(job, tmp_path / "one", inputs)
    target = Target(job.backend, run.id, run)

    def ask():
        with pytest.raises(InputError, match="has no host 'worker-7'; there are facesim-one-worker-0-0.facesim-one, "):
            next(job.backend.open().logs(target, "worker-7", follow_it))
        script.until.set()

    follow(run, execution, when("state", ask, state="Training"))


def test_a_configuration_that_is_no_yaml_is_told_where_it_is_looked_for(cluster, job, inputs, tmp_path):
    cluster.kubeconfig.write_text("clusters: [\n\t{")

    with pytest.raises(InputError, match="no cluster is configured: .*KUBECONFIG"):
        submit(job, tmp_path / "one", inputs)

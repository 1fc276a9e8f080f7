"""The documents of every kind of job, held against Kubernetes' own schemas, and against JobSet's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("kubernetes")
pytest.importorskip("kubernetes_validate")

import yaml

from facesim.backends.kubernetes.manifests import hosts_of, jobset_name, kubernetes_job
from facesim.backends.kubernetes.storage import pod_of
from facesim.spec.job import make_job
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError
from tests.conftest import facesim_here
from tests.kubernetes.schemas import validate


@pytest.fixture
def folders(tmp_path):
    data = tmp_path / "prepared"
    data.mkdir()
    (data / "dataset.json").write_text("{}")
    return {"data": data}


OPTIONS = [
    {},
    {"ps_instance_type": "ml.c5.xlarge", "strategy": "ps-async"},
    {"network_isolation": True, "node_selector": {"disk": "ssd"}, "service_account": "trainer", "max_run": 60},
    {"pod_cpus": 0.5, "pod_memory_gib": 1, "pull_policy": "Never", "tags": {"team": "faces"}, "spot": True},
    {"instance_type": "ml.g5.xlarge", "strategy": "allreduce"},
    {
        "storage": "s3://a-bucket/team",
        "storage_secret": "aws",
        "strategy": "ps-async",
        "ps_instance_type": "ml.c5.xlarge",
    },
]


@pytest.mark.parametrize("options", [*({"strategy": name} for name in STRATEGIES), *OPTIONS], ids=str)
def test_documents_keep_to_the_published_schemas(folders, options):
    job = make_job(backend="kubernetes", **options)
    made = kubernetes_job(job, jobset_name(Path("run-1")), folders)

    validate([*made.documents, pod_of("facesim-run-1-files", job)])
    assert json.loads(made.to_json())["uploads"].keys() == made.uploads.keys()


def test_every_pod_is_told_its_name_and_all_hosts(folders):
    job = make_job(backend="kubernetes", strategy="ps-async", workers=3, ps=2, ps_instance_type="ml.m5.large")
    jobset = kubernetes_job(job, "facesim-one", folders).documents[0]
    worker, ps = (group["template"]["spec"]["template"] for group in jobset["spec"]["replicatedJobs"])

    resources = json.loads(ps["metadata"]["annotations"]["facesim/resourceconfig"])
    variables = {one["name"]: one.get("value") for one in ps["spec"]["containers"][0]["env"]}

    assert variables["CLUSTER_CURRENT_HOST"] == "facesim-one-ps-0-$(POD_INDEX).facesim-one"
    assert resources["hosts"] == [f"facesim-one-worker-0-{n}.facesim-one" for n in range(3)] + [
        f"facesim-one-ps-0-{n}.facesim-one" for n in range(2)
    ]
    assert {one["instance_group_name"]: one["hosts"] for one in resources["instance_groups"]} == hosts_of(
        job, "facesim-one"
    )
    assert (
        worker["metadata"]["annotations"]["facesim/hyperparameters"]
        == (ps["metadata"]["annotations"]["facesim/hyperparameters"])
    )


@pytest.mark.parametrize("storage", [{}, {"storage": "s3://a-bucket/team"}])
def test_a_host_finds_what_it_kept_when_its_run_goes_on_as_another_jobset(folders, storage):
    job = make_job(backend="kubernetes", strategy="ps-async", ps_instance_type="ml.m5.large", **storage)

    def kept(name: str) -> list[str]:
        jobset = kubernetes_job(job, name, folders, checkpoints="checkpoints/one").documents[0]
        pods = [group["template"]["spec"]["template"]["spec"] for group in jobset["spec"]["replicatedJobs"]]
        mounts = [mount for pod in pods for mount in pod["containers"][0]["volumeMounts"]]
        fetched = [folder for pod in pods for one in pod.get("initContainers", [])[:1] for folder in one["command"]]
        return [
            *(mount["subPathExpr"] for mount in mounts if mount["mountPath"] == "/opt/ml/checkpoints/recorded"),
            *(f"facesim/{folder}" for folder in fetched if "/recorded/" in folder),
        ]

    places = [f"facesim/checkpoints/one/recorded/{group}-$(POD_INDEX)" for group in ("worker", "ps")]
    assert kept("facesim-one") == kept("facesim-one-again1") == places * (1 + len(storage))


def test_pods_may_do_what_the_strictest_standard_allows(folders):
    """Kubernetes, "Pod Security Standards", Restricted."""
    jobset = kubernetes_job(make_job(backend="kubernetes"), "one", folders).documents[0]
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == container["resources"]["requests"]
    assert {next(iter(volume.keys() - {"name"})) for volume in pod["volumes"]} <= {
        "downwardAPI", "emptyDir", "persistentVolumeClaim",
    }  # fmt: skip


def test_pods_leave_a_node_that_does_not_answer_any_more_soon(folders):
    jobset = kubernetes_job(make_job(backend="kubernetes"), "one", folders).documents[0]
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]

    assert {one["key"]: one["tolerationSeconds"] for one in pod["tolerations"]} == {
        "node.kubernetes.io/not-ready": 30,
        "node.kubernetes.io/unreachable": 30,
    }


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("run-1", "facesim-run-1"),
        ("20261123-ps_async.1", "facesim-20261123-ps-async-1"),
        ("Ünder", "facesim-nder-[0-9a-f]{8}"),
        ("RUN", "facesim-run-[0-9a-f]{8}"),
        ("r" * 300, "facesim-r+-[0-9a-f]{8}"),
    ],
)
def test_a_jobset_has_a_name_that_leaves_room_for_those_of_its_pods(directory, name):
    import re

    again = jobset_name(Path(directory), again=12)

    assert re.fullmatch(name, jobset_name(Path(directory)))
    assert re.fullmatch("[a-z]([a-z0-9-]*[a-z0-9])?", again) and again.endswith("-again12")
    assert len(again) <= 42


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faults": [{"kind": "interrupt", "target": "algo-1", "at_step": 3}]}, "cannot be played in a cluster"),
        ({"spot": True, "max_wait": 100}, "--max-wait cannot be kept"),
        ({"spot": True, "checkpoint_s": 0}, "without checkpoints"),
    ],
)
def test_what_a_cluster_cannot_do_is_refused(folders, options, message):
    with pytest.raises(InputError, match=message):
        kubernetes_job(make_job(backend="kubernetes", **options), "one", folders)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"namespace": "Team"}, "lower case letters"),
        ({"storage_claim": "a_b"}, "lower case letters"),
        ({"service_account": "x" * 254}, "253"),
        ({"node_selector": ["disk"]}, "must be KEY=VALUE"),
        ({"node_selector": ["-disk=ssd"]}, "'-disk'"),
        ({"node_selector": ["disk=s s"]}, "'s s'"),
        ({"image": "Facesim"}, "an image is"),
        ({"image": "aws"}, "is for --backend sagemaker"),
        ({"storage": "a-bucket"}, "s3://BUCKET/FOLDER"),
        ({"storage": "s3://A_Bucket/x"}, "lower case"),
        ({"storage": "s3://a-bucket", "network_isolation": True}, "which pods reach over the network"),
        ({"storage_secret": "aws"}, "is for --storage"),
    ],
)
def test_names_are_checked_before_anything_is_sent(options, message):
    with pytest.raises(InputError, match=message):
        make_job(backend="kubernetes", **options)


def test_a_dry_run_prints_what_kubectl_applies(faces, tmp_path):
    shown = facesim_here(
        "--backend", "kubernetes", "--data", faces, "--image-size", 32, "--network-isolation", "--namespace", "team",
        "--output", tmp_path, "--dry-run",
    )  # fmt: skip

    assert shown.code == 0, shown.errors
    documents = list(yaml.safe_load_all(shown.output))
    validate(documents)
    assert [document["kind"] for document in documents] == ["JobSet", "NetworkPolicy"] * 2
    assert {document["metadata"]["namespace"] for document in documents} == {"team"}
    assert "# Before: copy " in shown.output
    assert list(tmp_path.iterdir()) == []

"""A job as the Kubernetes documents that run it: a JobSet, and where its pods are to be isolated a NetworkPolicy.

Each host is a pod of an Indexed Job. It is given what SageMaker gives a host, `facesim.backends.training_job`'s
contract, from these places:

    /opt/ml/input/config         annotations of the pod, as files (downward API); which host it is, says a variable
    /opt/ml/input/data/CHANNEL   facesim/data/KEY of the claim, read only
    /opt/ml/checkpoints          facesim/checkpoints/JOBSET, shared by all hosts, but for what each recorded
    /opt/ml/model, output/data   facesim/jobs/JOBSET/ATTEMPT: fresh at each start of the job
    /opt/ml/output/failure       the pod's termination message

Where the storage is in S3 in place of a claim, a volume of each pod's own stands for it, which `in_pod` fills, and
copies to S3.

What a host that is evicted, or whose node is drained, leaves behind is an interruption: the JobSet starts all pods
again, which go on from the checkpoint. What a job does wrong itself is not tried again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.hosted.contract import CURRENT_HOST, ROOT, STOPPED_EXIT_CODE
from facesim.backends import image, kernels
from facesim.backends.emulation import takes_all_hosts
from facesim.backends.hosted import KEPT
from facesim.backends.kubernetes.in_pod import READY
from facesim.backends.remote_job import GRACE_S
from facesim.backends.tasks import environment_of
from facesim.backends.training_job import (
    ARGUMENTS,
    CHECKPOINTS,
    ENTRYPOINT,
    JOB,
    PS_GROUP,
    WORKER_GROUP,
    check_spot,
    content_key,
    job_json,
    job_name,
)
from facesim.billing.catalogue import instance
from facesim.spec.backends import Kubernetes
from facesim.spec.job import Job
from facesim.util.errors import InputError

GROUP, VERSION, PLURAL = "jobset.x-k8s.io", "v1alpha2", "jobsets"
#: The label of everything that belongs to a JobSet, which its controller sets, and the one of facesim's.
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
LABELS = {"app.kubernetes.io/name": "facesim"}
#: The label in which the controller counts how often all pods of a JobSet have been started again.
ATTEMPT_LABEL = "jobset.sigs.k8s.io/restart-attempt"
#: The annotation in which a Job's controller numbers its pods.
_INDEX = "batch.kubernetes.io/job-completion-index"

#: Annotations of a pod that become files of its contract.
_CONTRACT = "facesim/"
#: Annotations of a JobSet: the user's tags, and that facesim stopped it.
TAGS, STOPPED = "facesim/tags", "facesim/stopped"

#: The name of the container of each pod.
CONTAINER = "facesim"
#: And of the one that brings what it needs from S3.
FETCH = "fetch"
#: Where a container has all of the storage, and what it gets that copies files.
_STORAGE = "/storage"
FILES_RESOURCES = {"cpu": "250m", "memory": "512Mi"}
#: The folder of the claim that is facesim's.
FOLDER = "facesim"

#: Generated names, of pods too, are JOBSET-worker-0-INDEX-RANDOM and have at most 63 characters.
_LONGEST_NAME = 63 - len("-worker-0-00000-abcde")
#: Who may do nothing: what the containers run as.
_NOBODY = 65_534
#: The exit code of a host that was asked to stop, as a shell tells SIGTERM.
_STOPPED_CODE = 143
#: How long a pod stays on a node that does not answer any more; the cluster's own default is 300 s.
_SILENT_NODE_S = 30


@dataclass(frozen=True)
class KubernetesJob:
    """The documents that run a job, and what has to be in the storage before: folder there -> local folder.

    `documents[0]` is the JobSet. `storage` is the address of the storage in S3; without one it is the claim.
    """

    documents: tuple[dict[str, Any], ...]
    uploads: dict[str, Path]
    storage: str | None = None

    @property
    def name(self) -> str:
        return self.documents[0]["metadata"]["name"]

    def to_json(self) -> str:
        uploads = {folder: str(path) for folder, path in self.uploads.items()}
        return json.dumps({"documents": self.documents, "uploads": uploads, "storage": self.storage}, indent=1)


def kubernetes_job(
    job: Job, name: str, folders: Mapping[str, Path], *, checkpoints: str | None = None
) -> KubernetesJob:
    """The documents that run `job` as the JobSet `name`.

    Args:
        folders: what its tasks read, by name, as `facesim.preflight.inputs.Inputs` has it.
        checkpoints: the folder of checkpoints that it continues from; left out, it begins anew.

    Raises:
        InputError: a cluster cannot run this job.
    """
    if any(takes_all_hosts(fault) for fault in job.faults):
        raise InputError(
            "`interrupt` in --faults cannot be played in a cluster, which takes pods away itself; leave it out, or try "
            "it with --backend docker"
        )
    if job.max_wait_s is not None:
        raise InputError(
            "--max-wait cannot be kept by a cluster, in which pods wait for nodes as long as it takes; give --max-run"
        )
    check_spot(job)
    where = job.backend
    assert isinstance(where, Kubernetes)
    uploads = {f"data/{content_key(folder)}": folder for folder in folders.values()}
    channels = dict(zip(folders, uploads, strict=True))
    checkpoints = checkpoints or f"checkpoints/{name}"
    jobset = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "JobSet",
        "metadata": {
            "name": name,
            "namespace": where.namespace,
            "labels": LABELS,
            **({"annotations": {TAGS: json.dumps(where.tags)}} if where.tags else {}),
        },
        "spec": {
            "ttlSecondsAfterFinished": where.retention_s,
            # Hosts wait for each other's names before anything of them is ready.
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": job.recovery.max_restarts,
                # Two attempts at the same time would write the same checkpoints.
                "restartStrategy": "BlockingRecreate",
                "rules": [
                    {
                        "name": "interrupted",
                        "action": "RestartJobSetAndIgnoreMaxRestarts" if job.spot else "RestartJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    },
                    {"name": "failed", "action": "FailJobSet"},
                ],
            },
            "replicatedJobs": [
                {
                    "name": group,
                    "replicas": 1,
                    "template": {"spec": _indexed_job(job, count, _pod(job, name, group, kind, channels, checkpoints))},
                }
                for group, kind, count in _groups(job)
            ],
        },
    }
    isolation = (_isolation(name, where.namespace),) if where.network_isolation else ()
    return KubernetesJob((jobset, *isolation), uploads, where.storage)


def jobset_name(directory: Path, again: int = 0) -> str:
    """The JobSet's name for a run directory, a DNS label that leaves room for the names of its pods.

    Directories of different names have JobSets of different names, and so has a run each time that it goes on `again`.
    """
    lower = directory.name.lower()
    if lower != directory.name:
        lower += f"-{hashlib.sha256(directory.name.encode()).hexdigest()[:8]}"
    return job_name(Path(lower), again, longest=_LONGEST_NAME)


def hosts_of(job: Job, name: str) -> dict[str, list[str]]:
    """The names of a JobSet's hosts by which they find each other, by group."""
    return {group: [_host(name, group, index) for index in range(count)] for group, _, count in _groups(job)}


def all_hosts(job: Job, name: str) -> list[str]:
    """The same, of all groups."""
    return [host for members in hosts_of(job, name).values() for host in members]


def _host(name: str, group: str, index: int | str) -> str:
    return f"{name}-{group}-0-{index}.{name}"


def _groups(job: Job) -> Iterator[tuple[str, str, int]]:
    """(name, instance type, hosts) of each group of hosts."""
    for name, (kind, count) in zip((WORKER_GROUP, PS_GROUP), job.groups, strict=False):
        yield name, kind, count


def _indexed_job(job: Job, hosts: int, pod: dict[str, Any]) -> dict[str, Any]:
    """A Job of so many pods that are numbered, in which what happens to a pod is told from what its work did."""
    failures = (
        {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [_STOPPED_CODE]}},
    )
    return {
        "completionMode": "Indexed",
        "parallelism": hosts,
        "completions": hosts,
        "backoffLimit": 0,
        **({"activeDeadlineSeconds": math.ceil(job.max_run_s)} if job.max_run_s else {}),
        "podFailurePolicy": {"rules": [{"action": "FailJob", **failure} for failure in failures]},
        "template": pod,
    }


def _pod(
    job: Job,
    name: str,
    group: str,
    kind: str,
    channels: Mapping[str, str],
    checkpoints: str,
) -> dict[str, Any]:
    """The template of a group's pods, whose instance type is `kind`."""
    where = job.backend
    assert isinstance(where, Kubernetes)
    groups = hosts_of(job, name)
    contract = {
        "hyperparameters": {JOB: job_json(job)},
        "inputdataconfig": {channel: {} for channel in channels},
        "resourceconfig": {
            "current_instance_type": kind,
            "hosts": all_hosts(job, name),
            "instance_groups": [{"instance_group_name": each, "hosts": members} for each, members in groups.items()],
        },
    }
    environment = {
        **environment_of(job),
        **kernels.environment(kernels.unmeasured(job)),
        "PYTHONUNBUFFERED": "1",
        "HOME": "/tmp",
        "TRAINING_JOB_NAME": name,
        STOPPED_EXIT_CODE: str(_STOPPED_CODE),
    }
    numbers = [  # before what refers to them
        _field("POD_INDEX", f"metadata.annotations['{_INDEX}']"),
        _field("ATTEMPT", f"metadata.labels['{ATTEMPT_LABEL}']"),
        {"name": CURRENT_HOST, "value": _host(name, group, "$(POD_INDEX)")},
    ]
    recorded = f"{checkpoints}/{KEPT}/{group}-$(POD_INDEX)"  # the same when the run goes on as another JobSet
    account = {"serviceAccountName": where.service_account} if where.service_account else {}
    selector = {"nodeSelector": where.node_selector} if where.node_selector else {}
    return {
        "metadata": {
            "labels": LABELS,
            "annotations": {f"{_CONTRACT}{file}": json.dumps(content) for file, content in contract.items()},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": int(GRACE_S),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **account,
            **selector,
            "tolerations": [
                {
                    "key": f"node.kubernetes.io/{state}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": _SILENT_NODE_S,
                }
                for state in ("not-ready", "unreachable")
            ],
            "securityContext": POD_SECURITY,
            **_with_storage(job, name, kind, numbers, [*channels.values()], checkpoints, recorded),
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image_of(job, kind),
                    "imagePullPolicy": where.pull_policy,
                    "command": ENTRYPOINT,
                    "args": ARGUMENTS,
                    "env": [*numbers, *({"name": variable, "value": value} for variable, value in environment.items())],
                    "resources": _resources(where, kind),
                    "securityContext": CONTAINER_SECURITY,
                    "terminationMessagePath": f"{ROOT}/output/failure",
                    "volumeMounts": [
                        {"name": "contract", "mountPath": f"{ROOT}/input/config", "readOnly": True},
                        {"name": "scratch", "mountPath": "/tmp"},
                        *_mounts(name, checkpoints, recorded),
                        *(_channel(*one) for one in channels.items()),
                    ],
                }
            ],
            "volumes": [
                {
                    "name": "contract",
                    "downwardAPI": {
                        "items": [
                            {
                                "path": f"{file}.json",
                                "fieldRef": {"fieldPath": f"metadata.annotations['{_CONTRACT}{file}']"},
                            }
                            for file in contract
                        ]
                    },
                },
                {"name": "scratch", "emptyDir": {}},
                storage_volume(where),
            ],
        },
    }


def _with_storage(
    job: Job, name: str, kind: str, numbers: list[dict[str, Any]], data: list[str], checkpoints: str, recorded: str
) -> dict[str, Any]:
    """The containers that stand between a host and S3: one fetches before it starts, one uploads beside it, and ends
    after it. Neither has more of AWS than the pod's service account, or a secret, gives.
    """
    where = job.backend
    assert isinstance(where, Kubernetes)
    if not where.storage:
        return {}
    place, results = f"{_STORAGE}/{FOLDER}", f"jobs/{name}/$(ATTEMPT)"
    container = {
        "image": image_of(job, kind),
        "imagePullPolicy": where.pull_policy,
        "env": numbers,
        **({"envFrom": [{"secretRef": {"name": where.storage_secret}}]} if where.storage_secret else {}),
        "resources": {"requests": FILES_RESOURCES, "limits": FILES_RESOURCES},
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "storage", "mountPath": _STORAGE}],
    }
    program = ["python3", "-m", "facesim.backends.kubernetes.in_pod"]
    folders = [*data, checkpoints, recorded, f"{results}/output", f"{results}/model"]
    keep = [checkpoints, str(job.recovery.checkpoint_keep), results]
    return {
        "initContainers": [
            {"name": FETCH, "command": [*program, "fetch", where.storage, place, *folders], **container},
            {
                "name": "keep",
                "restartPolicy": "Always",  # which makes it one that runs beside the host, which starts after it
                "startupProbe": {
                    "exec": {"command": ["test", "-e", f"{place}/{READY}"]},
                    "periodSeconds": 1,
                    "failureThreshold": 300,
                },
                "command": [*program, "keep", where.storage, place, *keep],
                **container,
            },
        ]
    }


#: Nothing that only root may, in a form that the strictest of Kubernetes' Pod Security Standards accepts.
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": _NOBODY,
    "runAsGroup": _NOBODY,
    "fsGroup": _NOBODY,
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def image_of(job: Job, kind: str) -> str:
    """The image of a job's hosts of an instance type."""
    return job.backend.image or image.IMAGE + image.variant(job.framework, cuda=bool(instance(kind).cuda))


def storage_volume(where: Kubernetes) -> dict[str, Any]:
    if where.storage:
        return {"name": "storage", "emptyDir": {}}
    return {"name": "storage", "persistentVolumeClaim": {"claimName": where.storage_claim}}


def _resources(where: Kubernetes, kind: str) -> dict[str, Any]:
    """All that a pod may use is reserved for it: what it does then does not depend on its neighbours."""
    facts = instance(kind)
    memory_mib = round((where.pod_memory_gib or facts.memory_gib) * 1024)
    resources = {"cpu": f"{round(1000 * (where.pod_cpus or facts.vcpu))}m", "memory": f"{memory_mib}Mi"}
    if facts.cuda:
        resources["nvidia.com/gpu"] = str(facts.gpus)
    return {"requests": resources, "limits": resources}


def _mounts(name: str, checkpoints: str, recorded: str) -> Iterator[dict[str, Any]]:
    """What a pod writes of the claim. Samples go on after an interruption, and each host has its own."""
    yield _mount(CHECKPOINTS, subPath=f"{FOLDER}/{checkpoints}")
    yield _mount(f"{CHECKPOINTS}/{KEPT}", subPathExpr=f"{FOLDER}/{recorded}")
    for path, folder in (("output/data", "output"), ("model", "model")):
        yield _mount(f"{ROOT}/{path}", subPathExpr=f"{FOLDER}/jobs/{name}/$(ATTEMPT)/{folder}")


def _channel(channel: str, folder: str) -> dict[str, Any]:
    return _mount(f"{ROOT}/input/data/{channel}", subPath=f"{FOLDER}/{folder}", readOnly=True)


def _mount(path: str, **of: Any) -> dict[str, Any]:
    return {"name": "storage", "mountPath": path, **of}


def _field(variable: str, path: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _isolation(name: str, namespace: str) -> dict[str, Any]:
    """Pods of the JobSet reach each other and the cluster's name servers, and are reached by each other."""
    mine = {"podSelector": {"matchLabels": {JOBSET_LABEL: name}}}
    names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": LABELS},
        "spec": {
            **mine,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [mine]}],
            "egress": [{"to": [mine]}, {"ports": names}],
        },
    }


def checkpoints_folder(plan: Mapping[str, Any]) -> str:
    """The folder of facesim's folder of the claim in which a run's checkpoints are, by the documents that ran it."""
    jobset = plan["documents"][0]
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    return mounts[CHECKPOINTS]["subPath"].removeprefix(f"{FOLDER}/")

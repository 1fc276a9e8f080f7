"""The persistent volume claim of jobs, through a pod that has it mounted: data go there, results come home.

It takes nothing but to run a command in a pod, as `kubectl cp` does: no other way into the cluster, and no account of a
store of objects.
"""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.backends.kubernetes.client import ClusterError, asking
from facesim.backends.kubernetes.manifests import (
    CONTAINER,
    CONTAINER_SECURITY,
    FILES_RESOURCES,
    FOLDER,
    LABELS,
    POD_SECURITY,
    image_of,
    storage_volume,
)
from facesim.backends.kubernetes.pods import has_started, trouble_of
from facesim.backends.sagemaker.advice import AwsError
from facesim.backends.sagemaker.storage import unpack
from facesim.runs.events import Event, PodPending, Uploaded

if TYPE_CHECKING:
    from facesim.backends.kubernetes.client import Cluster
    from facesim.spec.job import Job

#: Where the pod has facesim's folder of the claim.
_MOUNT = "/storage"
#: A pod that was left behind ends after so long.
_LONGEST_S = 86_400
_LOOK_EVERY_S = 1.0


class StoppedError(Exception):
    """The user ended an upload."""


class Storage:
    """The claim that a job's pods use. It can be used from `start` to `close`."""

    def __init__(self, cluster: Cluster, job: Job, jobset: str):
        self._cluster = cluster
        self._pod = f"{jobset}-files"
        self._document = pod_of(self._pod, job)

    def start(self) -> Iterator[Event | None]:
        """Start the pod and wait until it runs; tell what keeps it from that.

        Raises:
            FacesimError: the cluster does not let it start.
        """
        self._cluster.delete_pod(self._pod)  # an earlier command may have left it
        self._cluster.create(self._document)
        began_s, before = time.monotonic(), ""
        while not has_started(pod := self._cluster.pod(self._pod)):
            if trouble := trouble_of(pod):
                if time.monotonic() - began_s > trouble.patience_s:
                    raise ClusterError(f"the pod {self._pod} does not start: {trouble.why}")
                if trouble.why != before:
                    before = trouble.why
                    yield PodPending(pod=self._pod, why=trouble.why)
            yield None
            time.sleep(_LOOK_EVERY_S)

    def has(self, folder: str) -> bool:
        return self._run("has", folder)[0] == 0

    def upload(self, source: Path, folder: str, stopped: Callable[[], bool]) -> Iterator[Event]:
        """Bring a folder there; tell each file of it.

        Raises:
            StoppedError: `stopped` said so before all was there.
            ClusterError: it did not arrive.
        """
        with asking(f"upload to {folder}", self._cluster.namespace):
            socket = self._execute("receive", folder)
            try:
                with tarfile.open(fileobj=_Input(socket, stopped), mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    for file in sorted(path for path in source.rglob("*") if path.is_file()):
                        archive.add(file, str(file.relative_to(source)))
                        yield Uploaded(file=file.name, to=folder, bytes=file.stat().st_size)
                _check(f"upload to {folder}", *_output(socket))
            finally:
                socket.close()

    def fetch(self, folder: str, place: Path) -> list[str]:
        """Bring the newest of a folder's numbered folders to `place`; returns what is damaged of it, in words."""
        code, output, errors = self._run("send", folder)
        _check(f"download {folder}", code, output, errors)
        archive = place.with_name(f"{place.name}.tar.gz")
        archive.write_bytes(output)
        try:
            unpack(archive, place)
        except AwsError as error:
            return [str(error)]
        return []

    def remove(self, folder: str) -> None:
        _check(f"remove {folder}", *self._run("remove", folder))

    def close(self) -> None:
        """End the pod."""
        self._cluster.delete_pod(self._pod)

    def _run(self, command: str, folder: str) -> tuple[int, bytes, str]:
        with asking(f"use {folder} of the storage claim", self._cluster.namespace):
            socket = self._execute(command, folder)
            try:
                return _output(socket)
            finally:
                socket.close()

    def _execute(self, command: str, folder: str) -> Any:
        return self._cluster.execute(
            self._pod, ["python3", "-m", "cluster.hosted.claim", command, f"{_MOUNT}/{folder}"]
        )


def pod_of(name: str, job: Job) -> dict[str, Any]:
    where = job.backend
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": where.namespace, "labels": LABELS},
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": _LONGEST_S,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **({"serviceAccountName": where.service_account} if where.service_account else {}),
            **({"nodeSelector": where.node_selector} if where.node_selector else {}),
            "securityContext": POD_SECURITY,
            "containers": [
                {
                    "name": CONTAINER,
                    "image": image_of(job, job.shape.instance_type),
                    "imagePullPolicy": where.pull_policy,
                    "command": ["sleep", str(_LONGEST_S)],
                    "resources": {"requests": FILES_RESOURCES, "limits": FILES_RESOURCES},
                    "securityContext": CONTAINER_SECURITY,
                    "volumeMounts": [{"name": "storage", "mountPath": _MOUNT, "subPath": FOLDER}],
                }
            ],
            "volumes": [storage_volume(where)],
        },
    }


class _Input:
    """The input of a command in a pod, as a file that is written."""

    _MOST = 1 << 16

    def __init__(self, socket: Any, stopped: Callable[[], bool]):
        self._socket, self._stopped = socket, stopped

    def write(self, content: bytes) -> int:
        for begin in range(0, len(content), self._MOST):
            if self._stopped():
                raise StoppedError
            self._socket.write_stdin(content[begin : begin + self._MOST])
        return len(content)


def _output(socket: Any) -> tuple[int, bytes, str]:
    """The exit code of a command in a pod, and all that it wrote to its output and as errors."""
    while socket.is_open():
        socket.update(timeout=1)
    output, errors, status = (socket.read_channel(channel) for channel in (1, 2, 3))
    if not status:
        raise ClusterError("the connection to a command in a pod was lost; try again")
    ended = json.loads(status)
    code = 0 if ended["status"] == "Success" else 1
    return code, output, errors.decode(errors="replace") or ended.get("message", "")


def _check(what: str, code: int, output: bytes, errors: str) -> None:
    if code:
        last = (errors.strip().splitlines() or ["no word why"])[-1]
        raise ClusterError(
            f"cannot {what} of the storage claim: {last}; is there room, and may user 65534 write to it?"
        )

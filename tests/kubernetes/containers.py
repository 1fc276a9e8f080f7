"""A node that runs the containers of pods with the engine of this machine."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import uuid
from pathlib import Path

from cluster.containers import engine
from cluster.containers.host import StartedContainer, quota, user_for
from tests.kubernetes.pods import Container, Process


class ContainerNode:
    """Runs `image` in place of every pod's, with what a pod's security context, limits and mounts say."""

    def __init__(self, image: str):
        self._image = image
        self._client = engine.connect()
        self._id = f"kubernetes-{uuid.uuid4().hex[:8]}"
        self._scratch = Path(tempfile.mkdtemp(prefix="facesim-cluster-"))
        self._guard = engine.Guard(self._id, self._scratch)
        self._lock = threading.Lock()

    def start(self, container: Container) -> Process:
        from docker.types import EndpointConfig

        network = self._network(f"{self._id}-{container.network[:8]}")
        spec, (described,) = container.spec, container.spec["containers"]
        of_container, limits = described["securityContext"], described["resources"]["limits"]
        assert spec["securityContext"]["runAsNonRoot"] and of_container["allowPrivilegeEscalation"] is False
        message, path = container.message
        memory = int(limits["memory"].removesuffix("Mi")) * 2**20
        aliases = [container.hostname, *container.addresses]
        made = self._client.containers.create(
            self._image,
            entrypoint=container.command[:1],
            command=container.command[1:],
            name=container.pod,
            hostname=container.hostname,
            environment=container.environment,
            labels=engine.labels(self._id),
            volumes={
                str(message): {"bind": path, "mode": "rw"},
                **{
                    str(folder): {"bind": place, "mode": "ro" if read_only else "rw"}
                    for folder, place, read_only in container.mounts
                },
            },
            user="{}:{}".format(*user_for(self._client)),
            cap_drop=of_container["capabilities"]["drop"],
            security_opt=["no-new-privileges"],
            read_only=of_container["readOnlyRootFilesystem"],
            mem_limit=memory,
            memswap_limit=memory,
            **quota(min(int(limits["cpu"].removesuffix("m")) / 1000, float(self._client.info()["NCPU"]))),
            network=network,
            networking_config={network: EndpointConfig(self._client.api._version, aliases=aliases)},
        )
        made.start()
        return _PodContainer(made)

    def close(self) -> None:
        engine.remove(self._client, self._id)
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._guard.dismiss()
        self._client.close()

    def _network(self, name: str) -> str:
        with self._lock:
            if not self._client.networks.list(names=[name]):
                self._client.networks.create(name, driver="bridge", labels=engine.labels(self._id))
        return name


class _PodContainer(StartedContainer):
    def wait(self) -> int:  # type: ignore[override]
        return super().wait()[0]

    def close(self) -> None:
        from docker.errors import APIError

        with contextlib.suppress(APIError):  # it has been removed
            self._container.remove(force=True, v=True)

"""One host of a CreateTrainingJob request as a container: started with what its instance type has, read, measured."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.containers.engine import EngineError, answering
from cluster.containers.opt_ml import INTERFACE, Host

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container
    from docker.models.networks import Network

#: Where SageMaker has checkpoints unless the request says otherwise.
_CHECKPOINTS = "/opt/ml/checkpoints"

#: Who may do nothing: what runs as root here runs as this user in a container.
_NOBODY = 65534

#: What every container may do: nothing that only root may, and with no more processes and threads than a training has
#: use for on a large machine.
_CONFINED: dict[str, Any] = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges"], "pids_limit": 8192}


#: How SageMaker runs an image whose request names neither entrypoint nor arguments: `docker run IMAGE train`.
_TRAIN = ["train"]


@dataclass(frozen=True)
class HostShape:
    """What a host of an instance type is given of this machine: so much time of its processors, and how many of them at
    once. None is no limit.
    """

    cpus: float
    processors: int | None = None
    memory_bytes: int | None = None
    bandwidth_bits_per_s: float | None = None


@dataclass(frozen=True)
class Surroundings:
    """What all containers of one attempt share.

    prefix: what the names of all its containers begin with. cpus: of the engine's machine. channels: each input
    channel's folder. user: the user and group, by number, that containers run as.
    """

    client: DockerClient
    network: Network
    prefix: str
    labels: dict[str, str]
    cpus: float
    channels: Mapping[str, Path]
    user: tuple[int, int]


def user_for(client: DockerClient) -> tuple[int, int]:
    """The user and group, by number, that containers run as: not root, where what they write can still be removed.

    An engine that is not root itself maps a container's root to its own user, and others to users that own nothing
    here; there root has no more rights than we have.
    """
    if "name=rootless" in client.info().get("SecurityOptions", []):
        return 0, 0
    return (os.getuid(), os.getgid()) if os.getuid() != 0 else (_NOBODY, _NOBODY)


def give(folder: Path, user: tuple[int, int]) -> None:
    """Make the user of containers the owner of a folder and all that is in it, where that is not us already."""
    if os.getuid() == 0 and user != (0, 0):
        for path in (folder, *folder.rglob("*")):
            os.chown(path, *user, follow_symlinks=False)


class StartedContainer:
    """A container that runs, or has run."""

    def __init__(self, container: Container):
        self._container = container

    def signal(self, name: str) -> None:
        """Send a signal, such as SIGTERM, to its process 1. Without effect if it has ended."""
        from docker.errors import APIError

        with contextlib.suppress(APIError):
            self._container.kill(name)

    def lines(self) -> Iterator[str]:
        """What it prints, line by line, until it ends."""
        rest = b""
        for chunk in self._container.logs(stream=True, follow=True):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    def wait(self) -> tuple[int, bool]:
        """Its exit code, and whether it was killed for want of memory."""
        code = self._container.wait()["StatusCode"]
        self._container.reload()
        return code, self._container.attrs["State"]["OOMKilled"]


class HostContainer(StartedContainer):
    """The container of one host, on some of the engine's processors. Making one starts it.

    Raises:
        EngineError: its bandwidth cannot be limited.
    """

    def __init__(
        self, host: Host, shape: HostShape, processors: Sequence[int], request: dict[str, Any], around: Surroundings
    ):
        from docker.types import EndpointConfig

        self._name, self._around = f"{around.prefix}-{host.name}", around
        self._cpus = min(shape.cpus, around.cpus)
        algorithm, network = request["AlgorithmSpecification"], around.network.name
        give(host.place, around.user)
        container = around.client.containers.create(
            algorithm["TrainingImage"],
            entrypoint=algorithm.get("ContainerEntrypoint"),
            command=algorithm.get("ContainerArguments") or (None if "ContainerEntrypoint" in algorithm else _TRAIN),
            name=self._name,
            hostname=host.name,
            environment={
                "HOME": "/tmp",
                **request.get("Environment", {}),
                "TRAINING_JOB_NAME": request["TrainingJobName"],
            },
            labels=around.labels,
            volumes=_mounts(host, request, around.channels),
            user=f"{around.user[0]}:{around.user[1]}",
            **_CONFINED,
            **quota(self._cpus),
            cpuset_cpus=",".join(map(str, processors)) if len(processors) < around.cpus else "",
            mem_limit=shape.memory_bytes,
            memswap_limit=shape.memory_bytes,
            network=network,
            networking_config={network: EndpointConfig(around.client.api._version, aliases=[host.name])},
        )
        container.start()
        super().__init__(container)
        if shape.bandwidth_bits_per_s:
            self._limit_bandwidth(host.name, algorithm["TrainingImage"], shape.bandwidth_bits_per_s)

    def measurements(self, ended: threading.Event, every_s: float) -> Iterator[dict[str, float]]:
        """What the engine measures of it, which it does once a second at the most, until `ended` or it is gone."""
        before: dict[str, Any] | None = None
        due = time.monotonic() + every_s
        while not ended.is_set():
            # Not as a stream, which goes on, silent, when the container has ended. It takes the engine up to a second.
            try:
                with answering():
                    now = self._container.stats(stream=False, one_shot=True)
            except (EngineError, ValueError):
                return  # it has been removed, perhaps while the engine measured, or the engine does not answer any more
            if not now.get("memory_stats") and not self._runs():
                return
            if time.monotonic() < due or not now.get("memory_stats"):
                ended.wait(0.2)
                continue
            yield _usage(now, before, self._cpus)
            before, due = now, time.monotonic() + every_s - 0.5

    def _runs(self) -> bool:
        try:
            with answering():
                self._container.reload()
        except EngineError:  # it has been removed, or nobody knows
            return False
        return self._container.status in ("running", "paused")

    def _limit_bandwidth(self, host: str, image: str, bits_per_s: float) -> None:
        """What it sends and what it receives, each from a container beside the host: the host may not set up networks,
        these may, one the host's own and one the engine's, where the other end of the host's link is.
        """
        network = f"container:{self._container.id}"
        other_end = self._limit_egress(host, image, "bandwidth", INTERFACE, bits_per_s, network)
        if other_end:
            self._limit_egress(host, image, "bandwidth-in", other_end, bits_per_s, "host")

    def _limit_egress(
        self, host: str, image: str, name: str, interface: str, bits_per_s: float, network_mode: str
    ) -> str:
        """Limit what an interface sends; the number of the other end of its link, empty where there is none."""
        from docker.errors import APIError, ContainerError

        try:
            output = self._around.client.containers.run(
                image,
                entrypoint=["python3", "-m", "cluster.containers.bandwidth"],
                command=[interface, f"{bits_per_s:.0f}"],
                name=f"{self._name}-{name}",
                labels=self._around.labels,
                network_mode=network_mode,
                **_CONFINED,
                cap_add=["NET_ADMIN"],
                user="0:0",
                remove=True,
                stderr=True,
            )
        except (APIError, ContainerError) as error:
            if not self._runs():
                return ""  # it has ended, which is reported elsewhere; then there is no network to limit
            why = error.stderr or b"" if isinstance(error, ContainerError) else str(error).encode()
            last = (why.decode(errors="replace").strip().splitlines() or ["no word why"])[-1]
            raise EngineError(f"the bandwidth of {host} cannot be limited: {last}") from None
        return output.decode().split()[-1] if output.split() else ""


def quota(cpus: float) -> dict[str, int]:
    """The share of the processors that a container has, given out in periods that are short.

    A tenth of the engine's usual 100 ms: what a host has not used in one period is lost, so a host that is slower than
    this machine must not find that it can do in a burst, at full speed, what should take it a part of a period. No
    quota may be below a millisecond.
    """
    period_us = max(10_000, math.ceil(1000 / cpus))
    return {"cpu_period": period_us, "cpu_quota": max(1000, round(cpus * period_us))}


def _mounts(host: Host, request: dict[str, Any], channels: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Each folder of /opt/ml is a mount of its own, as it may be on an instance: there are no links between them, nor
    can a file be renamed from one to another.
    """
    folders = {"input/config": "ro", "model": "rw", "output": "rw", "output/data": "rw"}
    mounts = {str(host.place / folder): {"bind": f"/opt/ml/{folder}", "mode": mode} for folder, mode in folders.items()}
    checkpoints = request.get("CheckpointConfig", {}).get("LocalPath", _CHECKPOINTS)
    mounts[str(host.place / "checkpoints")] = {"bind": checkpoints, "mode": "rw"}
    return mounts | {
        str(folder): {"bind": f"/opt/ml/input/data/{name}", "mode": "ro"} for name, folder in channels.items()
    }


def _usage(now: dict[str, Any], before: dict[str, Any] | None, cpus: float) -> dict[str, float]:
    """What the engine's figures of one moment, and of the one before, mean."""
    memory = now["memory_stats"]
    # As Docker's own command has it: pages of files that nobody uses are not in use. (Control groups 1 and 2.)
    unused = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    used, cpu_ns = memory["usage"] - unused, now["cpu_stats"]["cpu_usage"]["total_usage"]
    usage = {
        "cpu_count": cpus,
        "cpu_s": cpu_ns / 1e9,
        "memory_bytes": used,
        "memory_percent": 100 * used / memory["limit"],
    }
    if before:
        seconds = _seconds(now["read"]) - _seconds(before["read"])
        used_s = (cpu_ns - before["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
        if seconds > 0:
            usage["cpu_percent"] = min(100.0, max(0.0, 100 * used_s / (seconds * cpus)))
    networks = now.get("networks", {}).values()
    usage["net_sent_bytes"] = sum(network["tx_bytes"] for network in networks)
    usage["net_received_bytes"] = sum(network["rx_bytes"] for network in networks)
    moved = now.get("blkio_stats", {}).get("io_service_bytes_recursive") or []
    for name, operation in (("disk_read_bytes", "read"), ("disk_written_bytes", "write")):
        usage[name] = sum(entry["value"] for entry in moved if entry["op"].lower() == operation)
    return usage


def _seconds(stamp: str) -> float:
    """Seconds of an RFC 3339 time with nanoseconds, such as 2026-11-23T05:13:11.417778904Z."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return time.mktime(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction}")

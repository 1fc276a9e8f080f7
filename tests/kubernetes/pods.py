"""Pods of the cluster in `tests.kubernetes.cluster`: from a document to a container that runs, and its status."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from cluster.containers.host import give

ROOT = Path(__file__).resolve().parents[2]

#: Who owns what is made for the pods where this process may give it away: `fsGroup`.
NOBODY = (65_534, 65_534)


class Process(Protocol):
    """A container that runs."""

    def lines(self) -> Iterator[str]:
        """What it prints, until it ends."""

    def wait(self) -> int:
        """Its exit code."""

    def signal(self, name: str) -> None:
        """Send SIGTERM or SIGKILL. Without effect if it has ended."""

    def close(self) -> None: ...


@dataclass
class Container:
    """What a node has to run, with everything looked up that a document only names.

    mounts: (folder here, path in the container, whether it is read only). message: the file that it may leave as its
    termination message, and where it has it. addresses: the names by which others find it. network: what those share
    that may find each other.
    """

    pod: str
    image: str
    command: list[str]
    environment: dict[str, str]
    mounts: list[tuple[Path, str, bool]]
    message: tuple[Path, str]
    hostname: str
    addresses: list[str]
    network: str
    spec: dict[str, Any] = field(default_factory=dict)

    def folder(self, path: str) -> Path:
        """Where a path of the container is here."""
        here, there, _ = max((one for one in self.mounts if path.startswith(one[1])), key=lambda one: len(one[1]))
        return here / path.removeprefix(there).lstrip("/")


class Node(Protocol):
    """What runs containers."""

    def start(self, container: Container) -> Process: ...


class Pod:
    """One pod, from its creation to its end.

    Args:
        trouble: keeps it from starting: `("Unschedulable", MESSAGE)`, or the reason and message of a waiting container.
    """

    def __init__(
        self, document: dict[str, Any], node: Node, claims: Path, scratch: Path, trouble: tuple[str, str] | None
    ):
        self.document = document
        document["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        self.name: str = document["metadata"]["name"]
        self.printed: list[tuple[str, str]] = []  # (time, line)
        self.changed = threading.Condition()
        self.exit_code: int | None = None
        self._claims, self._scratch, self._trouble = claims, scratch / self.name, trouble
        self._process: Process | None = None
        self._beside: subprocess.Popen[bytes] | None = None
        self._conditions: list[dict[str, Any]] = []
        self._set_status("Pending", {})
        if trouble and trouble[0] == "Unschedulable":
            self._condition("PodScheduled", "False", *trouble)
        elif trouble:
            self._set_status("Pending", {"waiting": {"reason": trouble[0], "message": trouble[1]}})
        else:
            self.container = self._container()
            if self._prepare(document["spec"].get("initContainers", [])):
                self._process = node.start(self.container)
                threading.Thread(target=self._run, daemon=True).start()

    @property
    def disrupted(self) -> bool:
        return any(condition["type"] == "DisruptionTarget" for condition in self._conditions)

    def terminate(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL after the grace. Returns at once."""
        self.document["metadata"].setdefault("deletionTimestamp", now())
        if self._process is None:
            if self.exit_code is None:
                self._end(137)
        elif self.exit_code is None:
            self._process.signal("SIGTERM" if grace_s else "SIGKILL")
            if grace_s:
                timer = threading.Timer(grace_s, self._process.signal, ["SIGKILL"])
                timer.daemon = True
                timer.start()

    def disrupt(self, reason: str, message: str, grace_s: float) -> None:
        """Take it away, as an eviction does."""
        self._condition("DisruptionTarget", "True", reason, message)
        self.terminate(grace_s)

    def kill(self) -> None:
        """As when the node's kernel kills its container."""
        assert self._process is not None
        self._process.signal("SIGKILL")

    def wait(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.exit_code is not None)

    def remove(self) -> None:
        if self._process:
            self._process.close()
        if self._beside:
            self._beside.kill()
            self._beside.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def log(self, follow: bool) -> Iterator[bytes]:
        at = 0
        while True:
            with self.changed:
                while follow and len(self.printed) <= at and self.exit_code is None:
                    self.changed.wait()
                lines, at = self.printed[at:], len(self.printed)
                ended = not follow or self.exit_code is not None
            yield from (f"{when} {line}\n".encode() for when, line in lines)
            if ended:
                return

    def _run(self) -> None:
        assert self._process is not None
        self._condition("PodScheduled", "True")
        self._set_status("Running", {"running": {"startedAt": now()}})
        for line in self._process.lines():
            with self.changed:
                self.printed.append((now(), line))
                self.changed.notify_all()
        code = self._process.wait()
        self._process.close()
        if self._beside:
            self._beside.terminate()
            self._beside.wait()
        self._end(code)

    def _prepare(self, containers: list[dict[str, Any]]) -> bool:
        """Run the containers that come before, here, with the paths of their volumes; one that is always to run goes on
        beside the others. Whether all is well.
        """
        for container in containers:
            (mount,) = container["volumeMounts"]
            folder = str(self._volume({"name": mount["name"]}))
            command = [
                _expanded(word, self.container.environment).replace(mount["mountPath"], folder)
                for word in container["command"]
            ]
            command[0] = sys.executable
            if container.get("restartPolicy") == "Always":
                self._beside = subprocess.Popen(command, cwd=ROOT)
                probe = [word.replace(mount["mountPath"], folder)
                         for word in container["startupProbe"]["exec"]["command"]]  # fmt: skip
                while subprocess.run(probe).returncode:
                    time.sleep(0.05)
                continue
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if ended.returncode:
                end = {"exitCode": ended.returncode, "reason": "Error", "message": ended.stderr[-2000:]}
                self._set_status("Failed", {})
                self.document["status"]["initContainerStatuses"] = [
                    {"name": container["name"], "state": {"terminated": end}}
                ]
                self.exit_code = ended.returncode
                return False
        return True

    def _end(self, code: int) -> None:
        file, _ = self.container.message if self._process else (Path("nothing"), "")
        message = file.read_text() if file.exists() else ""
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "message": message}
        self._set_status("Failed" if code else "Succeeded", {"terminated": ended})
        with self.changed:
            self.exit_code = code
            self.changed.notify_all()

    def _set_status(self, phase: str, state: dict[str, Any]) -> None:
        statuses = [{"name": self.document["spec"]["containers"][0]["name"], "state": state}] if state else []
        self.document["status"] = {
            "phase": phase, "containerStatuses": statuses, "conditions": self._conditions,
        }  # fmt: skip

    def _condition(self, kind: str, status: str, reason: str = "", message: str = "") -> None:
        self._conditions.append({"type": kind, "status": status, "reason": reason, "message": message})

    def _container(self) -> Container:
        metadata, spec = self.document["metadata"], self.document["spec"]
        (container,) = spec["containers"]
        environment: dict[str, str] = {}
        for variable in container.get("env", []):
            value = variable.get("value") or self._field(variable["valueFrom"]["fieldRef"]["fieldPath"])
            environment[variable["name"]] = _expanded(value, environment)
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = []
        for mount in container["volumeMounts"]:
            part = mount.get("subPath") or _expanded(mount.get("subPathExpr", ""), environment)
            folder = self._volume(volumes[mount["name"]]) / part
            folder.mkdir(parents=True, exist_ok=True)
            mounts.append((folder, mount["mountPath"], mount.get("readOnly", False)))
        message = self._scratch / "termination-log"
        message.touch()
        for folder in (message, *(folder for folder, _, read_only in mounts if not read_only)):
            give(folder, NOBODY)
        addresses = [f"{spec['hostname']}.{spec['subdomain']}"] if "subdomain" in spec else []
        return Container(
            self.name,
            container["image"],
            [*container["command"], *container.get("args", [])],
            environment,
            mounts,
            (message, container.get("terminationMessagePath", "/dev/termination-log")),
            spec.get("hostname", self.name),
            addresses,
            metadata["labels"].get("jobset.sigs.k8s.io/jobset-uid", self.name),
            spec,
        )

    def _volume(self, volume: dict[str, Any]) -> Path:
        folder = self._scratch / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        if "persistentVolumeClaim" in volume:
            return self._claims / volume["persistentVolumeClaim"]["claimName"]
        for item in volume.get("downwardAPI", {}).get("items", []):
            (folder / item["path"]).write_text(self._field(item["fieldRef"]["fieldPath"]))
        return folder

    def _field(self, path: str) -> str:
        match = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
        assert match, path
        return self.document["metadata"][match[1]][match[2]]


def _expanded(text: str, environment: dict[str, str]) -> str:
    """`$(NAME)` replaced by the variable's value; of one that is not defined before, it stays as it is."""
    return re.sub(r"\$\((\w+)\)", lambda match: environment.get(match[1], match[0]), text)


def now() -> str:
    ns = time.time_ns()
    whole = datetime.fromtimestamp(ns // 10**9, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{ns % 10**9:09d}Z"

"""What the pods of a job are at, what keeps them from starting, and what they print.

Of a pod's status, Kubernetes: "Pod Lifecycle", "Disruptions" (the condition DisruptionTarget).
"""

from __future__ import annotations

import math
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from cluster import clock
from facesim.backends.base import Line
from facesim.backends.kubernetes.client import MissingError, one_line
from facesim.backends.kubernetes.manifests import FETCH
from facesim.util.errors import FacesimError

if TYPE_CHECKING:
    from facesim.backends.kubernetes.client import Cluster

#: How long something that may mend itself keeps a pod from starting before its job is given up.
_PATIENCE_S = 300.0
#: How long until a log that could not be read is asked for again.
_AGAIN_S = 3.0

#: What keeps a container from starting, by the reasons that nodes give.
_WAITING = {
    "ErrImagePull": (_PATIENCE_S, "pull"),
    "ImagePullBackOff": (_PATIENCE_S, "pull"),
    "InvalidImageName": (0.0, "pull"),
    "ErrImageNeverPull": (0.0, "never"),
    "CreateContainerConfigError": (_PATIENCE_S, ""),
    "CreateContainerError": (_PATIENCE_S, ""),
    "RunContainerError": (_PATIENCE_S, ""),
}
_ADVICE = {
    "pull": "can nodes pull {image}? `facesim image build` makes it; push it to a registry and name it with --image; "
    "for a private registry --service-account names an account with its imagePullSecrets",
    "never": "--pull-policy Never is for an image that is on every node already: {image} is not",
}
#: What keeps a pod from getting a node, by words of the scheduler's message in lower case.
_UNSCHEDULED = (
    ("unbound", _PATIENCE_S,
     "the claim that --storage-claim names has no volume yet: `kubectl describe pvc` says why"),
    ("persistentvolumeclaim", _PATIENCE_S,
     "--storage-claim names a claim of the namespace, which docs/backends.md shows how to make"),
    ("insufficient", math.inf,
     "it starts when nodes have so much free: wait, or give fewer --workers, a smaller --instance-type, --pod-cpus or "
     "--pod-memory-gib"),
    ("node affinity", math.inf, "does any node have the labels of --node-selector?"),
    ("taint", math.inf, "nodes keep such pods away: --node-selector names others"),
    ("", math.inf, "it starts when there is a node for it"),
)  # fmt: skip


class Trouble(NamedTuple):
    """What keeps a pod from starting, and for how long it is worth to wait."""

    why: str
    patience_s: float


class End(NamedTuple):
    """How a pod's container ended; `message` is what it left as the reason, if anything."""

    exit_code: int
    reason: str
    message: str


def host_of(pod: dict[str, Any]) -> str:
    """The name of a pod by which the others of its job find it."""
    return f"{pod['spec'].get('hostname', pod['metadata']['name'])}.{pod['spec'].get('subdomain', '')}".rstrip(".")


def has_started(pod: dict[str, Any]) -> bool:
    """Whether its container runs, or has run."""
    return bool({"running", "terminated"} & _state(pod).keys())


def end_of(pod: dict[str, Any]) -> End | None:
    """How it ended, None while it has not."""
    fetched = _states_before(pod).get(FETCH, {}).get("terminated", {})
    ended = fetched if fetched.get("exitCode") else _state(pod).get("terminated")
    if ended:
        return End(ended["exitCode"], ended.get("reason", ""), ended.get("message", "").strip())
    status = pod.get("status", {})
    return End(1, status.get("reason", ""), status.get("message", "")) if status.get("phase") == "Failed" else None


def is_over(pod: dict[str, Any]) -> bool:
    """Whether all its containers have ended, that which uploads what its host left, too."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def disruption_of(pod: dict[str, Any]) -> str | None:
    """Why a pod is taken away, as the cluster says it: an eviction, a drained node; None if it is not."""
    for condition in _conditions(pod):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            return f"{host_of(pod)}: {condition.get('message') or condition.get('reason', 'it was taken away')}"
    return None


def trouble_of(pod: dict[str, Any]) -> Trouble | None:
    """What keeps a pod from starting, with advice; None where nothing is known to."""
    for state in [*_states_before(pod).values(), _state(pod)]:
        waiting = state.get("waiting", {})
        reason = waiting.get("reason", "")
        if reason not in _WAITING:
            continue
        patience_s, advice = _WAITING[reason]
        image = pod["spec"]["containers"][0]["image"]
        why = f"{reason}: {one_line(waiting.get('message', ''))}".rstrip(": ")
        return Trouble("; ".join(filter(None, (why, _ADVICE.get(advice, "").format(image=image)))), patience_s)
    for condition in _conditions(pod):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = one_line(condition.get("message", "no node takes it"))
            patience_s, advice = next((s, advice) for words, s, advice in _UNSCHEDULED if words in message.lower())
            return Trouble(f"{message}; {advice}", patience_s)
    return None


def _conditions(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return pod.get("status", {}).get("conditions", [])


def _states_before(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The same of the containers that prepare it, or run beside it, by their names."""
    return {one["name"]: one.get("state", {}) for one in pod.get("status", {}).get("initContainerStatuses", [])}


def _state(pod: dict[str, Any]) -> dict[str, Any]:
    """The state of its container: `waiting`, `running` or `terminated`, with details."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    return statuses[0].get("state", {}) if statuses else {}


class PodLogs:
    """What the pods of a job print: each is read by a thread of its own until it has ended."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self._printed: queue.SimpleQueue[Line | FacesimError] = queue.SimpleQueue()
        self._threads: dict[str, threading.Thread] = {}

    def follow(self, pods: Iterable[dict[str, Any]]) -> None:
        """Begin to read pods that have started."""
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if uid not in self._threads and has_started(pod):
                arguments = (pod["metadata"]["name"], host_of(pod))
                self._threads[uid] = threading.Thread(target=self._read, args=arguments, daemon=True)
                self._threads[uid].start()

    def new(self, wait_s: float = 0.0) -> Iterator[Line]:
        """What was printed since the last time; where that is nothing, what comes first within `wait_s`.

        Raises:
            FacesimError: a log cannot be read now; it is tried again.
        """
        while True:
            try:
                printed = self._printed.get(timeout=wait_s) if wait_s else self._printed.get_nowait()
            except queue.Empty:
                return
            if isinstance(printed, FacesimError):
                raise printed
            wait_s = 0.0
            yield printed

    def settled(self) -> bool:
        """Whether all that pods printed has been read."""
        return not any(thread.is_alive() for thread in self._threads.values())

    def _read(self, pod: str, host: str) -> None:
        last_ns = 0
        of_the_node: set[str] = set()
        while True:
            try:
                ended = end_of(self.cluster.pod(pod)) is not None  # before its log is read: no line is missed
                broke_off = False
                for time_ns, text in _lines(self.cluster.log(pod, follow=True)):
                    if time_ns is None:
                        broke_off = True
                        if text not in of_the_node:
                            of_the_node.add(text)
                            self._printed.put(Line(host, text, clock.time_unix_s()))
                    elif time_ns > last_ns:  # else it was read before the connection was lost
                        last_ns = time_ns
                        self._printed.put(Line(host, text, time_ns / 1e9))
                if ended:
                    return
                if broke_off:  # it may at once, again
                    time.sleep(_AGAIN_S)
            except MissingError:  # it was taken away, and its log with it
                return
            except FacesimError as error:
                self._printed.put(error)
                time.sleep(_AGAIN_S)


def lines_of(cluster: Cluster, pod: dict[str, Any]) -> Iterator[Line]:
    """What a pod has printed until now."""
    if has_started(pod):
        for time_ns, text in _lines(cluster.log(pod["metadata"]["name"], follow=False)):
            yield Line(host_of(pod), text, clock.time_unix_s() if time_ns is None else time_ns / 1e9)


def _lines(pieces: Iterable[bytes]) -> Iterator[tuple[int | None, str]]:
    """Whole lines with their times, in nanoseconds since 1970; None where it is the node's own word on why it shows no
    more of a log, such as `failed to create fsnotify watcher: too many open files`.
    """
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            whole = line.decode(errors="replace")
            stamp, _, text = whole.partition(" ")
            yield (nanoseconds(stamp), text) if _TIME.fullmatch(stamp) else (None, whole)


#: A time as logs and documents have it: whole seconds, a fraction of one, and how far the clock is from UTC.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def nanoseconds(stamp: str) -> int:
    """Since 1970, of an RFC 3339 time: 2026-11-23T05:13:11.417778904Z, or with the node's own +01:00 for the Z.

    Raises:
        ValueError: it is none.
    """
    if (match := _TIME.fullmatch(stamp)) is None:
        raise ValueError(f"{stamp!r} is no time")
    whole, fraction, offset = match.groups()
    seconds = int(datetime.fromisoformat(whole + offset.replace("Z", "+00:00")).timestamp())
    return seconds * 10**9 + int((fraction or "").ljust(9, "0")[:9])

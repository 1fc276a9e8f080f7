"""A Kubernetes-shaped API server: what facesim asks of one, over HTTP, with JobSets whose pods really run.

It keeps to what Kubernetes documents of these calls, and to what JobSet's controller does: an Indexed Job's pods, pod
failure policies, failure policies, suspension, deadlines. What runs a container is a `tests.kubernetes.pods.Node`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import simple_websocket
import yaml
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from facesim.backends.kubernetes.manifests import ATTEMPT_LABEL, JOBSET_LABEL
from tests.kubernetes.pods import Container, Node, Pod, Process, now
from tests.kubernetes.schemas import violations

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-the-test-cluster"

_JOBSETS = r"/apis/jobset\.x-k8s\.io/v1alpha2/namespaces/(?P<namespace>[^/]+)/(?P<resource>jobsets)"
_ROUTES = [
    rf"{_JOBSETS}(/(?P<name>[^/]+))?",
    r"/apis/networking\.k8s\.io/v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>networkpolicies)(/(?P<name>[^/]+))?",
    r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>jobs)",
    r"/api/v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>pods|persistentvolumeclaims)"
    r"(/(?P<name>[^/]+)(/(?P<part>log|exec))?)?",
]

#: How long a controller takes at least until it removes the pods of a Job that has failed.
_NOTICING_S = 0.3


class ApiError(Exception):
    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class TestCluster:
    """A cluster with one namespace, and one claim, `facesim`, whose folder is `claim`.

    Attributes:
        refusals: by (method, resource): the status and message of its next answers, while they are there.
        trouble: keeps pods from starting that are made from now on: see `tests.kubernetes.pods.Pod`.
        claim_phase: that of the claim.
    """

    __test__ = False

    def __init__(self, directory: Path, node: Node):
        self.namespace = "default"
        self._directory, self._node = directory, node
        self.claims = directory / "claims"
        self.claim = self.claims / "facesim"
        self.claim.mkdir(parents=True)
        self.claim.chmod(0o777)
        self.jobsets: dict[str, JobSet] = {}
        self.pods: dict[str, Pod] = {}
        self.policies: dict[str, dict[str, Any]] = {}
        self.refusals: dict[tuple[str, str], tuple[int, str]] = {}
        self.trouble: tuple[str, str] | None = None
        self.claim_phase = "Bound"
        self._server = make_server("127.0.0.1", 0, Request.application(self._answer), True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.kubeconfig = directory / "kubeconfig"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "test", "cluster": {"server": self.url}}],
                    "users": [{"name": "me", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "me"}}],
                    "current-context": "test",
                }
            )
        )
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()

    def switch(self, other: TestCluster) -> None:
        """Let the user's configuration name another cluster, too, and use that: `kubectl config use-context other`."""
        configuration = yaml.safe_load(self.kubeconfig.read_text())
        configuration["clusters"].append({"name": "other", "cluster": {"server": other.url}})
        configuration["contexts"].append({"name": "other", "context": {"cluster": "other", "user": "me"}})
        configuration["current-context"] = "other"
        self.kubeconfig.write_text(yaml.safe_dump(configuration))

    def stop(self) -> None:
        """End all pods, and stop answering."""
        for jobset in list(self.jobsets.values()):
            jobset.delete(grace_s=0)
        for pod in list(self.pods.values()):
            self.remove(pod, 0)
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def add(self, document: dict[str, Any]) -> Pod:
        node = _Sleeping() if document["spec"]["containers"][0]["command"][0] == "sleep" else self._node
        pod = Pod(document, node, self.claims, self._directory / "pods", self.trouble)
        self.pods[pod.name] = pod
        return pod

    def remove(self, pod: Pod, grace_s: float) -> None:
        """End a pod, wait for it, and forget it."""
        pod.terminate(grace_s)
        pod.wait()
        pod.remove()
        self.pods.pop(pod.name, None)

    def pods_of(self, jobset: str) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.document["metadata"]["labels"].get(JOBSET_LABEL) == jobset]

    # The API

    def _answer(self, request: Request) -> Response:
        try:
            match = next((one for route in _ROUTES if (one := re.fullmatch(route, request.path))), None)
            if match is None:
                return Response("404 page not found\n", 404)
            if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise ApiError(401, "Unauthorized")
            given = match.groupdict()
            resource, name, part = given["resource"], given.get("name"), given.get("part")
            if refusal := self.refusals.get((request.method, part or resource)):
                raise ApiError(*refusal)
            if given["namespace"] != self.namespace:
                raise ApiError(404, f'namespaces "{given["namespace"]}" not found')
            if part:
                return getattr(self, f"_{part}")(request, self._pod(name))
            return _json(getattr(self, f"_{resource}")(request, name))
        except ApiError as error:
            if error.code == 404 and str(error) == "404 page not found":
                return Response("404 page not found\n", 404)
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": error.code}
            return _json({**status, "message": str(error)}, error.code)

    def _pod(self, name: str | None) -> Pod:
        if name not in self.pods:
            raise ApiError(404, f'pods "{name}" not found')
        return self.pods[name]

    def _pods(self, request: Request, name: str | None) -> dict[str, Any]:
        if request.method == "POST":
            return self.add(_valid(request, self.pods)).document
        if name is None:
            return _list(request, [pod.document for pod in self.pods.values()])
        pod = self._pod(name)
        if request.method == "DELETE":
            self.remove(pod, float(request.args.get("gracePeriodSeconds", 30)))
        return pod.document

    def _persistentvolumeclaims(self, request: Request, name: str | None) -> dict[str, Any]:
        if name != "facesim":
            raise ApiError(404, f'persistentvolumeclaims "{name}" not found')
        return {"spec": {"accessModes": ["ReadWriteMany"]}, "status": {"phase": self.claim_phase}}

    def _networkpolicies(self, request: Request, name: str | None) -> dict[str, Any]:
        if request.method == "POST":
            document = _valid(request, self.policies)
            return self.policies.setdefault(document["metadata"]["name"], document)
        assert request.method == "PATCH" and name is not None
        self.policies[name]["metadata"] |= json.loads(request.data)["metadata"]
        return self.policies[name]

    def _jobs(self, request: Request, name: str | None) -> dict[str, Any]:
        return _list(request, [job for jobset in self.jobsets.values() for job in jobset.jobs])

    def _jobsets(self, request: Request, name: str | None) -> dict[str, Any]:
        if request.method == "POST":
            document = _valid(request, self.jobsets)
            jobset = self.jobsets[document["metadata"]["name"]] = JobSet(document, self)
            return jobset.document
        if name is None:
            return _list(request, [jobset.document for jobset in self.jobsets.values()])
        if name not in self.jobsets:
            raise ApiError(404, f'jobsets.jobset.x-k8s.io "{name}" not found')
        jobset = self.jobsets[name]
        if request.method == "PATCH":
            assert request.content_type == "application/merge-patch+json", request.content_type
            jobset.change(json.loads(request.data))
        elif request.method == "DELETE":
            jobset.delete()
        return jobset.document

    def _log(self, request: Request, pod: Pod) -> Response:
        assert request.args["timestamps"].lower() == "true"
        follow = request.args.get("follow", "false").lower() == "true"
        return Response(pod.log(follow), content_type="text/plain")

    def _exec(self, request: Request, pod: Pod) -> Response:
        """A command in a pod, over a websocket: channel 0 is its input, 1 and 2 are its output, 3 is how it ended.

        It runs here, with the paths of the container turned into those of its volumes.
        """
        socket = simple_websocket.Server(request.environ, subprotocols=["v4.channel.k8s.io"])
        words = request.args.getlist("command")
        command = [
            str(pod.container.folder(word)) if word.startswith("/") else {"python3": sys.executable}.get(word, word)
            for word in words
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
        )
        readers = [
            threading.Thread(target=_send, args=(socket, channel, stream), daemon=True)
            for channel, stream in ((1, process.stdout), (2, process.stderr))
        ]
        for reader in readers:
            reader.start()
        threading.Thread(target=_receive, args=(socket, process), daemon=True).start()
        for reader in readers:
            reader.join()
        code = process.wait()
        failed = {
            "status": "Failure", "message": f"command terminated with non-zero exit code: exit status {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }  # fmt: skip
        _send_bytes(socket, 3, json.dumps(failed if code else {"status": "Success"}).encode())
        socket.close()
        return Response("", 200)


class JobSet:
    """What JobSet's controller, and that of Jobs, make of a JobSet. A thread follows it."""

    def __init__(self, document: dict[str, Any], cluster: TestCluster):
        self.document = document
        document["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now().partition(".")[0] + "Z"}
        document["status"] = {"restarts": 0, "conditions": [], "replicatedJobsStatus": []}
        self.name: str = document["metadata"]["name"]
        self.jobs: list[dict[str, Any]] = []
        self._cluster = cluster
        self._counted = 0
        self._gone = threading.Event()
        self._grace_s = document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"][
            "terminationGracePeriodSeconds"
        ]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def change(self, changes: dict[str, Any]) -> None:
        self.document["metadata"].setdefault("annotations", {}).update(changes["metadata"]["annotations"])
        self.document["spec"]["suspend"] = changes["spec"]["suspend"]

    def delete(self, grace_s: float | None = None) -> None:
        if grace_s is not None:
            self._grace_s = grace_s
        self._cluster.jobsets.pop(self.name, None)
        self._gone.set()
        if grace_s is not None:
            self._thread.join()

    def evict(self, index: int, message: str = "Eviction API: evicting", grace_s: float | None = None) -> None:
        """Take a pod away, as the drain of its node does."""
        pod = self._cluster.pods_of(self.name)[index]
        pod.disrupt("EvictionByEvictionAPI", message, self._grace_s if grace_s is None else grace_s)

    def _run(self) -> None:
        while True:
            pods = self._start()
            why = self._watch(pods)
            again = why is not None and self._goes_on(why)
            # A Job that has failed ends its other pods.
            for pod in pods:
                pod.terminate(self._grace_s)
            for pod in pods:
                pod.wait()
            if again:
                time.sleep(_NOTICING_S)
            if again or why in ("suspended", "deleted", "DeadlineExceeded"):
                for pod in pods:
                    pod.remove()
                    self._cluster.pods.pop(pod.name, None)
            if not again:
                return self._conclude(why)
            self._counted += self._rule(why)["action"] == "RestartJobSet"
            self.document["status"]["restarts"] += 1

    def _start(self) -> list[Pod]:
        """The pods of an attempt."""
        self.jobs = []
        pods = []
        attempt = str(self.document["status"]["restarts"])
        for group in self.document["spec"]["replicatedJobs"]:
            job, spec = f"{self.name}-{group['name']}-0", group["template"]["spec"]
            labels = {
                JOBSET_LABEL: self.name,
                "jobset.sigs.k8s.io/jobset-uid": self.document["metadata"]["uid"],
                ATTEMPT_LABEL: attempt,
            }
            self.jobs.append({"metadata": {"name": job, "labels": labels}, "status": {"conditions": []}})
            for index in range(spec["completions"]):
                pod = json.loads(json.dumps(spec["template"]))
                metadata = pod["metadata"]
                metadata |= {"name": f"{job}-{index}-{uuid.uuid4().hex[:5]}", "namespace": self._cluster.namespace}
                metadata["labels"] |= labels
                metadata["annotations"] |= {"batch.kubernetes.io/job-completion-index": str(index)}
                pod["spec"] |= {"hostname": f"{job}-{index}", "subdomain": self.name}
                pods.append(self._cluster.add({"apiVersion": "v1", "kind": "Pod", **pod}))
        return pods

    def _watch(self, pods: list[Pod]) -> str | None:
        """Wait until an attempt is over: None where all its work was done, else why it is."""
        template = self.document["spec"]["replicatedJobs"][0]["template"]["spec"]
        deadline = time.monotonic() + template.get("activeDeadlineSeconds", float("inf"))
        while True:
            self._count(pods)
            if self._gone.is_set():
                return "deleted"
            if self.document["spec"].get("suspend"):
                return "suspended"
            if failed := [pod for pod in pods if pod.exit_code]:
                return _failure(failed[0], template["podFailurePolicy"]["rules"])
            if all(pod.exit_code == 0 for pod in pods):
                return None
            if time.monotonic() > deadline:
                return "DeadlineExceeded"
            time.sleep(0.02)

    def _count(self, pods: list[Pod]) -> None:
        active = sum(pod.exit_code is None for pod in pods)
        ready = sum(pod.document["status"]["phase"] == "Running" for pod in pods)
        self.document["status"]["replicatedJobsStatus"] = [{"name": "worker", "active": active, "ready": ready}]

    def _rule(self, why: str) -> dict[str, Any]:
        rules = self.document["spec"]["failurePolicy"]["rules"]
        return next(rule for rule in rules if why in rule.get("onJobFailureReasons", [why]))

    def _goes_on(self, why: str) -> bool:
        """Whether all pods are to be started again, by the failure policy."""
        if why in ("suspended", "deleted"):
            return False
        policy = self.document["spec"]["failurePolicy"]
        action = self._rule(why)["action"]
        counts = action == "RestartJobSet"
        return action != "FailJobSet" and not (counts and self._counted >= policy["maxRestarts"])

    def _conclude(self, why: str | None) -> None:
        """How it has ended, as a condition."""
        if why is None:
            return self._condition("Completed", "AllJobsCompleted", "jobset completed successfully")
        if why == "suspended":
            return self._condition("Suspended", "SuspendedJobs", "jobset is suspended")
        if why == "deleted":
            return None
        self.jobs[0]["status"]["conditions"] = [{"type": "Failed", "status": "True", "reason": why}]
        if self._rule(why)["action"] == "FailJobSet":
            message = f"applying FailJobSet failure policy action (first failed job: {self.name}-worker-0)"
            return self._condition("Failed", "FailJobSetFailurePolicyAction", message)
        return self._condition("Failed", "ReachedMaxRestarts", "jobset failed due to reaching max number of restarts")

    def _condition(self, kind: str, reason: str, message: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        self.document["status"]["conditions"].append(condition)


def _failure(pod: Pod, rules: list[dict[str, Any]]) -> str:
    """The reason for which the Job of a pod fails, by its pod failure policy."""
    for rule in rules:
        if "onPodConditions" in rule and pod.disrupted:
            return "PodFailurePolicy"
        if pod.exit_code in rule.get("onExitCodes", {}).get("values", []):
            return "PodFailurePolicy"
    return "BackoffLimitExceeded"


class _Sleeping:
    """A node for pods that do nothing by themselves."""

    def start(self, container: Container) -> Process:
        return _Sleep()


class _Sleep:
    def __init__(self) -> None:
        self._ended = threading.Event()

    def lines(self) -> Iterator[str]:
        self._ended.wait()
        yield from ()

    def wait(self) -> int:
        return 137

    def signal(self, name: str) -> None:
        self._ended.set()

    def close(self) -> None:
        pass


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass


def _valid(request: Request, there: dict[str, Any]) -> dict[str, Any]:
    document = json.loads(request.data)
    name = document["metadata"]["name"]
    if problems := violations(document):
        raise ApiError(422, f'{document["kind"]} "{name}" is invalid: {problems}')
    if name in there:
        raise ApiError(409, f'{document["kind"].lower()}s "{name}" already exists')
    return document


def _list(request: Request, documents: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = dict(pair.split("=") for pair in filter(None, request.args.get("labelSelector", "").split(",")))
    return {"items": [one for one in documents if wanted.items() <= one["metadata"].get("labels", {}).items()]}


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")


def _send(socket: Any, channel: int, stream: Any) -> None:
    read: Callable[[int], bytes] = stream.read1
    while piece := read(2**16):
        _send_bytes(socket, channel, piece)


def _send_bytes(socket: Any, channel: int, content: bytes) -> None:
    try:
        socket.send(bytes([channel]) + content)
    except simple_websocket.ConnectionClosed:
        pass


def _receive(socket: Any, process: Any) -> None:
    try:
        while True:
            message = socket.receive()
            if message[0] == 0 and len(message) > 1:
                process.stdin.write(message[1:])
                process.stdin.flush()
    except (simple_websocket.ConnectionClosed, BrokenPipeError, ValueError):
        process.stdin.close()

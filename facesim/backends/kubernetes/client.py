"""A cluster as the user's own configuration names it, and what it refuses in words that say what to do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from facesim.backends.kubernetes.manifests import GROUP, JOBSET_LABEL, PLURAL, STOPPED, VERSION
from facesim.util.errors import CredentialsError, FacesimError, InputError

if TYPE_CHECKING:
    from facesim.spec.backends import Kubernetes

#: Seconds to connect, and to wait for an answer.
_TIMEOUT_S = (10, 60)
#: The same while a log is followed: then it is asked for again.
_SILENCE_S = 900

#: How a patch changes what there is.
_MERGE = {"_content_type": "application/merge-patch+json"}

_ROLE = "docs/backends.md lists what has to be allowed"


class ClusterError(FacesimError):
    """The cluster refused or failed at something after it had begun."""


class MissingError(ClusterError):
    """The cluster has no such thing."""


class RefusedError(ClusterError):
    """The cluster finds the request itself wrong: it will be no better the next time."""


class DeniedError(InputError):
    """The credentials are good, but do not allow what was asked; or the namespace does not."""


class Cluster:
    """The namespace of a cluster in which jobs run. What it answers is as Kubernetes' API has it: plain data.

    Attributes:
        context: the one of the user's configuration that leads there; None within a pod of the cluster itself.
        address: that of its API server.

    Raises:
        InputError: the package `kubernetes` is missing, or the configuration names no cluster.
    """

    def __init__(self, where: Kubernetes):
        self.context, self.namespace = where.kube_context, where.namespace
        self.address: str | None = None
        self.renew()

    def renew(self) -> None:
        """Read the user's configuration again: credentials that have expired may have been replaced there. It is the
        same cluster, whatever context is the current one by then.

        Raises:
            InputError: it cannot be used any more.
        """
        try:
            import yaml
            from kubernetes import client, config
        except ImportError:
            raise InputError(
                "the kubernetes backend needs more packages: pip install 'facesim-cluster[kubernetes]'"
            ) from None
        configuration, context = client.Configuration(), self.context
        # Not `load_config`, which prints, and reads KUBECONFIG once.
        file = os.environ.get("KUBECONFIG") or "~/.kube/config"
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ and not os.path.exists(os.path.expanduser(file)):
                config.load_incluster_config(client_configuration=configuration)
            else:
                context = context or config.list_kube_config_contexts(file)[1]["name"]
                config.load_kube_config(file, context, client_configuration=configuration)
        except (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"no cluster is configured: {one_line(str(error))}; KUBECONFIG, or ~/.kube/config, is the file with "
                "clusters (`kubectl config view` shows it), and --kube-context names one of them"
            ) from None
        if self.address not in (None, configuration.host):
            raise InputError(
                f"the context {context} leads to {configuration.host} now, not to {self.address}, where this job "
                "goes on; have it lead there again"
            )
        self.context, self.address = context, configuration.host
        self._api = client.ApiClient(configuration)
        self._core, self._custom = client.CoreV1Api(self._api), client.CustomObjectsApi(self._api)
        self._batch, self._networking = client.BatchV1Api(self._api), client.NetworkingV1Api(self._api)

    def create(self, document: dict[str, Any]) -> dict[str, Any]:
        """Make what a document describes; returns it as the cluster has it."""
        kind, name = document["kind"], document["metadata"]["name"]
        with asking(f"create the {kind} {name}", self.namespace):
            if kind == "JobSet":
                return self._jobset(self._custom.create_namespaced_custom_object, body=document)
            make = {
                "Pod": self._core.create_namespaced_pod,
                "NetworkPolicy": self._networking.create_namespaced_network_policy,
            }[kind]
            return self._call(make, body=document)

    def jobset(self, name: str) -> dict[str, Any]:
        with asking(f"look at the JobSet {name}", self.namespace):
            return self._jobset(self._custom.get_namespaced_custom_object, name=name)

    def jobsets(self, selector: str) -> list[dict[str, Any]]:
        with asking("list JobSets", self.namespace):
            return self._jobset(self._custom.list_namespaced_custom_object, label_selector=selector)["items"]

    def stop(self, name: str) -> None:
        """End a JobSet's pods, within their grace; the JobSet remains, suspended and marked as stopped."""
        body = {"metadata": {"annotations": {STOPPED: "true"}}, "spec": {"suspend": True}}
        with asking(f"stop the JobSet {name}", self.namespace):
            self._jobset(self._custom.patch_namespaced_custom_object, name=name, body=body, **_MERGE)

    def delete_jobset(self, name: str) -> None:
        """Remove a JobSet with its pods. What is gone already is no error."""
        with asking(f"delete the JobSet {name}", self.namespace, missing_ok=True):
            self._jobset(self._custom.delete_namespaced_custom_object, name=name, propagation_policy="Background")

    def set_owner(self, policy: str, jobset: dict[str, Any]) -> None:
        """Let a NetworkPolicy go when its JobSet does."""
        metadata = jobset["metadata"]
        owner = {"apiVersion": jobset["apiVersion"], "kind": jobset["kind"], "name": metadata["name"]}
        body = {"metadata": {"ownerReferences": [{**owner, "uid": metadata["uid"]}]}}
        with asking(f"change the NetworkPolicy {policy}", self.namespace):
            self._call(self._networking.patch_namespaced_network_policy, name=policy, body=body, **_MERGE)

    def pod(self, name: str) -> dict[str, Any]:
        with asking(f"look at the pod {name}", self.namespace):
            return self._call(self._core.read_namespaced_pod, name=name)

    def pods(self, jobset: str) -> list[dict[str, Any]]:
        with asking(f"list the pods of {jobset}", self.namespace):
            return self._call(self._core.list_namespaced_pod, label_selector=f"{JOBSET_LABEL}={jobset}")["items"]

    def jobs(self, jobset: str) -> list[dict[str, Any]]:
        with asking(f"list the Jobs of {jobset}", self.namespace):
            return self._call(self._batch.list_namespaced_job, label_selector=f"{JOBSET_LABEL}={jobset}")["items"]

    def claim(self, name: str) -> dict[str, Any]:
        with asking(f"look at the persistent volume claim {name}", self.namespace):
            return self._call(self._core.read_namespaced_persistent_volume_claim, name=name)

    def delete_pod(self, name: str) -> None:
        """End a pod at once. What is gone already is no error."""
        with asking(f"delete the pod {name}", self.namespace, missing_ok=True):
            self._call(self._core.delete_namespaced_pod, name=name, grace_period_seconds=0)

    def log(self, pod: str, follow: bool) -> Iterator[bytes]:
        """What a pod prints, in pieces, each line after its time."""
        with asking(f"read the log of {pod}", self.namespace):
            response = self._core.read_namespaced_pod_log(
                pod, self.namespace, follow=follow, timestamps=True, _preload_content=False,
                _request_timeout=(_TIMEOUT_S[0], _SILENCE_S),
            )  # fmt: skip
            try:
                yield from response.stream(2**16)
            finally:
                response.release_conn()

    def execute(self, pod: str, command: list[str]) -> Any:
        """A websocket to a command in a pod's container: `kubernetes.stream.ws_client.WSClient`, for bytes."""
        from kubernetes.client import ApiClient, CoreV1Api
        from kubernetes.stream import stream

        with asking(f"run a command in the pod {pod}", self.namespace):
            api = ApiClient(self._api.configuration)  # of its own, for `stream` changes it
            return stream(
                CoreV1Api(api).connect_get_namespaced_pod_exec, pod, self.namespace, command=command,
                stdin=True, stdout=True, stderr=True, tty=False, binary=True, _preload_content=False,
            )  # fmt: skip

    def _call(self, call: Any, **arguments: Any) -> dict[str, Any]:
        """The answer to a call about something of the namespace, as data."""
        response = call(namespace=self.namespace, _preload_content=False, _request_timeout=_TIMEOUT_S, **arguments)
        return json.loads(response.data)

    def _jobset(self, call: Any, **arguments: Any) -> dict[str, Any]:
        return self._call(call, group=GROUP, version=VERSION, plural=PLURAL, **arguments)


@contextmanager
def asking(what: str, namespace: str, missing_ok: bool = False) -> Iterator[None]:
    """Within it, what the cluster answers to an attempt to `what` becomes an error that says what to do.

    Raises:
        CredentialsError: there are none, or they are not valid (any more).
        DeniedError: they, or the namespace's own rules, do not allow it.
        MissingError, RefusedError: the cluster has no such thing, or finds the request wrong.
        ClusterError: it cannot be reached, or refuses for another reason.
    """
    from kubernetes.client import ApiException
    from kubernetes.config import ConfigException
    from urllib3.exceptions import HTTPError
    from websocket import WebSocketException

    try:
        yield
    except ApiException as error:
        if not (missing_ok and error.status == 404):
            raise _explained(error, what, namespace) from None
    except ConfigException as error:  # a command of the configuration that gives credentials has failed
        raise CredentialsError(f"cannot {what}: {one_line(str(error))}; sign in to the cluster again") from None
    except (HTTPError, WebSocketException, OSError, json.JSONDecodeError) as error:
        advice = (
            "its certificate is not trusted: the configuration of the cluster names the authority"
            if "CERTIFICATE_VERIFY_FAILED" in str(error)
            else "is the network there, and is it the right cluster (`kubectl config current-context`)?"
        )
        raise ClusterError(f"cannot {what}: {_innermost(error)}; {advice}") from None


#: What an answer of some status means, where its message has these words: the error that it becomes, and what to do.
_MEANINGS: tuple[tuple[int | None, str, type[FacesimError], str], ...] = (
    (401, "", CredentialsError, "the credentials are wrong or have expired: sign in to the cluster again"),
    (403, "exceeded quota", DeniedError,
     "the namespace's quota has no room for it: wait for other jobs to end, give fewer --workers, or less of "
     "--pod-cpus and --pod-memory-gib"),
    (403, "violates PodSecurity", DeniedError, "the namespace does not take such pods: its admin has to say why"),
    (403, "not found", DeniedError, "is --service-account right?"),
    (403, "", DeniedError, f"the namespace's admin has to allow it: {_ROLE}"),
    (404, "namespaces", MissingError, "make it (`kubectl create namespace {namespace}`), or give another --namespace"),
    (404, "page not found", MissingError,
     "the cluster has no JobSets: its admin has to install them (https://jobset.sigs.k8s.io, 0.8 or newer)"),
    (404, "", MissingError, "it may have been deleted, or never been there"),
    (409, "", RefusedError, "there is one of that name: start the run again, which gives it another"),
    (422, "", RefusedError, "JobSet 0.8 and Kubernetes 1.31, or newer, take what facesim sends"),
    (400, "", RefusedError, "JobSet 0.8 and Kubernetes 1.31, or newer, take what facesim sends"),
    (429, "", ClusterError, "the cluster takes only so many requests at a time: try again in a minute"),
)  # fmt: skip


def _explained(error: Any, what: str, namespace: str) -> FacesimError:
    """The cluster's answer with an error, in words for a user."""
    message = _message(error)
    for status, words, kind, advice in _MEANINGS:
        if status == error.status and words in message:
            return kind(f"cannot {what}: {message}; {advice.format(namespace=namespace)}")
    return ClusterError(f"cannot {what}: {message}; the cluster itself has trouble: try again later")


def _message(error: Any) -> str:
    """What the answer says; of one that is none of Kubernetes' own, its words as they are."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        return one_line(json.loads(body)["message"])
    except (TypeError, ValueError, KeyError):
        return one_line(body or error.reason or f"status {error.status}")


def _innermost(error: BaseException) -> str:
    """urllib3's errors are wrapped in each other; the last one says why."""
    while isinstance(getattr(error, "reason", None), BaseException):
        error = error.reason
    return one_line(re.sub(r"<[^>]*>:? ?", "", str(error))) or type(error).__name__


def one_line(text: str) -> str:
    return " ".join(text.split())

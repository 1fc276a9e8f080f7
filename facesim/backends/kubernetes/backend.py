"""`kubernetes`: a cluster runs the job as a JobSet, each host a pod."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from facesim.backends.base import Attached, Backend, Cancelled, Finding, HostMemory, Line, Status, Target
from facesim.backends.kernels import unmeasured
from facesim.backends.kubernetes.client import Cluster, MissingError
from facesim.backends.kubernetes.job import JobSetJob, end_state, is_stopped
from facesim.backends.kubernetes.manifests import (
    LABELS,
    TAGS,
    KubernetesJob,
    all_hosts,
    checkpoints_folder,
    jobset_name,
    kubernetes_job,
)
from facesim.backends.kubernetes.pods import PodLogs, disruption_of, is_over, lines_of, nanoseconds, trouble_of
from facesim.backends.kubernetes.storage_s3 import S3Storage
from facesim.backends.remote_job import was_made
from facesim.preflight.inputs import Inputs
from facesim.runs.directory import Run
from facesim.runs.events import JobSetCreated, StateEntered, Submitted
from facesim.runs.states import RunState
from facesim.spec.backends import Kubernetes
from facesim.spec.job import Job
from facesim.spec.options import flag
from facesim.util.errors import FacesimError, InputError

#: How often what hosts print is asked for.
_LOGS_EVERY_S = 1.0

#: Options that say where in a cluster a JobSet, and its checkpoints, are.
_PLACE = ("namespace", "storage", "storage_claim")


class KubernetesBackend(Backend):
    """Sends the documents and follows the JobSet until its results are home."""

    def kernels(self, job: Job) -> str | None:
        return unmeasured(job)

    def host_memory(self, job: Job, instance_type: str) -> HostMemory:
        pod_gib = job.backend.pod_memory_gib
        return HostMemory("a host", pod_gib * 2**30) if pod_gib else super().host_memory(job, instance_type)

    def render(self, job: Job, directory: Path, inputs: Inputs) -> KubernetesJob:
        """The documents. The cluster is asked nothing, but of a run that goes on: whether its JobSet has ended."""
        run = Run(directory)
        # A run that goes on is another JobSet, with the checkpoints of the first.
        lives = sum(isinstance(event, Submitted) for event in run.events())
        before = run.plan() if lives else {}
        if before.get("documents"):
            cluster = _cluster(job.backend)
            _check_same_place(run, job, cluster)
            _check_ended(run, cluster)
        checkpoints = checkpoints_folder(before) if before.get("documents") else None
        return kubernetes_job(job, jobset_name(directory, again=lives), inputs.folders, checkpoints=checkpoints)

    def manifest(self, request: Mapping[str, Any]) -> str:
        yaml = _yaml()
        storage = request["storage"] or "facesim/ of the storage claim: "
        head = [
            f"# Before: copy {path} to {storage}{folder}, as facesim itself does."
            for folder, path in request["uploads"].items()
        ]
        documents = [yaml.safe_dump(document, sort_keys=False, width=100_000) for document in request["documents"]]
        return "\n".join([*head, "---\n".join(documents)])

    def submit(self, run: Run, request: KubernetesJob) -> JobSetJob:
        run.plan_file.write_text(request.to_json(), encoding="utf-8")
        where = run.job().backend
        return JobSetJob(run, _cluster(where), request.name, request, where.on_interrupt)

    def examine(self, job: Job) -> Iterator[Finding]:
        """What there is of what `job` needs in the cluster."""
        where = job.backend
        try:
            cluster = _cluster(where)
            cluster.jobsets("app.kubernetes.io/name=facesim")
            yield Finding("cluster", "ok", f"{cluster.address}, namespace {cluster.namespace}, with JobSets")
            if where.storage:
                next(S3Storage(where.storage).start())
                yield Finding("storage", "ok", where.storage)
                return
            claim = cluster.claim(where.storage_claim)
        except FacesimError as error:
            yield Finding("cluster", "fail", str(error))
            return
        modes, hosts = claim["spec"].get("accessModes", []), sum(count for _, count in job.groups)
        phase, notes = claim.get("status", {}).get("phase", "unknown"), []
        if phase != "Bound":
            notes.append(
                f"{where.storage_claim} is {phase}, and has no volume: some claims get one once a pod uses them; of "
                f"others `kubectl describe pvc {where.storage_claim}` says why"
            )
        if hosts > 1 and "ReadWriteMany" not in modes:
            notes.append(
                f"{where.storage_claim} is {', '.join(modes)}: the {hosts} pods of a job have to be on one node, where "
                "ReadWriteMany lets them be on several"
            )
        for note in notes:
            yield Finding("claim", "note", note)
        if not notes:
            yield Finding("claim", "ok", f"{where.storage_claim}, {phase}")

    def attach(self, target: Target, output: Path) -> Attached:
        """A JobSet that has ended is followed, too, until its results are here."""
        run = _run(target)
        name = _name(run)
        run.claim.take()
        if run.result() is not None:
            return Attached(run)
        cluster = _cluster_of(target)
        if _jobset(run, cluster) is None and not _may_have_left_something(run):
            raise InputError(
                f"{run.directory} cannot be followed any more: the cluster has no JobSet {name}; continue it "
                f"with `facesim run --resume {run.directory}`"
            )
        return Attached(run, JobSetJob(run, cluster, name, on_interrupt=run.job().backend.on_interrupt))

    def can_follow(self, target: Target) -> bool:
        documents = target.run.plan().get("documents") if target.run else None
        if not documents:
            return False  # it ended before a JobSet was made
        run = _run(target)
        return _jobset(run, _cluster_of(target)) is not None or _may_have_left_something(run)

    def status(self, target: Target) -> Status:
        """As the cluster has it; by the run's directory alone where the JobSet is gone."""
        run, cluster = _run(target), _cluster_of(target)
        jobset = _jobset(run, cluster)
        if jobset is None:
            seen = super().status(target)
            gone = not seen.running and _may_have_left_something(run)
            return replace(seen, notes=(_left_there(run),)) if gone else seen
        pods = cluster.pods(_name(run))
        troubles = [trouble.why for pod in pods if (trouble := trouble_of(pod))]
        disruptions = [why for pod in pods if (why := disruption_of(pod))]
        facts = _status(jobset, target.backend)
        job = run.job()
        return Status(
            **facts,
            directory=str(run.directory),
            strategy=job.strategy.name,
            seed=job.experiment.seed,
            tested_in_words=job.experiment.data_spec.tested_in_words,
            notes=tuple(dict.fromkeys([*troubles, *disruptions])),
            description=jobset,
        )

    def logs(self, target: Target, source: str | None = None, follow: bool = False) -> Iterator[Line]:
        run, cluster = _run(target), _cluster_of(target)
        name, jobset = _name(run), _jobset(run, cluster)
        if jobset is None:
            yield from super().logs(target, source, follow)
            return
        pods, over = cluster.pods(name), end_state(jobset) is not None
        if source is not None and source not in (hosts := all_hosts(run.job(), name)):
            raise InputError(f"{name} has no host {source!r}; there are {', '.join(hosts)}")
        if not follow or over:
            for pod in pods:
                yield from (line for line in lines_of(cluster, pod) if source in (None, line.source))
            return
        logs = PodLogs(cluster)
        while True:
            ended = end_state(cluster.jobset(name)) is not None  # before the lines are read: none is missed
            logs.follow(cluster.pods(name))
            for line in logs.new(_LOGS_EVERY_S):
                if source in (None, line.source):
                    yield line
            if ended and logs.settled():
                return

    def cancel(self, target: Target) -> Cancelled:
        """Have the JobSet's pods save and end, which is not waited for: who follows it brings the results home."""
        run, cluster = _run(target), _cluster_of(target)
        name, jobset = _name(run), _jobset(run, cluster)
        if jobset is None:
            if _may_have_left_something(run) and not run.claim.look().held:
                raise InputError(_left_there(run))
            return super().cancel(target)
        state = _state(jobset)
        if not state.terminal and not is_stopped(jobset):
            cluster.stop(name)
            return Cancelled(name, RunState.STOPPING.value, ended=False)
        return Cancelled(name, state.value, ended=state.terminal)

    def jobs(self, backend: Any) -> list[Status]:
        selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
        jobsets = _cluster(backend).jobsets(selector)
        jobsets.sort(key=lambda jobset: jobset["metadata"]["creationTimestamp"], reverse=True)
        return [Status(**_status(jobset, backend)) for jobset in jobsets]


def _cluster(where: Any) -> Cluster:
    assert isinstance(where, Kubernetes)
    return Cluster(where)


def _cluster_of(target: Target) -> Cluster:
    """The cluster that a target's run was made in, where that is on record: another context may be the current one.

    Raises:
        InputError: the configuration does not have it any more.
    """
    made = _made(run := _run(target))
    if made is None or made.context is None:
        return _cluster(target.backend)
    try:
        return _cluster(target.backend.model_copy(update={"kube_context": made.context}))
    except InputError as error:
        raise InputError(f"{run.directory} was made by the context {made.context}, and {error}") from None


def _made(run: Run) -> JobSetCreated | None:
    """How it was recorded that a run became a JobSet, the last time that it did; None if it never did."""
    return next((event for event in reversed(run.events()) if isinstance(event, JobSetCreated)), None)


def _jobset(run: Run, cluster: Cluster) -> dict[str, Any] | None:
    """The JobSet of a run, as the cluster has it; None if it has none, or not any more.

    Raises:
        InputError: it was made in another cluster, and this one does not have it.
    """
    try:
        return cluster.jobset(_name(run))
    except MissingError as error:
        made = _made(run)
        if made and made.server not in (None, cluster.address):
            raise InputError(
                f"{run.directory} was made in the cluster at {made.server}, and the context {cluster.context} leads to "
                f"{cluster.address}: {error}; have the context lead to the first again, in KUBECONFIG or ~/.kube/config"
            ) from None
        return None


def _may_have_left_something(run: Run) -> bool:
    """Whether the run's JobSet was made, and nobody saw how it ended: its results may be in the storage without it."""
    may = False
    for event in run.events():
        if isinstance(event, JobSetCreated):
            may = event.name == _name(run)
        elif isinstance(event, StateEntered) and event.state.terminal:
            may = False
    return may


def _left_there(run: Run) -> str:
    """What to do about a run that may have left something."""
    return (
        f"the JobSet {_name(run)} of {run.directory} is not in the cluster any more: it was deleted, or removed "
        f"--retention-s after its end; `facesim attach {run.directory}` brings home what it left"
    )


def _run(target: Target) -> Run:
    """The run directory of a target.

    Raises:
        InputError: there is none.
    """
    if target.run is None:
        raise InputError(f"a run in a cluster is named by its directory, and {target.name} is none")
    return target.run


def _name(run: Run) -> str:
    """The JobSet's.

    Raises:
        InputError: the run has not become one.
    """
    documents = run.plan().get("documents")
    if not documents:
        raise InputError(f"{run.directory} did not become a JobSet: it ended before one was made")
    return documents[0]["metadata"]["name"]


def _state(jobset: dict[str, Any]) -> RunState:
    outcome = end_state(jobset)
    if outcome is not None:
        return outcome.state
    if is_stopped(jobset):
        active = sum(group.get("active", 0) for group in jobset.get("status", {}).get("replicatedJobsStatus", []))
        return RunState.STOPPING if active else RunState.STOPPED
    ready = jobset.get("status", {}).get("replicatedJobsStatus", [])
    all_ready = ready and all(group.get("ready", 0) + group.get("succeeded", 0) for group in ready)
    return RunState.TRAINING if all_ready else RunState.STARTING


def _status(jobset: dict[str, Any], backend: Any) -> dict[str, Any]:
    metadata, state = jobset["metadata"], _state(jobset)
    return {
        "name": metadata["name"],
        "backend": backend.name,
        "state": state.value,
        "running": not state.terminal,
        "began_unix_s": nanoseconds(metadata["creationTimestamp"]) / 1e9,
        "tags": json.loads(metadata.get("annotations", {}).get(TAGS, "{}")),
    }


def _check_same_place(run: Run, job: Job, cluster: Cluster) -> None:
    """Look whether `job` goes on where the run was a JobSet before, which may still run and has its checkpoints there.

    Raises:
        InputError: it would go on in another place.
    """
    if not was_made(run):
        return
    before, made = run.job().backend, _made(run)
    known = made is not None and made.server is not None  # by earlier versions it is not
    for name in _PLACE if known else ("kube_context", *_PLACE):
        there, here = getattr(before, name), getattr(job.backend, name)
        if there != here:
            how = f"without {flag(name)}" if there is None else f"with {flag(name)} {there}"
            raise InputError(
                f"{run.directory} was made {how}: its JobSet may go on there, and its checkpoints are there, not where "
                f"{flag(name)} {here} leads; leave that out, or start a new run",
                field=name,
                value=here,
                allowed=[there],
                remedy="leave that out, or start a new run",
            )
    if made and made.server not in (None, cluster.address):
        by_name = made.context not in (None, cluster.context)
        remedy = f"give {flag('kube_context')} {made.context}" if by_name else "name that cluster in KUBECONFIG"
        raise InputError(
            f"{run.directory} was made in the cluster at {made.server}: its JobSet may go on there, and its "
            f"checkpoints are there, not at {cluster.address}, where the context {cluster.context} leads; {remedy}, or "
            "start a new run",
            field="kube_context",
            value=cluster.context,
            allowed=[made.context],
            remedy=f"{remedy}, or start a new run",
        )


def _check_ended(run: Run, cluster: Cluster) -> None:
    """Look whether the JobSet that a run had before is over, for two would train with the same checkpoints.

    Raises:
        InputError: it continues in the cluster, or may have left results there that are not downloaded.
        ClusterError: the cluster cannot be asked.
    """
    jobset = _jobset(run, cluster)
    if jobset is None:
        if _may_have_left_something(run):
            raise InputError(_left_there(run))
        return
    name = _name(run)
    pods = cluster.pods(name)
    if end_state(jobset) is None and not (is_stopped(jobset) and all(map(is_over, pods))):
        raise InputError(
            f"the JobSet {name} of {run.directory} continues in the cluster: `facesim attach {run.directory}` follows "
            f"it, `facesim cancel {run.directory}` ends it"
        )
    if _state(jobset) is RunState.COMPLETED and run.result() is None:
        raise InputError(
            f"the JobSet {name} of {run.directory} has completed in the cluster: `facesim attach {run.directory}` "
            "brings home what it left"
        )


def _yaml() -> Any:
    try:
        import yaml
    except ImportError:
        raise InputError(
            "to print YAML needs more packages: pip install 'facesim-cluster[kubernetes]', or add --json"
        ) from None
    return yaml


BACKEND = KubernetesBackend()

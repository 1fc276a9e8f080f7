"""One JobSet of a cluster: created, followed, stopped, its results downloaded into a run directory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from facesim.backends.base import LeftRunning
from facesim.backends.collect_results import collect_results, set_aside
from facesim.backends.due import Due
from facesim.backends.kubernetes.client import (
    Cluster,
    CredentialsError,
    DeniedError,
    MissingError,
    RefusedError,
)
from facesim.backends.kubernetes.manifests import ATTEMPT_LABEL, STOPPED, KubernetesJob, all_hosts, checkpoints_folder
from facesim.backends.kubernetes.pods import (
    End,
    PodLogs,
    disruption_of,
    end_of,
    has_started,
    host_of,
    is_over,
    trouble_of,
)
from facesim.backends.kubernetes.storage import StoppedError, Storage
from facesim.backends.kubernetes.storage_s3 import S3Storage
from facesim.backends.reach import Reach
from facesim.backends.remote_job import LostSight, RemoteJob
from facesim.backends.sagemaker import advice
from facesim.runs.directory import Run
from facesim.runs.events import Event, JobSetCreated, LimitExceeded, NodeEnded, PodPending, StateEntered
from facesim.runs.states import Outcome, RunState
from facesim.spec.backends import Kubernetes
from facesim.util.disk import MAKE_ROOM, writing_to
from facesim.util.errors import FacesimError, StillRunning

_LOOK_EVERY_S = 2.0
_RESULTS_EVERY_S = 5.0
#: How long the last lines of a job that has ended are waited for.
_LATE_S = 10.0

#: Where a state was reported.
_AT = "the cluster"

#: Errors that will be the same the next time.
_DENIALS = (DeniedError, RefusedError, MissingError, advice.DeniedError, advice.RefusedError)


class JobSetEnd(NamedTuple):
    """How a JobSet ended. gone: it was not there any more when that was looked at."""

    outcome: Outcome
    reason: str | None = None
    gone: bool = False


class JobSetJob(RemoteJob):
    """A JobSet, from here: an `Execution` of facesim.backends.base.

    Args:
        request: what to upload and create first; None for a JobSet that exists.
    """

    place = "in the cluster"

    def __init__(
        self, run: Run, cluster: Cluster, name: str, request: KubernetesJob | None = None, on_interrupt: str = "stop"
    ):
        super().__init__(run, Reach(_DENIALS, CredentialsError, cluster.renew), on_interrupt)
        self._name, self._exists = name, request is None
        self._cluster = cluster
        self._request = request
        self._job = run.job()
        self._logs = PodLogs(cluster)
        self._state = self._states_before[-1].state if self._states_before else None
        self._restarts = sum(event.state is RunState.INTERRUPTED for event in self._states_before)
        self._ends: dict[str, tuple[str, End]] = {}  # of this attempt's pods that have ended, by uid
        self._disruption: str | None = None  # the newest
        self._pending: dict[str, float] = {}  # by pod: since when something keeps it from starting
        self._pending_reasons: set[str] = set()
        if request is None:
            # Read again from the beginning; but the cluster has not any more what pods printed that were taken away.
            for log in map(run.log_file, all_hosts(self._job, name)):
                if log.exists():
                    set_aside(log)

    def events(self, tick_s: float) -> Iterator[Event | None]:
        """As `Execution.events`. `uploaded` for each file, `jobset` once it exists, `pod_pending` for what keeps a pod
        from starting, `state` as what its pods are at.

        Raises:
            InputError: the cluster does not allow to make the job.
            ClusterError: the cluster refuses the job.
            LeftRunning: the user left it.
            LostSight: it exists and cannot be followed any more.
        """
        if self._request:
            yield from self._create(self._request)
            if not self._exists:
                yield NodeEnded(outcome=Outcome.STOPPED)
                return
        try:
            end = yield from self._follow(tick_s)
            self._over = True
            if end is None:
                yield NodeEnded(outcome=Outcome.STOPPED)
            else:
                yield from self._collect_results(end, tick_s)
        except (LeftRunning, LostSight):
            raise
        except Exception as error:  # whatever it is, it is no reason to stop a job that has begun
            raise self._lost(str(error)) from error

    def _cancel(self) -> None:
        self._cluster.stop(self._name)

    def _storage(self) -> Storage | S3Storage:
        where = self._job.backend
        assert isinstance(where, Kubernetes)
        return S3Storage(where.storage) if where.storage else Storage(self._cluster, self._job, self._name)

    def _create(self, made: KubernetesJob) -> Iterator[Event | None]:
        """Put what the pods read into the storage, then make the JobSet, unless an interrupt comes before."""
        storage = self._storage()
        try:
            for event in storage.start():
                yield event
                if self.is_ending:
                    return
            for folder, source in made.uploads.items():
                if not storage.has(folder):
                    yield from storage.upload(source, folder, lambda: self.is_ending)
        except StoppedError:
            return
        finally:
            storage.close()
        jobset, *policies = made.documents
        for policy in policies:
            self._cluster.create(policy)
        self._exists = True  # it may, even if the answer is lost
        try:
            created = self._cluster.create(jobset)
        except (*_DENIALS, CredentialsError):
            self._exists = False
            raise
        for policy in policies:
            self._cluster.set_owner(policy["metadata"]["name"], created)
        at = self._cluster
        yield JobSetCreated(name=self._name, namespace=at.namespace, context=at.context, server=at.address)
        yield from self._enter(RunState.STARTING)

    def _follow(self, tick_s: float) -> Generator[Event | None, None, JobSetEnd | None]:
        """Yield what happens until the JobSet has ended, and return how; None if it was killed.

        That logs cannot be read is an event, and no reason to stop following.
        """
        due = Due()
        while True:
            yield from self._stop_as_asked(due)
            if self._killed and self._stopping:
                self._end_at_once()
                return None
            if due("describe", _LOOK_EVERY_S):
                try:
                    jobset, pods = self._cluster.jobset(self._name), self._cluster.pods(self._name)
                    self._reach.reached("describe")
                    yield from self._look(jobset, pods)
                    if end := self._end(jobset, pods):
                        return end
                except MissingError as error:
                    outcome = Outcome.STOPPED if self._stopping else Outcome.FAILED
                    return JobSetEnd(outcome, f"the JobSet was deleted: {error}", gone=True)
                except FacesimError as error:
                    yield from self._not_reached("describe", error)
            yield from self._tried("logs", self._read_logs)
            yield None
            time.sleep(tick_s)

    def _look(self, jobset: dict[str, Any], pods: list[dict[str, Any]]) -> Iterator[Event]:
        """What is new of the JobSet and its pods."""
        for pod in pods:
            self._disruption = disruption_of(pod) or self._disruption
        restarts = jobset.get("status", {}).get("restarts", 0)
        while self._restarts < restarts:
            self._restarts += 1
            self._ends.clear()
            yield from self._enter(RunState.INTERRUPTED, self._disruption)
            yield from self._enter(RunState.STARTING)
        current = [pod for pod in pods if pod["metadata"]["labels"].get(ATTEMPT_LABEL) == str(restarts)]
        for pod in current:
            if end := end_of(pod):
                self._ends.setdefault(pod["metadata"]["uid"], (host_of(pod), end))
        self._logs.follow(pods)
        if is_stopped(jobset):
            yield from self._enter(RunState.STOPPING)
        elif len(current) >= sum(count for _, count in self._job.groups) and all(map(has_started, current)):
            yield from self._enter(RunState.TRAINING)
        else:
            yield from self._tell_pending(current)

    def _tell_pending(self, pods: list[dict[str, Any]]) -> Iterator[Event]:
        """What keeps pods from starting, each reason once."""
        for pod in pods:
            name, trouble = pod["metadata"]["name"], trouble_of(pod)
            if trouble is None:
                self._pending.pop(name, None)
                continue
            self._pending.setdefault(name, time.monotonic())
            if trouble.why not in self._pending_reasons:
                self._pending_reasons.add(trouble.why)
                yield PodPending(pod=name, why=trouble.why)

    def _enter(self, state: RunState, reason: str | None = None) -> Iterator[Event]:
        if state is not self._state:
            self._state = state
            yield from self._followed.entered(StateEntered(state=state, at=_AT, reason=reason))

    def _end(self, jobset: dict[str, Any], pods: list[dict[str, Any]]) -> JobSetEnd | None:
        """How the JobSet has ended; None while it has not."""
        ended = end_state(jobset)
        if ended is Outcome.COMPLETED:
            return JobSetEnd(ended)
        if ended is Outcome.FAILED:
            if self._job.max_run_s is not None and any(map(_ran_too_long, self._cluster.jobs(self._name))):
                return JobSetEnd(Outcome.MAX_RUNTIME_EXCEEDED)
            return JobSetEnd(ended, self._why_failed(jobset))
        if is_stopped(jobset) and all(map(is_over, pods)):
            return JobSetEnd(Outcome.STOPPED)
        for pod in pods:
            trouble = trouble_of(pod)
            since_s = self._pending.get(pod["metadata"]["name"], time.monotonic())
            if trouble and time.monotonic() - since_s >= trouble.patience_s:
                self._cluster.delete_jobset(self._name)  # nothing of it can run
                return JobSetEnd(Outcome.FAILED, f"{host_of(pod)} does not start: {trouble.why}")
        return None

    def _why_failed(self, jobset: dict[str, Any]) -> str:
        """The reason of a failure: in the words of the first host that has some."""
        condition = _condition(jobset, "Failed")
        if condition.get("reason") == "ReachedMaxRestarts":
            last = self._disruption or "a host was taken away"
            return f"it was interrupted more often than --max-restarts {self._job.recovery.max_restarts} allows: {last}"
        failed = [(host, end) for host, end in self._ends.values() if end.exit_code != 0]
        failed.sort(key=lambda one: not one[1].message)
        for host, end in failed:
            memory = "; it needs more memory: --pod-memory-gib, or another --instance-type"
            advice = memory if end.reason == "OOMKilled" else ""
            return f"{end.message or f'{host} ended with exit code {end.exit_code} ({end.reason})'}{advice}"
        return str(condition.get("message", "the JobSet failed without saying why"))

    def _end_at_once(self) -> None:
        self._cluster.delete_jobset(self._name)
        for pod in self._cluster.pods(self._name):
            self._cluster.delete_pod(pod["metadata"]["name"])

    def _read_logs(self) -> Iterator[Event]:
        """Take what hosts printed since the last time; yield the events of the run that it tells."""
        for line in self._logs.new():
            assert line.time_unix_s is not None
            if event := self._followed.printed(line.source, line.text, line.time_unix_s):
                yield event

    def _collect_results(self, end: JobSetEnd, tick_s: float) -> Iterator[Event | None]:
        """The last lines and the results of a JobSet that has ended, then how it did."""
        deadline = time.monotonic() + _LATE_S
        while not self._logs.settled() and time.monotonic() < deadline:
            yield from self._tried("logs", self._read_logs)
            yield None
            time.sleep(tick_s)
        yield from self._tried("logs", self._read_logs)
        yield from self._enter(RunState.UPLOADING)
        end, missing = yield from self._results(end, tick_s)
        if end.outcome is Outcome.MAX_RUNTIME_EXCEEDED:
            assert self._job.max_run_s is not None
            yield LimitExceeded(limit="max_run_s", limit_s=self._job.max_run_s)
        yield from self._enter(end.outcome.state)
        yield from self._followed.ended(end.outcome, missing, end.reason)

    def _results(self, end: JobSetEnd, tick_s: float) -> Generator[Event | None, None, tuple[JobSetEnd, list[str]]]:
        """Bring home what the hosts left, and let go of what is not needed there any more. Returns how the JobSet
        ended, by what they left, too, and what is missing of that, in words.

        Raises:
            LeftRunning, LostSight: the user does not wait for it, or it has been denied for long.
        """
        asked_before = self._is_left  # to end the job, which has ended meanwhile
        while True:
            storage = self._storage()
            try:
                for event in storage.start():
                    yield event
                    if self._killed or (self._is_left and not asked_before):
                        raise self._lost("what it left is not here yet")
                missing = self._fetch(storage)
                end = self._by_what_is_here(end)
                missing += self._followed.missing_outcome(end.outcome)
                if not missing:
                    self._tidy(storage, end.outcome)
                return end, missing
            except StillRunning:
                raise
            except FacesimError as error:
                failure = error
                yield from self._not_reached("results", failure)
                if self._is_left:
                    raise self._lost(str(failure)) from None
            finally:
                with suppress(FacesimError):
                    storage.close()
            yield from self._until_tried_again(failure, _RESULTS_EVERY_S, tick_s)

    def _by_what_is_here(self, end: JobSetEnd) -> JobSetEnd:
        """How the JobSet ended: of one that was gone, it is known by what its chief left whether its work was done."""
        outcome = self._run.outcome() if end.gone else None
        return end if outcome is None or outcome.stopped else JobSetEnd(Outcome.COMPLETED)

    def _fetch(self, storage: Storage | S3Storage) -> list[str]:
        """Put what the hosts left into the run directory; what is missing of it, in words."""
        place = self._run.directory
        with (
            writing_to(place, MAKE_ROOM),
            tempfile.TemporaryDirectory(prefix=".home-", dir=place, ignore_cleanup_errors=True) as scratch,
        ):
            results = Path(scratch) / "results"
            for folder in (output := results / "output", model := results / "model"):
                folder.mkdir(parents=True)
            missing = storage.fetch(f"jobs/{self._name}", results)
            collect_results(output, model, self._run)
            return missing

    def _tidy(self, storage: Storage | S3Storage, outcome: Outcome) -> None:
        """Remove what is home already. Checkpoints of a run that may go on stay, and so does a JobSet that failed, with
        its pods' logs, for as long as it is to be retained.
        """
        storage.remove(f"jobs/{self._name}")
        if outcome is Outcome.COMPLETED:
            storage.remove(checkpoints_folder(self._run.plan()))
        elif outcome is Outcome.STOPPED:
            self._cluster.delete_jobset(self._name)


def is_stopped(jobset: dict[str, Any]) -> bool:
    """Whether somebody stopped it with facesim. One that is suspended without that waits, in a queue for example."""
    return STOPPED in jobset["metadata"].get("annotations", {})


def end_state(jobset: dict[str, Any]) -> Outcome | None:
    """How a JobSet ended by itself; None while it has not."""
    for condition, outcome in (("Completed", Outcome.COMPLETED), ("Failed", Outcome.FAILED)):
        if _condition(jobset, condition):
            return outcome
    return None


def _condition(thing: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition that is true of something; empty where it is not."""
    for condition in thing.get("status", {}).get("conditions", []):
        if condition["type"] == kind and condition["status"] == "True":
            return condition
    return {}


def _ran_too_long(job: dict[str, Any]) -> bool:
    return _condition(job, "Failed").get("reason") == "DeadlineExceeded"

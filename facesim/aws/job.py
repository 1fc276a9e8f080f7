"""One training job at AWS: created, followed, stopped, and brought home into a run directory.

It is followed over a connection that is lost for a while, and another process can take that up again: `facesim attach`.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from facesim.aws.bill import reported
from facesim.aws.calls import OUTCOMES, cancel, create, describe
from facesim.aws.home import fetch_results
from facesim.aws.logs import LogTail
from facesim.aws.measured import PointWriter, hosts_of
from facesim.aws.session import Account, AwsError, asking, redacted
from facesim.aws.storage import have_bucket, upload
from facesim.backends.printed import Printed
from facesim.errors import FacesimError
from facesim.metrics.collectors.cloudwatch import PERIOD_S, CloudWatch
from facesim.recovery import all_again
from facesim.runs.directory import Run
from facesim.runs.events import Event, Recovering, StateEntered
from facesim.runs.states import Outcome, outcome_of_sagemaker, state_of_sagemaker

if TYPE_CHECKING:
    from facesim.backends.training_job import TrainingJob

_DESCRIBE_EVERY_S = 3.0
_LOGS_EVERY_S = 3.0
_METRICS_EVERY_S = 60.0
_UPLOAD_EVERY_S = 5.0
#: How long the last minute's points and lines are waited for once a job has ended.
_LATE_S = 90.0
#: Between SIGTERM and SIGKILL, at SageMaker.
_GRACE_S = 120.0
#: How long AWS may be out of reach before following is given up.
_OUT_OF_REACH_S = 900.0

#: What ended a job by its own limits: the limit, and AWS' name for it.
_LIMITS = {
    Outcome.MAX_RUNTIME_EXCEEDED: ("max_run_s", "MaxRuntimeInSeconds"),
    Outcome.MAX_WAIT_TIME_EXCEEDED: ("max_wait_s", "MaxWaitTimeInSeconds"),
}

#: The file in a run directory that keeps what AWS says of the job.
DESCRIPTION = "training_job.json"


class LeftRunning(FacesimError):
    """The user left the job running at AWS."""

    exit_code = 130


class SageMakerJob:
    """A training job, from here: an `Execution` of facesim.backends.base.

    Args:
        run: the directory that it comes home to.
        name: the training job's.
        request: what to upload and create first; None for a job that exists.
        on_interrupt: what `stop` does: `stop` the job, `leave` it running, or `ask` the user.
    """

    def __init__(
        self, run: Run, account: Account, name: str, request: TrainingJob | None = None, on_interrupt: str = "stop"
    ):
        self._run = run
        self._account = account
        self._name = name
        self._request = request
        self._on_interrupt = on_interrupt
        self._interrupted = self._killed = False
        self._exists = request is None
        self._over = False  # ended, or left: nothing more is done to it
        self._logs = LogTail(account.client("logs"), name)
        self._printed = Printed(run)
        self._recorder = PointWriter(run)
        # Whoever followed the job before has recorded its first states, and what its hosts told.
        before = run.events()
        self._states = sum(isinstance(event, StateEntered) for event in before)
        self._restarts = sum(isinstance(event, Recovering) and event.host is None for event in before)
        self._known_until = max((event.time_unix_s for event in before if event.host is not None), default=0.0)
        if request is None:
            for log in run.logs.glob("algo-*.log"):
                log.unlink()  # read again from the beginning

    def events(self, tick_s: float) -> Iterator[Event | dict[str, Any] | None]:
        """As `Execution.events`. `uploaded` for each file, `training_job` once it exists, `state` by its transitions.

        Raises:
            InputError: AWS does not allow what has to be done.
            AwsError: AWS refuses the job, or cannot be reached any more.
            LeftRunning: the user left it.
        """
        if self._request:
            yield from self._create()
            if not self._exists:
                yield {"event": "node_ended", "outcome": "stopped"}
                return
        yield from self._follow(tick_s)

    def stop(self) -> None:
        self._interrupted = True

    def kill(self) -> None:
        if self._on_interrupt == "ask" and not self._interrupted:
            self._interrupted = True  # the user was asked before, and went on
        else:
            self._killed = True

    def close(self) -> None:
        """Unless it has ended or was left, the job is stopped: what nobody follows must not go on costing."""
        if self._exists and not self._over:
            self._over = True
            try:
                cancel(self._account, self._name)
            except FacesimError as error:
                raise AwsError(
                    f"{self._name} goes on at AWS, and costs, for it could not be stopped: {error}; "
                    f"`facesim cancel {self._name}` ends it"
                ) from None

    def _create(self) -> Iterator[dict[str, Any] | None]:
        """Put what the request needs where it says, then send it, unless an interrupt comes before."""
        assert self._request is not None
        request, s3 = self._request.request, self._account.client("s3")
        bucket, due = self._request.bucket, _Due()
        due("upload", _UPLOAD_EVERY_S)  # what is done sooner need not be told before
        with asking(f"use the S3 bucket {bucket}"):
            owner = self._account.id if bucket.endswith(f"-{self._account.id}") else None
            have_bucket(s3, bucket, self._account.region, owner)
        for uri, folder in self._request.uploads.items():
            with asking(f"upload to {uri}"):
                for sent in upload(s3, folder, uri, request["OutputDataConfig"].get("KmsKeyId")):
                    if sent.done:
                        yield {"event": "uploaded", "file": sent.file.name, "to": uri, "bytes": sent.bytes}
                    elif due("upload", _UPLOAD_EVERY_S):
                        told = {"file": sent.file.name, "sent_bytes": sent.sent_bytes, "bytes": sent.bytes}
                        yield {"event": "uploading", **told}
                    else:
                        yield None
                    if self._interrupted or self._killed:
                        return
        if self._interrupted or self._killed:
            return
        create(self._account, request)
        self._exists = True
        yield {"event": "training_job", "name": self._name, "region": self._account.region}

    def _follow(self, tick_s: float) -> Iterator[Event | dict[str, Any] | None]:
        due = _Due()
        reached = time.monotonic()
        description: dict[str, Any] = {}
        stopping = False
        while True:
            try:
                if (self._interrupted or self._killed) and not stopping and self._decide():
                    self._on_interrupt = "stop"  # the user need not be asked again if AWS cannot be told now
                    cancel(self._account, self._name)
                    stopping = True
                    yield {"event": "stopping", "grace_s": _GRACE_S}
                if self._killed:
                    self._over = True
                    yield {"event": "node_ended", "outcome": "stopped"}
                    return
                if due("describe", _DESCRIBE_EVERY_S):
                    description = describe(self._account, self._name)
                    transitions = description.get("SecondaryStatusTransitions", [])
                    for transition in transitions[self._states :]:
                        yield _state(transition)
                        if transition["Status"] == "Interrupted":
                            yield self._recovering()
                    self._states = len(transitions)
                ended = description.get("TrainingJobStatus") in OUTCOMES
                if due("logs", _LOGS_EVERY_S) or ended:
                    yield from self._read_logs()
                if (due("metrics", _METRICS_EVERY_S) and not ended) and description.get("TrainingStartTime"):
                    self._read_metrics(description, time.time() - 2 * PERIOD_S)
                reached = time.monotonic()
            except AwsError as error:
                if time.monotonic() - reached > _OUT_OF_REACH_S:
                    raise
                yield {"event": "out_of_reach", "why": str(error)}
                time.sleep(_DESCRIBE_EVERY_S)
                continue
            if ended:
                break
            yield None
            time.sleep(tick_s)
        self._over = True
        yield from self._bring_home(description, tick_s)

    def _recovering(self) -> Recovering:
        self._restarts += 1
        return all_again(self._run.job().tasks, self._restarts)

    def _decide(self) -> bool:
        """Whether the interrupt means to stop the job.

        Raises:
            LeftRunning: it means to leave it.
        """
        choice = self._on_interrupt
        if choice == "ask" and not self._killed:
            choice = self._ask() if sys.stdin is not None and sys.stdin.isatty() else "stop"
        if choice == "leave" and not self._killed:
            self._over = True
            raise LeftRunning(
                f"{self._name} goes on at AWS, and costs; `facesim attach {self._run.directory}` follows it again, "
                f"`facesim cancel {self._name}` ends it"
            )
        self._interrupted = choice == "stop"
        return self._interrupted or self._killed

    def _ask(self) -> str:
        print(
            f"\n{self._name}: stop it [s], leave it running at AWS [l], or go on [any other key, Enter]? ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        # Not input(): it would not notice another Ctrl-C, which ends all this at once.
        while not self._killed:
            if select.select([sys.stdin], [], [], 0.2)[0]:
                return {"s": "stop", "l": "leave"}.get(sys.stdin.readline().strip().lower()[:1], "go on")
        return "stop"

    def _read_logs(self) -> Iterator[dict[str, Any]]:
        """Take what hosts printed since the last time; yield the events of the run that it tells."""
        with asking("read the training job's logs"):
            lines = list(self._logs.new())
        for line in lines:
            told = self._printed.add(line.host, redacted(line.text), line.time_unix_s)
            if told and told["time_unix_s"] > self._known_until:
                yield told

    def _read_metrics(self, description: dict[str, Any], until_unix_s: float) -> None:
        """Record CloudWatch's points until then; younger ones may still change."""
        hosts, begin_unix_s = hosts_of(description, self._run), _unix(description["TrainingStartTime"])
        if not hosts or until_unix_s <= begin_unix_s:
            return
        metrics = CloudWatch(self._account.client("cloudwatch"), self._name, hosts)
        with asking("read the training job's metrics"):
            for point in metrics.points(begin_unix_s, until_unix_s):
                if point.time_unix_s <= until_unix_s:
                    self._recorder.record(point, hosts)

    def _bring_home(self, description: dict[str, Any], tick_s: float) -> Iterator[dict[str, Any] | None]:
        """Logs, results and metrics of a job that has ended, then how it did."""
        (self._run.directory / DESCRIPTION).write_text(json.dumps(description, indent=1, default=str))
        with asking("bring the training job's results home"):
            fetch_results(self._account, description, self._run)
        self._printed.settle()
        deadline = time.monotonic() + _LATE_S
        if description.get("TrainingStartTime"):
            yield from self._late_metrics(description, deadline, tick_s)
        yield from self._read_logs()
        bill = reported(description)
        yield {"event": "billed", **bill}
        secondary, failure = description["SecondaryStatus"], description.get("FailureReason")
        outcome = outcome_of_sagemaker(description["TrainingJobStatus"], secondary)
        if outcome in _LIMITS:
            limit, condition = _LIMITS[outcome]
            yield {"event": "limit_exceeded", "limit": limit, "limit_s": description["StoppingCondition"][condition]}
        yield {
            "event": "node_ended",
            "outcome": outcome,
            "state": secondary,
            "reason": redacted(failure) if failure else None,
        }

    def _late_metrics(
        self, description: dict[str, Any], deadline: float, tick_s: float
    ) -> Iterator[dict[str, Any] | None]:
        """Wait for the points of the last minutes, which come after the end; a job of seconds may have none at all."""
        due = _Due()
        while True:
            if due("metrics", _LOGS_EVERY_S):
                self._read_metrics(description, time.time())
                last = _unix(description["TrainingEndTime"]) - 2 * PERIOD_S
                hosts = hosts_of(description, self._run)
                if all(self._recorder.newest.get(host, 0.0) > last for host in hosts):
                    return
            if time.monotonic() > deadline or self._killed or self._interrupted:
                return
            yield None
            time.sleep(tick_s)


class _Due:
    """Says whether it is time again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._next: dict[str, float] = {}

    def __call__(self, what: str, every_s: float) -> bool:
        now = self._clock()
        if now < self._next.get(what, 0.0):
            return False
        self._next[what] = now + every_s
        return True


def _state(transition: dict[str, Any]) -> StateEntered:
    state = state_of_sagemaker(transition["Status"])
    return StateEntered(state=state, at="AWS", time_unix_s=_unix(transition["StartTime"]))


def _unix(when: Any) -> float:
    return when.timestamp()

"""One training job at AWS: created, followed, stopped, its results downloaded into a run directory.

It is followed over a connection that is lost for a while, and another process can take that up again: `facesim attach`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from facesim.backends.base import LeftRunning
from facesim.backends.collect_results import RESOURCES, set_aside
from facesim.backends.due import Due
from facesim.backends.reach import Reach
from facesim.backends.remote_job import LostSight, RemoteJob
from facesim.backends.sagemaker.bill import reported
from facesim.backends.sagemaker.calls import AT_WORK, OUTCOMES, cancel, describe
from facesim.backends.sagemaker.creation import Creation
from facesim.backends.sagemaker.logs import LogTail
from facesim.backends.sagemaker.measured import PointWriter, hosts_of
from facesim.backends.sagemaker.results import fetch_results
from facesim.backends.sagemaker.session import (
    Account,
    AwsError,
    CredentialsError,
    DeniedError,
    RefusedError,
    asking,
    redacted,
)
from facesim.backends.sagemaker.storage import prune_checkpoints
from facesim.backends.training_job import checkpoints_of
from facesim.metrics.collectors.cloudwatch import PERIOD_S, CloudWatch
from facesim.runs.directory import Run
from facesim.runs.events import (
    Billed,
    Emulated,
    Event,
    LimitExceeded,
    NodeEnded,
    StateEntered,
)
from facesim.runs.states import Outcome, outcome_of_sagemaker, state_of_sagemaker
from facesim.util.errors import FacesimError

if TYPE_CHECKING:
    from facesim.backends.training_job import TrainingJob

_DESCRIBE_EVERY_S = 3.0
_LOGS_EVERY_S = 3.0
_METRICS_EVERY_S = 60.0
_PRUNE_EVERY_S = 60.0
#: How long the last minute's points and lines are waited for once a job has ended.
_LATE_S = 90.0
#: What ended a job by its own limits: the limit, and AWS' name for it.
_LIMITS = {
    Outcome.MAX_RUNTIME_EXCEEDED: ("max_run_s", "MaxRuntimeInSeconds"),
    Outcome.MAX_WAIT_TIME_EXCEEDED: ("max_wait_s", "MaxWaitTimeInSeconds"),
}

#: What of its description a bill is made of.
_BILL = {"TrainingEndTime", "TrainingTimeInSeconds", "BillableTimeInSeconds"}

#: Where a state was reported.
_AWS = "AWS"

#: A host's name.
_HOST = re.compile(r"algo-\d+")

#: The file in a run directory that keeps what AWS says of the job.
DESCRIPTION = "training_job.json"


class SageMakerJob(RemoteJob):
    """A training job, from here: an `Execution` of facesim.backends.base.

    Args:
        run: the directory that it comes home to.
        name: the training job's.
        request: what to upload and create first; None for a job that exists.
        on_interrupt: what `stop` does: `stop` the job, `leave` it running, or `ask` the user.
    """

    place = "at AWS"

    def __init__(
        self, run: Run, account: Account, name: str, request: TrainingJob | None = None, on_interrupt: str = "stop"
    ):
        super().__init__(run, Reach((DeniedError, RefusedError), CredentialsError, account.renew), on_interrupt)
        self._account = account
        self._known_name = name
        self._logs = LogTail(account, name)
        self._asked: dict[str, Any] = run.plan().get("CreateTrainingJob", {})
        self._recorder = PointWriter(run)
        self._creation = request and Creation(run, account, request, self._reach, lambda: self.is_ending)
        self._states = len(self._states_before)
        logs = [log for log in run.logs.glob("algo-*.log") if _HOST.fullmatch(log.stem)]
        if request is None:
            AT_WORK.add(name)
            for log in logs:
                log.unlink()  # read again from the beginning
        else:
            for file in (*logs, *(run.directory / "hosts").glob(f"*/{RESOURCES}")):
                set_aside(file)  # of the run's job before, which is not read again

    def events(self, tick_s: float) -> Iterator[Event | None]:
        """As `Execution.events`. `emulated` where the endpoint is not AWS', `uploaded` for each file,
        `training_job` once it exists, `state` by its transitions.

        Raises:
            InputError: AWS does not allow to make the job.
            AwsError: AWS refuses the job.
            LeftRunning: the user left it, or does not wait for its end, or does not want it and it may have been made.
            LostSight: it exists, or may, and cannot be followed any more.
        """
        if self._account.emulator:
            yield Emulated(endpoint=self._account.emulator)
        while True:
            if self._creation and not self._creation.exists:
                yield from self._make(self._creation)
                if not self._creation.exists:
                    yield NodeEnded(outcome=Outcome.STOPPED)
                    return
            try:
                description = yield from self._follow(tick_s)
                if self._creation and self._creation.had_no_capacity(description):
                    yield from self._not_reached("capacity", AwsError(description["FailureReason"]))
                    AT_WORK.discard(self._name)
                    self._creation.again()
                    self._logs, self._states = LogTail(self._account, self._name), 0
                    continue
                self._over = True
                yield from self._collect_results(description, tick_s)
                return
            except (LeftRunning, LostSight):
                raise
            except Exception as error:  # whatever it is, it is no reason to stop a job that is paid for
                raise self._lost(str(error)) from error

    @property
    def _name(self) -> str:  # type: ignore[override]
        return self._creation.made.name if self._creation else self._known_name

    @property
    def _exists(self) -> bool:  # type: ignore[override]
        return self._creation is None or self._creation.exists is not False  # what may have been made may cost

    def _cancel(self) -> None:
        try:
            cancel(self._account, self._name)
        except RefusedError:
            if self._creation is None or self._creation.exists:
                raise
            # It was not made, then.

    def close(self) -> None:
        AT_WORK.discard(self._name)
        super().close()

    def _make(self, creation: Creation) -> Iterator[Event | None]:
        """Have it made, unless an interrupt comes before: then it does not exist.

        Raises:
            FacesimError: it cannot be.
            LeftRunning, LostSight: it may have been made, and nobody knows.
        """
        failure: FacesimError | None = None
        try:
            yield from creation.events()
        except FacesimError as error:
            failure = error
        if creation.exists is None:
            try:
                yield from creation.found()
            except FacesimError as error:
                self._over = True
                raise (LeftRunning if self.is_ending else LostSight)(
                    f"{creation.made.name} may have been made, and may run at AWS, and cost: {error}; `facesim cancel "
                    f"{self._run.directory}` ends it if so, `facesim attach {self._run.directory}` follows it"
                ) from None
        if failure and not creation.exists:
            raise failure

    def _follow(self, tick_s: float) -> Generator[Event | dict[str, Any] | None, None, dict[str, Any]]:
        """Yield what happens until the job has ended; return what AWS says of it then.

        That logs or metrics cannot be read is an event, and no reason to stop following.

        Raises:
            LeftRunning: the user left it, or has it stopped and does not wait for that.
        """
        due = Due()
        description: dict[str, Any] = {}
        while True:
            yield from self._stop_as_asked(due)
            if self._killed and self._stopping:
                self._over = True
                raise LeftRunning(
                    f"{self._name} was asked to stop at AWS, and is not waited for: it may save for two minutes more, "
                    f"and costs until it has ended; `facesim attach {self._run.directory}` brings home what it saves, "
                    "and its bill"
                )
            if due("describe", _DESCRIBE_EVERY_S):
                description = (yield from self._described()) or description
            if "describe" in self._reach:
                ended = description["TrainingJobStatus"] in OUTCOMES
                yield from self._look(description, due, ended)
                if ended:
                    return description
            yield None
            time.sleep(tick_s)

    def _described(self) -> Generator[Event, None, dict[str, Any] | None]:
        """What AWS says of the job now; None where it does not answer. What it leaves out is as it was asked for."""
        try:
            description = {**self._asked, **describe(self._account, self._name)}
        except FacesimError as error:
            yield from self._not_reached("describe", error)
            return None
        self._reach.reached("describe")
        yield from self._transitions(description)
        return description

    def _look(self, description: dict[str, Any], due: Due, ended: bool) -> Iterator[Event | dict[str, Any]]:
        """What hosts printed and measured; let go of old checkpoints. What is due of it, and all at the end."""
        if due("logs", _LOGS_EVERY_S) or ended:
            yield from self._tried("logs", self._read_logs)
        # In other states SageMaker may be copying to a host what it has listed before.
        if ended or (description["SecondaryStatus"] == "Training" and due("checkpoints", _PRUNE_EVERY_S)):
            yield from self._tried("checkpoints", lambda: self._prune(description))
        if not ended and due("metrics", _METRICS_EVERY_S) and description.get("TrainingStartTime"):
            yield from self._tried("metrics", self._metrics_of(description, time.time() - 2 * PERIOD_S))

    def _transitions(self, description: dict[str, Any]) -> Iterator[Event]:
        """The states that the job has entered since the last time."""
        transitions = description.get("SecondaryStatusTransitions", [])
        if self._creation and self._creation.had_no_capacity(description):
            return  # it has not ended, for the run
        for transition in transitions[self._states :]:
            self._states += 1
            yield from self._followed.entered(_state(transition))

    def _read_logs(self) -> Iterator[Event]:
        """Take what hosts printed since the last time; yield the events of the run that it tells."""
        with asking("read the training job's logs"):
            for line in self._logs.new():  # what came before an error is kept: it does not come again
                if event := self._followed.printed(line.host, redacted(line.text), line.time_unix_s):
                    yield event

    def _prune(self, description: dict[str, Any]) -> None:
        """Let go of checkpoints in S3 as the job does on its disk."""
        if uri := checkpoints_of(description):
            job = self._run.job()
            owner = job.backend.bucket_owner or self._account.id
            with asking("remove old checkpoints from S3"):
                prune_checkpoints(self._account.client("s3"), uri, job.recovery.checkpoint_keep, owner)

    def _metrics_of(self, description: dict[str, Any], until_unix_s: float) -> Callable[[], None]:
        return lambda: self._read_metrics(description, until_unix_s)

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

    def _collect_results(self, description: dict[str, Any], tick_s: float) -> Iterator[Event | None]:
        """Logs, results and metrics of a job that has ended, then how it did."""
        description = yield from self._billed(description, tick_s)
        (self._run.directory / DESCRIPTION).write_text(json.dumps(description, indent=1, default=str), encoding="utf-8")
        missing = yield from self._results(description, tick_s)
        deadline = time.monotonic() + _LATE_S
        if description.get("TrainingStartTime"):
            yield from self._late_metrics(description, deadline, tick_s)
        yield from self._tried("logs", self._read_logs)
        yield Billed(**reported(description), emulated=self._account.emulator is not None)
        secondary, failure = description["SecondaryStatus"], description.get("FailureReason")
        outcome = outcome_of_sagemaker(description["TrainingJobStatus"], secondary)
        if outcome in _LIMITS:
            limit, condition = _LIMITS[outcome]
            if limit_s := description.get("StoppingCondition", {}).get(condition):
                yield LimitExceeded(limit=limit, limit_s=limit_s)
        assert outcome is not None, "a training job that is not followed any more has ended"
        began = description.get("TrainingStartTime") is not None  # what never trained leaves nothing
        reason = redacted(failure) if failure else None
        yield from self._followed.ended(outcome, missing if began else (), reason, state=secondary)

    def _billed(self, description: dict[str, Any], tick_s: float) -> Generator[Event | None, None, dict[str, Any]]:
        """What AWS says of the job once it says what it bills, which may come some time after the end."""
        deadline, due = time.monotonic() + _LATE_S, Due()
        while description.get("TrainingStartTime") and not description.keys() >= _BILL:
            if time.monotonic() > deadline or self._killed:
                break
            if due("describe", _DESCRIBE_EVERY_S):
                description = (yield from self._described()) or description
            yield None
            time.sleep(tick_s)
        return description

    def _results(self, description: dict[str, Any], tick_s: float) -> Generator[dict[str, Any] | None, None, list[str]]:
        """Bring home what the hosts left; return what is missing of it."""
        while True:
            try:
                missing = fetch_results(self._account, description, self._run)
            except FacesimError as error:
                yield from self._not_reached("results", error)
                if self.is_ending:
                    raise self._lost(str(error)) from None
                yield from self._until_tried_again(error, _DESCRIBE_EVERY_S, tick_s)
                continue
            outcome = outcome_of_sagemaker(description["TrainingJobStatus"])
            return missing or (self._followed.missing_outcome(outcome) if outcome else [])

    def _late_metrics(self, description: dict[str, Any], deadline: float, tick_s: float) -> Iterator[Event | None]:
        """Wait for the points of the last minutes, which come after the end; a job of seconds may have none at all."""
        due = Due()
        while True:
            if due("metrics", _LOGS_EVERY_S):
                yield from self._tried("metrics", self._metrics_of(description, time.time()))
                end = description.get("TrainingEndTime")
                last = (_unix(end) if end else time.time()) - 2 * PERIOD_S
                hosts = hosts_of(description, self._run)
                if all(self._recorder.newest.get(host, 0.0) > last for host in hosts):
                    return
            if time.monotonic() > deadline or self.is_ending:
                return
            yield None
            time.sleep(tick_s)


def _state(transition: dict[str, Any]) -> StateEntered:
    state = state_of_sagemaker(transition["Status"])
    return StateEntered(state=state, at=_AWS, time_unix_s=_unix(transition["StartTime"]))


def _unix(when: Any) -> float:
    return when.timestamp()

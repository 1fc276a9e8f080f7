"""The search by SageMaker's own tuner: one tuning job at AWS, whose training jobs come home as runs, each a trial."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.backends.base import Execution, LeftRunning, Target
from facesim.backends.due import Due
from facesim.backends.sagemaker import tuning
from facesim.backends.sagemaker.advice import AwsError, BusyError, CredentialsError, RefusedError
from facesim.backends.sagemaker.calls import OUTCOMES
from facesim.backends.sagemaker.creation import send_inputs
from facesim.backends.sagemaker.session import Account
from facesim.metrics.files import SampleTail
from facesim.runs.directory import Run
from facesim.runs.records import Result
from facesim.runs.states import RunState
from facesim.study.interrupts import Interrupts
from facesim.study.observers import Observer, Together
from facesim.study.runner import attach
from facesim.tuning import TUNING_JOB
from facesim.tuning.sagemaker_request import plan_search, value_of
from facesim.tuning.search import NOT_HOME, STOPPED, Search, Tuner, claimed_study, in_words
from facesim.tuning.space import Axis
from facesim.util.errors import FacesimError, InputError, Lost, StillRunning, reason
from facesim.util.files import read_text, write_json
from facesim.util.words import count_text

if TYPE_CHECKING:
    import optuna

#: How often the tuning job is looked at, and it is tried again to stop it.
_LOOK_EVERY_S, _STOP_EVERY_S, _TICK_S = 5.0, 3.0, 0.25


@dataclass(frozen=True)
class Kept:
    """What the folder of a search has of its tuning job. `facts` are the search's, as JSON has them."""

    name: str
    region: str
    search: Search
    facts: dict[str, Any]


def kept_in(output: Path) -> Kept | None:
    """The tuning job of the search in a folder; None where none was made.

    Raises:
        InputError: the file cannot be read.
    """
    file = output / TUNING_JOB
    if not os.path.isfile(file):
        return None
    try:
        content = json.loads(read_text(file))
        facts = content["search"]
        space = {name: Axis(**{**axis, "choices": tuple(axis["choices"])}) for name, axis in facts["space"].items()}
        search = Search(**{**facts, "space": space, "tuner": Tuner(**facts["tuner"])})
        return Kept(content["name"], content["region"], search, facts)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{file} is not what facesim wrote there: name another folder with --output") from None


def _facts(search: Search) -> dict[str, Any]:
    """A search as JSON has it."""
    return json.loads(json.dumps(asdict(search), default=str))


def run_tuner(search: Search, output: Path, observers: Iterable[Observer] = ()) -> optuna.Study:
    """Have SageMaker's tuner run the trials, and bring each home as a run; go on with a tuning job that was begun.

    Raises:
        InputError: something that was given cannot be used; then nothing has been started.
        StillRunning: the tuning job continues at AWS, and is not followed any more.
    """
    listeners = list(observers)
    shown = Together(listeners)
    kept, plan = kept_in(output), None
    account = Account(kept.region if kept else search.job({}).backend.region)
    if kept and not tuning.exists(account, kept.name):  # the command ended before it was made
        kept = None
    if kept and kept.facts != _facts(search):
        raise InputError(
            f"{output} holds a search with other options, of which SageMaker's tuner changes none, not even --trials: "
            "repeat them, or name another folder with --output",
            field="output",
            value=str(output),
        )
    if kept is None:
        plan = plan_search(search, output, shown.preparing)
        for notice in (*plan.notices, plan.estimate, *plan.forecasts):
            shown.noticed(notice)
    with claimed_study(search, output, shown) as study:
        followed = _Followed(search, study, output, account, listeners)
        with Interrupts(followed):
            if kept or followed.create(plan.job):
                followed.follow((kept or plan.job).name)
        study.set_user_attr(STOPPED, followed.interrupted)
        study.set_user_attr(NOT_HOME, followed.not_home)
    return study


class _Followed:
    """A tuning job, from its creation until all of its trials are home."""

    def __init__(
        self, search: Search, study: optuna.Study, output: Path, account: Account, observers: Sequence[Observer]
    ):
        self._search, self._study, self._output, self._account = search, study, output, account
        self._observers, self._shown = observers, Together(observers)
        spec = search.job({}).backend
        self._spec = spec.model_copy(update={"region": account.region})
        self._name = ""
        self.interrupted = self._killed = self._stopping = False
        #: The settings, and the run, of each trial that has ended and was lost sight of before it was home.
        self.not_home: list[tuple[dict[str, Any], str]] = []
        self._begun: set[str] = set()
        self._home = {trial.user_attrs.get("training_job") for trial in study.get_trials(deepcopy=False)}
        self._due = Due()
        self._trouble = ""

    def stop(self) -> None:
        self.interrupted = True

    def kill(self) -> None:
        self.interrupted = self._killed = True

    def create(self, job: tuning.TuningJob) -> bool:
        """Make the tuning job; False where an interrupt comes before.

        Raises:
            Lost: it may have been made, and nobody knows.
            FacesimError: it cannot be made.
        """
        for _, sent in send_inputs(self._account, job.made, self._spec.bucket_owner):
            self._shown.preparing(f"uploading {sent.file.name}", sent.sent_bytes, sent.bytes)
            if self.interrupted:
                return False
        # Before it is made: whatever happens then, it can be found.
        content = {"name": job.name, "region": self._account.region, "search": _facts(self._search)}
        write_json(self._output / TUNING_JOB, content)
        try:
            tuning.create(self._account, job)
        except RefusedError:
            raise
        except AwsError as error:
            # The answer may have been lost on the way, and the request sent again: then AWS took the first.
            if not self._was_made(job.name, error):
                raise
        self._shown.noticed(f"{job.name} is made: SageMaker's tuner runs {count_text(self._search.trials, 'trial')}")
        return True

    def _was_made(self, name: str, error: AwsError) -> bool:
        try:
            return tuning.exists(self._account, name)
        except FacesimError:
            raise Lost(f"{name} may have been made, and may run at AWS, and cost: {error}{self._ways()}") from None

    def follow(self, name: str) -> None:
        """Bring trials home as they end, until the tuning job and all of them have.

        Raises:
            StillRunning: it goes on, and is not followed any more.
        """
        self._name = name
        while True:
            self.stop_as_asked()
            if self._due("look", _LOOK_EVERY_S) and (description := self._tried(self._look)):
                break
            time.sleep(_TICK_S)
        status = description["HyperParameterTuningJobStatus"]
        if status != "Completed":
            why = description.get("FailureReason")
            self._shown.noticed(f"{name} has ended: {status}{f', {why}' if why else ''}; it does not go on")

    def stop_as_asked(self) -> None:
        """Heed an interrupt.

        Raises:
            StillRunning: it means to leave the tuning job.
        """
        if self.interrupted and self._spec.on_interrupt == "leave":
            raise LeftRunning(self._goes_on())
        if self._killed:
            raise LeftRunning(self._goes_on() if not self._stopping else f"{self._name} is stopping{self._ways()}")
        if self.interrupted and not self._stopping and self._due("stop", _STOP_EVERY_S):
            self._tried(self._stop)

    def _stop(self) -> None:
        tuning.cancel(self._account, self._name)
        self._stopping = True
        self._shown.noticed(f"{self._name} is asked to stop: its trials save, and what they left comes home")

    def _tried(self, call: Callable[[], Any]) -> Any:
        """What a call returns; None where AWS cannot be asked for a reason that passes.

        Raises:
            StillRunning: for another reason.
        """
        try:
            answer = call()
            self._trouble = ""
            return answer
        except StillRunning:
            raise
        except (BusyError, CredentialsError) as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._shown.noticed(f"{error}; it is tried again")
            with suppress(FacesimError):  # the user may have signed in again
                self._account.renew()
            return None
        except Exception as error:  # whatever it is, it is no reason to stop what is paid for
            raise Lost(f"{self._goes_on()}: {reason(error)}") from error

    def _goes_on(self) -> str:
        return f"{self._name} continues at AWS, and costs{self._ways()}"

    def _ways(self) -> str:
        return f"; `facesim attach {self._output}` follows it again, `facesim cancel {self._output}` ends it"

    def _look(self) -> dict[str, Any] | None:
        """Take what is new; what AWS says of the tuning job once it and all trials have ended."""
        description = tuning.describe(self._account, self._name)  # before the list: none is missed
        jobs = tuning.training_jobs(self._account, self._name)
        for number, job in enumerate(jobs, 1):
            name = job["TrainingJobName"]
            if name not in self._begun | self._home:
                self._begun.add(name)
                params = in_words(self._params(job))
                self._shown.noticed(f"trial {number} of {self._search.trials}: {params}")
            if job["TrainingJobStatus"] in OUTCOMES and name not in self._home:
                self._bring_home(number, job)
        ended = description["HyperParameterTuningJobStatus"] in tuning.ENDED
        return description if ended and all(job["TrainingJobStatus"] in OUTCOMES for job in jobs) else None

    def _params(self, job: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value_of(axis, job["TunedHyperParameters"][name]) for name, axis in self._search.space.items()}

    def _bring_home(self, number: int, job: Mapping[str, Any]) -> None:
        """Make a run of a training job that has ended, and a trial of the run."""
        name = job["TrainingJobName"]
        attached = self._spec.open().attach(Target(self._spec, name), self._output)
        if attached.execution:
            attached = attached._replace(execution=_ComesHome(attached.execution, self))
        try:
            result = attach(attached, self._observers, number, self._search.trials)
        except Lost as lost:
            self._home.add(name)  # for this command
            self.not_home.append((self._params(job), attached.run.id))
            self._shown.noticed(str(lost))
            return
        finally:
            attached.run.claim.release()
        self._keep(job, attached.run, result)

    def _keep(self, job: Mapping[str, Any], run: Run, result: Result) -> None:
        from optuna.trial import TrialState, create_trial

        state = TrialState.FAIL
        if result.state is RunState.COMPLETED and result.held_out_accuracy is not None:
            state = TrialState.COMPLETE
        elif result.state is RunState.STOPPED or result.state.limited:
            state = TrialState.PRUNED
        trial = create_trial(
            state=state,
            value=result.held_out_accuracy if state is TrialState.COMPLETE else None,
            params=self._params(job),
            distributions={name: axis.distribution() for name, axis in self._search.space.items()},
            intermediate_values=_course(run),
            user_attrs={"run": run.id, "training_job": job["TrainingJobName"]},
        )
        self._study.add_trial(trial)
        self._home.add(job["TrainingJobName"])


class _ComesHome:
    """The execution of a training job that has ended: an interrupt meanwhile is the tuning job's."""

    def __init__(self, execution: Execution, followed: _Followed):
        self._execution = execution
        self.stop, self.kill, self.close = followed.stop, followed.kill, execution.close
        self._look = followed.stop_as_asked

    def events(self, tick_s: float) -> Iterator[Any]:
        for event in self._execution.events(tick_s):
            yield event
            if event is None:
                self._look()


def _course(run: Run) -> dict[int, float]:
    """Validation accuracy by epoch."""
    course, epoch = {}, 0
    for sample in SampleTail(run.metrics).new():
        if sample.source == "training" and sample.name == "epoch":
            epoch = int(sample.value)
        elif sample.source == "training" and sample.name == "held_out_accuracy":
            course[epoch] = sample.value
    return course

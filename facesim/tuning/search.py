"""The search: one trial after another, each a run, kept in a database of its own so that it can go on."""

from __future__ import annotations

import json
import math
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.backends.targets import may_go_on_at
from facesim.billing.bill import discount_of, make_bill
from facesim.data.parts import TEST, TRAIN, VAL
from facesim.metrics.progress import Progress
from facesim.planning.quantities import dollars_text, time_text
from facesim.preflight.inputs import prepare_data, prepare_inputs
from facesim.runs.accounting import spent_s
from facesim.runs.claim import Claim
from facesim.runs.directory import Run
from facesim.runs.records import Result
from facesim.runs.states import Measurement, RunState
from facesim.spec.job import BESIDE_THE_RUN, Job, make_job
from facesim.spec.options import flag
from facesim.spec.remote import remote
from facesim.study.observers import EndRun, Interrupted, Observer, Together
from facesim.study.plan import can_be_followed
from facesim.study.runner import follow, resume, run_study
from facesim.tuning.space import Axis
from facesim.util.errors import InputError, Lost, lacks_credentials

if TYPE_CHECKING:
    import optuna

#: Also the name under which other tools of Optuna's, such as its dashboard, show it.
_NAME = "facesim"
DATABASE = "tune.db"

#: The attributes of a study that say whether its user stopped it, and which trials of SageMaker's tuner are not home.
STOPPED, NOT_HOME = "stopped", "not_home"

#: Those that say what makes its trials comparable: options, and what the files that they name hold.
_DEFINITION, _CONTENT = "definition", "content"

#: With less than so many seconds left of the budget nothing is begun.
_SHORTEST_S = 1.0

#: Trials that are not compared with others to be ended early, and of each the share of its epochs.
_STARTUP_TRIALS, _WARMUP_SHARE = 4, 0.25


@dataclass(frozen=True)
class Tuner:
    """SageMaker's own tuner, in place of Optuna: one tuning job runs all trials, `parallel` at a time.

    Attributes:
        strategy: by which it chooses values: `bayesian`, `random` or `hyperband`.
    """

    strategy: str = "bayesian"
    parallel: int = 1


@dataclass(frozen=True)
class Search:
    """What is asked for.

    Attributes:
        given: options of every trial, as `make_job` takes them.
        space: what is searched, by option.
        validation: share of the training images that trials are tested on.
        own_val: trials are tested on the part `val` of the data's own split, in place of such a share.
        own_test: the data is known to have a part of its own to test on, which no seed changes.
        trials: how many, those of earlier commands included.
        budget_s, budget_usd: what all trials together may take, None for no limit. Dollars of a run on this machine are
            those of the instances that it stands for.
        tuner: what proposes settings and runs the trials; None: Optuna, one trial after another.
    """

    given: Mapping[str, Any]
    space: Mapping[str, Axis]
    validation: float = 0.2
    trials: int = 20
    budget_s: float | None = None
    budget_usd: float | None = None
    own_val: bool = False
    own_test: bool = False
    tuner: Tuner | None = None

    def __post_init__(self) -> None:
        if searched_and_set := sorted(self.space.keys() & self.given.keys()):
            name = searched_and_set[0]
            raise InputError(f"{flag(name)} is searched and has one value: give it once", field=name)
        if not _is_number(self.validation) or not 0 < self.validation < 1:
            message = f"--validation {self.validation!r} must be between 0 and 1: what trials are compared by"
            raise InputError(message, field="validation", value=self.validation)
        for name, count in {"trials": self.trials, "parallel": self.tuner.parallel if self.tuner else 1}.items():
            if type(count) is not int or count < 1:
                raise InputError(f"{flag(name)} {count!r} must be a whole number from 1 on", field=name, value=count)
        for name, most in {"budget_s": self.budget_s, "budget_usd": self.budget_usd}.items():
            if most is not None and (not _is_number(most) or not 0 < most < math.inf):
                raise InputError(f"{name} {most!r} must be a number above 0", field=name, value=most)
        backend = self.job({}).backend
        if self.tuner and not backend.has_tuner:
            message = (
                f"--tuner sagemaker is for --backend sagemaker, not {backend.name}; Optuna searches on any: leave it "
                "out"
            )
            raise InputError(message, field="tuner", value="sagemaker", allowed=["optuna"])
        for axis in self.space.values():  # a value that is not allowed is refused before anything is trained
            for value in axis.samples:
                self.job({axis.name: value})

    def job(self, chosen: Mapping[str, Any], max_run_s: float | None = None) -> Job:
        """The job of a trial with these values."""
        tested = {"test_part": "val"} if self.own_val else {"validation": self.validation}
        given = {**self.given, **chosen, **tested}
        limits = [limit for limit in (max_run_s, given.pop("max_run", None)) if limit is not None]
        job = make_job(**given, max_run=min(limits, default=None))
        if getattr(job.backend, "on_interrupt", None) == "ask":  # who would answer when a trial is ended early?
            job = job.model_copy(update={"backend": job.backend.model_copy(update={"on_interrupt": "stop"})})
        return job

    def definition(self) -> str:
        """The options that make trials comparable with each other."""
        base = self.job({}).model_dump(mode="json", exclude={"max_run_s"})
        tuner = {"tuner": asdict(self.tuner)} if self.tuner else {}
        space = [axis.facts() for axis in self.space.values()]
        return _without_limits(json.dumps({"base": base, "space": space, **tuner}))


def _without_limits(definition: str) -> str:
    """A definition, of an earlier version too, without what changes nothing about a trial, such as what it may cost."""
    content = json.loads(definition)
    for name in BESIDE_THE_RUN:
        content["base"]["backend"].pop(name, None)
    return json.dumps(content, sort_keys=True)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def with_own_parts(search: Search) -> Search:
    """The search by the parts of its data's own split: trials are tested on `val` if that is kept beside others. Nobody
    here knows the parts of data that hosts read themselves.

    Raises:
        InputError: the data cannot be used.
    """
    if remote(search.job({}).experiment.data):
        return search
    parts = prepare_data(search.job({}), lambda *_: None).parts
    there = set() if parts is None else set(parts.tolist())
    return replace(search, own_val={TRAIN, VAL, TEST} <= there, own_test=TEST in there)


def open_study(search: Search, output: Path) -> optuna.Study:
    """The study in folder `output`, a new one or the one that is there.

    Raises:
        InputError: what is there is another search, or Optuna is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        remedy = "pip install 'facesim-cluster[tune]'"
        raise InputError(f"tuning needs the package optuna, which is not installed: {remedy}", remedy=remedy) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    output.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(
        n_startup_trials=_STARTUP_TRIALS,
        n_warmup_steps=int(_WARMUP_SHARE * search.job({}).experiment.epochs),
    )
    database = (output / DATABASE).resolve()

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(database, check_same_thread=False)  # SQLAlchemy lends it to one thread at a time

    try:
        study = optuna.create_study(
            # Not by its address: in that ?, % and { mean something, to each version of SQLAlchemy something else.
            storage=optuna.storages.RDBStorage(f"sqlite:///{DATABASE}", engine_kwargs={"creator": connect}),
            study_name=_NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=pruner,
        )
    except Exception as error:  # SQLAlchemy's, Optuna's own, or RuntimeError where another Optuna wrote it
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{database} cannot be used for the search: {why}; repair that, or name another folder with --output",
            field="output",
            value=str(output),
        ) from None
    # Each command has random numbers of its own, or it would propose again what the one before did.
    begun = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=search.job({}).experiment.seed + begun)
    definition = search.definition()
    if _without_limits(study.user_attrs.get(_DEFINITION, definition)) != definition:
        raise InputError(
            f"{output} holds a search of something else: name another folder with --output, or repeat its options",
            field="output",
            value=str(output),
        )
    study.set_user_attr(_DEFINITION, definition)
    return study


def run_search(search: Search, output: Path, observers: Iterable[Observer] = ()) -> optuna.Study:
    """Run trials until there are as many as wanted, the budget is used, or the user stops them.

    A trial ends early where its validation accuracy is below the median of the others' at the same epoch.

    Raises:
        InputError: something that was given cannot be used; then nothing has been started.
    """
    interrupted = Interrupted()
    listeners = [*observers, interrupted]
    with claimed_study(search, output, Together(listeners)) as study, ExitStack() as kept:
        _run(search, study, output, listeners, interrupted, kept)
        begun = [one.result for one in trials_of(study, output) if one.state == "running"]
        stopped = any(result is not None and result.state is RunState.STOPPED for result in begun)
        study.set_user_attr(STOPPED, interrupted.heard or stopped)
    return study


@contextmanager
def claimed_study(search: Search, output: Path, observer: Observer) -> Iterator[optuna.Study]:
    """The study in folder `output`, which no other command continues meanwhile.

    Raises:
        InputError: another does, or the folder holds another search.
    """
    study = open_study(search, output)
    claim = Claim(output / ".lock")
    if gone := claim.take():
        observer.noticed(gone)
    try:
        yield study
    finally:
        claim.release()


def _run(
    search: Search,
    study: optuna.Study,
    output: Path,
    observers: list[Observer],
    interrupted: Interrupted,
    kept: ExitStack,
) -> None:
    from optuna.trial import TrialState

    observer, trials = Together(observers), trials_of(study, output)
    begun_before = [one for one in trials if one.state == "running"]
    if begun_before or len(trials) < search.trials:
        _check_content(search, study, output, observer)
    for begun in begun_before:
        if not _go_on(search, study, output, begun, observers) or interrupted.heard:
            return
    while len(done := trials_of(study, output)) < search.trials:
        left_s = _left_s(search, done)
        if left_s is not None and left_s < max([_SHORTEST_S, *(one.total_s for one in done)]):
            observer.noticed(f"the budget has no room for another trial: {spent(done)} for {len(done)}")
            return
        trial = study.ask({name: axis.distribution() for name, axis in search.space.items()})
        job = search.job(trial.params, left_s)
        observer.noticed(f"trial {trial.number + 1} of {search.trials}: {in_words(trial.params)}")
        follower = _Follower(trial)
        try:
            (run,) = run_study([job], output, [*observers, follower], kept=kept)
        except InputError as error:  # what these values need is not there
            study.tell(trial, state=TrialState.FAIL)
            if not done or lacks_credentials(error):
                raise
            observer.noticed(f"trial {trial.number + 1} is refused: {error}")
            continue
        if not _tell(study, trial.number, run, follower.pruned) or interrupted.heard:
            return


def _check_content(search: Search, study: optuna.Study, output: Path, observer: Observer) -> None:
    """See that further trials are of the same images, from the same network, as those before.

    Raises:
        InputError: they are not, or what they read cannot be used.
    """
    experiment, inputs = search.job({}).experiment, prepare_inputs(search.job({}), observer.preparing)
    now = {"data": inputs.data.sha256, "pretrained": inputs.pretrained and inputs.pretrained.name}
    before = study.user_attrs.get(_CONTENT, now)  # searches of earlier versions have none
    for name, sha256 in now.items():
        if sha256 is not None and before.get(name) != sha256:
            value = getattr(experiment, name)
            raise InputError(
                f"{output} holds a search of something else: what {flag(name)} {value} holds was another when it was "
                "begun; name another folder with --output, or put back what was there",
                field=name,
                value=value,
            )
    if inputs.data.sha256 is None and study.get_trials(deepcopy=False):
        observer.noticed(f"{inputs.data.name}: whether the images have changed since the first trial is not known here")
    study.set_user_attr(_CONTENT, now)


@dataclass(frozen=True)
class Trial:
    """One trial, from the database and what its run left.

    Attributes:
        state: `complete`, `pruned` (ended early, or by the budget), `fail` or `running`.
        value: the validation accuracy that it ended with, a share 0-1; None where it did not end by itself.
        course: the same by epoch, as far as it got.
    """

    number: int
    state: str
    params: Mapping[str, Any]
    value: float | None
    course: Mapping[int, float]
    run: Run | None = None
    result: Result | None = None

    @property
    def total_s(self) -> float:
        """What it took; what it has taken so far where it has not ended."""
        if self.result is None:
            return spent_s(self.run.events()) if self.run else 0.0
        return self.result.total_s or 0.0

    @property
    def cost_usd(self) -> float:
        if self.result is None:
            return _cost_so_far_usd(self.run) if self.run else 0.0
        return (self.result.spot_cost_usd if self.result.job.get("spot") else self.result.cost_usd) or 0.0

    @property
    def hypothetical(self) -> bool:
        """Whether its dollars are seconds of a machine that emulated the instances, at the price of those."""
        if self.result is None:
            return self.run is not None and self.run.job().backend.measurement == Measurement.EMULATED
        return self.result.measurement is Measurement.EMULATED


def _cost_so_far_usd(run: Run) -> float:
    job = run.job()
    discount = discount_of(job.spot, job.groups) if job.spot else None
    return make_bill(run.events(), job.groups, discount).cost_usd


def trials_of(study: optuna.Study, output: Path) -> list[Trial]:
    """The trials of the study in folder `output`, in their order; those that are not home last."""
    kept = study.get_trials(deepcopy=False)
    return [
        *(_trial(one, output) for one in kept),
        *(
            _with_run(Trial(number, "running", params, None, {}), output, run)
            for number, (params, run) in enumerate(study.user_attrs.get(NOT_HOME, ()), len(kept))
        ),
    ]


def _trial(frozen: optuna.trial.FrozenTrial, output: Path) -> Trial:
    value = frozen.value if frozen.state.name == "COMPLETE" else None
    trial = Trial(frozen.number, frozen.state.name.lower(), frozen.params, value, frozen.intermediate_values)
    return _with_run(trial, output, frozen.user_attrs.get("run"))


def _with_run(trial: Trial, output: Path, run_id: str | None) -> Trial:
    run = Run(output / run_id) if run_id else None
    run = run if run and run.job_file.is_file() else None
    return replace(trial, run=run, result=run.result() if run else None)


def spent(trials: Iterable[Trial]) -> str:
    """What trials took, in words."""
    taken = list(trials)
    dollars = dollars_text(sum(one.cost_usd for one in taken))
    if any(one.hypothetical for one in taken):
        dollars += " (hypothetical: seconds of this machine at instances' prices)"
    return f"{time_text(sum(one.total_s for one in taken))} and {dollars}"


def in_words(params: Mapping[str, Any]) -> str:
    """Values as options of the command line: `--learning-rate 0.001 --batch 32`."""
    parts = []
    for name, values in params.items():
        for value in values if isinstance(values, (list, tuple)) else [values]:
            if isinstance(value, bool):
                parts.append(flag(name) if value else f"--no-{flag(name)[2:]}")
            else:
                shown = f"{value:.6g}" if isinstance(value, float) else shlex.quote(str(value))
                parts.append(f"{flag(name)} {shown}")
    return " ".join(parts)


def _left_s(search: Search, done: Iterable[Trial]) -> float | None:
    """Seconds that a trial may still take, or take in addition, after what was done; None for any number."""
    taken, limits, job = list(done), [], search.job({})
    if search.budget_s is not None:
        limits.append(search.budget_s - sum(one.total_s for one in taken))
    limits_usd = [usd for usd in (search.budget_usd, getattr(job.backend, "max_cost", None)) if usd is not None]
    if limits_usd:
        left_usd = min(limits_usd) - sum(one.cost_usd for one in taken)
        limits.append(job.backend.open().affordable_s(job, left_usd))
    return min(limits, default=None)


class _Follower(Observer):
    """Reports a run's validation accuracy to its trial as epochs end, and ends the run where others were better."""

    def __init__(self, trial: optuna.Trial):
        self._trial = trial
        self._reported = 0
        self.pruned = False

    def started(self, run: Run, position: int, jobs: int) -> None:
        self._progress = Progress(run)
        self._trial.set_user_attr("run", run.id)

    def tick(self) -> None:
        self._progress.update()
        epoch = self._progress.tested_epoch
        if epoch <= self._reported or self.pruned:
            return
        self._reported = epoch
        self._trial.report(self._progress.latest["held_out_accuracy"], epoch)
        if epoch < self._progress.epochs and self._trial.should_prune():
            self.pruned = True
            raise EndRun


def _go_on(search: Search, study: optuna.Study, output: Path, begun: Trial, observers: list[Observer]) -> bool:
    """End a trial whose command was stopped or killed, within what is left of the budget; whether others may follow.
    What goes on elsewhere, or has ended there, is paid for: it is followed until it is home.
    """
    from optuna.trial import TrialState

    run = begun.run
    if run and begun.result is None and can_be_followed(run):
        try:
            follow(run, observers)
        except Lost as lost:
            Together(observers).noticed(str(lost))
    elif run and (begun.result is None or begun.result.state is RunState.STOPPED):
        trials = trials_of(study, output)
        left_s = _left_s(search, trials)
        if left_s is not None and left_s < _SHORTEST_S:
            notice = f"the budget has no room to go on with trial {begun.number + 1}: {spent(trials)} for {len(trials)}"
            Together(observers).noticed(notice)
            study.tell(begun.number, state=TrialState.PRUNED)
            return True
        now = search.job(begun.params, left_s)
        fields = type(now.backend).model_fields
        beside = {name: getattr(now.backend, name) for name in BESIDE_THE_RUN if name in fields}
        try:
            run = resume(run, {**beside, "max_run": now.max_run_s}, observers)
        except InputError as error:
            if lacks_credentials(error):
                raise
            Together(observers).noticed(f"trial {begun.number + 1} cannot go on: {error}")
            run = None
    if run is None:
        study.tell(begun.number, state=TrialState.FAIL)
        return True
    return _tell(study, begun.number, run, pruned=False)


def _tell(study: optuna.Study, number: int, run: Run, pruned: bool) -> bool:
    """Keep how a trial's run ended; whether there may be others. One that the user stopped, or that may go on elsewhere
    while nobody follows it, stays begun.
    """
    from optuna.trial import TrialState

    result = run.result()
    if result and result.state is RunState.COMPLETED and result.held_out_accuracy is not None:
        study.tell(number, result.held_out_accuracy)
    elif pruned or (result and result.state.limited):
        study.tell(number, state=TrialState.PRUNED)
    elif (result and result.state is RunState.STOPPED) or may_go_on_at(run):
        return False
    else:
        study.tell(number, state=TrialState.FAIL)
    return True

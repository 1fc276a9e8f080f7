"""What a search found: the best settings, what mattered, and the front of accuracy and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.report.statistics import wilson_interval
from facesim.spec.command_line import as_command
from facesim.spec.job import make_job
from facesim.tuning.search import STOPPED, Search, Trial, in_words, run_search, spent, trials_of
from facesim.util.words import count_text

if TYPE_CHECKING:
    import optuna

#: Fewer complete trials say nothing of what mattered.
_IMPORTANCE_FROM = 4


@dataclass(frozen=True)
class Findings:
    """What the trials of a search say.

    Attributes:
        trials: all of them, in their order.
        importance: share, 0-1, of the variance of the validation accuracy that an option explains, by option, the
            largest first (functional ANOVA: Hutter et al., 2014); empty where too few trials are complete.
        stopped: whether the user stopped the search.
    """

    search: Search
    trials: tuple[Trial, ...]
    importance: dict[str, float]
    stopped: bool = False

    @property
    def complete(self) -> list[Trial]:
        """Those that ended by themselves, the best first; of equals the fastest."""
        done = [one for one in self.trials if one.value is not None]
        return sorted(done, key=lambda one: (-_accuracy(one), one.total_s))

    @property
    def best(self) -> Trial | None:
        return self.complete[0] if self.complete else None

    @property
    def front(self) -> list[Trial]:
        """The complete trials than which none other is both more accurate and faster, the fastest first."""
        front: list[Trial] = []
        for one in self.complete:  # the best first: a later one is on the front if it is faster than all before
            if not front or one.total_s < front[-1].total_s:
                front.append(one)
        return front[::-1]

    @property
    def command(self) -> str | None:
        """What trains with the best settings, on all training images, and tests on the held-out ones.

        Where they may be drawn, another seed would hold out other images, which trials were trained and compared on:
        then it has the seed of the trials alone.
        """
        if self.best is None:
            return None
        job = make_job(**{**self.search.given, **self.best.params})
        fixed = job.experiment.test is not None or self.search.own_test
        return as_command(job, range(3) if fixed else [job.experiment.seed])

    def sentences(self) -> list[str]:
        """What there is to say, in words."""
        best = self.best
        states = [one.state for one in self.trials]
        going_on = f", {states.count('running')} not ended" if "running" in states else ""
        sentences = [
            f"{count_text(len(states), 'trial')} ({states.count('complete')} complete, "
            f"{states.count('pruned')} ended early, {states.count('fail')} failed{going_on}) took {spent(self.trials)}."
        ]
        if gone := [one for one in self.trials if one.value is not None and one.result is None]:
            numbers = ", ".join(str(one.number + 1) for one in gone)
            sentences.append(f"What trial {numbers} took is not in that: the run is not there any more.")
        if best is None:
            return [*sentences, "No trial is complete: nothing can be said of settings."]
        sentences.append(f"The best reached {_accuracy(best):.1%} on validation images: {in_words(best.params)}.")
        if best.result and best.result.sync_audit.verdict == "apart":
            sentences.append("Its replicas did not train together: it is the accuracy of one of them.")
        if equals := self._not_told_apart():
            sentences.append(
                f"{count_text(equals, 'other trial')} cannot be told apart from it by so few images "
                "(its 95 % interval includes theirs)."
            )
        if len(self.complete) > 1:
            sentences.append(
                "The best of several is better on the images that chose it than it is: expect less on others."
            )
        return [*sentences, "The held-out images were in no trial, neither to train nor to test on."]

    def _not_told_apart(self) -> int:
        """How many complete trials are within the interval of the best's accuracy."""
        best = self.best
        tested = best and best.result and best.result.data.held_out_examples
        if not best or not tested:
            return 0
        low, _ = wilson_interval(_accuracy(best), tested)
        return sum(_accuracy(one) >= low for one in self.complete[1:])

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data for `json.dumps`."""
        return {
            "trials": [trial_facts(one) for one in self.trials],
            "best": self.best and trial_facts(self.best),
            "front": [one.number for one in self.front],
            "importance": self.importance,
            "command": self.command,
            "sentences": self.sentences(),
        }


def trial_facts(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state,
        "params": dict(trial.params),
        "validation_accuracy": trial.value,
        "total_s": trial.total_s,
        "cost_usd": trial.cost_usd,
        "run": trial.run and str(trial.run.directory),
        "trained_together": trial.result and trial.result.sync_audit.verdict,
        "measurement": trial.result and trial.result.measurement,
        "failure": trial.result and trial.result.failure,
    }


def find(search: Search, output: Path, observers: Sequence[Any] = ()) -> Findings:
    """Search, and say what was found.

    Raises:
        InputError: something that was given cannot be used; then nothing has been started.
        StillRunning: the trials go on at AWS, and are not followed any more.
    """
    if search.tuner is None:
        study = run_search(search, output, observers)
    else:
        from facesim.tuning.sagemaker import run_tuner

        study = run_tuner(search, output, observers)
    return Findings(search, tuple(trials_of(study, output)), importance_of(study), study.user_attrs[STOPPED])


def importance_of(study: optuna.Study) -> dict[str, float]:
    """`Findings.importance` of a study; empty where its trials are too few, or all alike."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _IMPORTANCE_FROM or len({one.value for one in complete}) < 2:
        return {}
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: float(share) for name, share in shares.items()}


def _accuracy(trial: Trial) -> float:
    return trial.value or 0.0

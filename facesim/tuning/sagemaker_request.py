"""The request of a search by SageMaker's own tuner: made of that of a trial, and checked before anything is paid."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.backends.sagemaker import tuning
from facesim.backends.sagemaker.bill import fitting_s, most, refuse_above
from facesim.backends.training_job import USUAL_RUN_S
from facesim.planning.expectations import forecast_lines
from facesim.preflight.checks import preflight
from facesim.spec.job import Job
from facesim.spec.options import flag
from facesim.tuning.search import Search
from facesim.tuning.space import Axis
from facesim.util.errors import InputError
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.backends.training_job import TrainingJob

#: A budget that leaves a trial less than this is refused: most of it would be the start.
_SHORTEST_TRIAL_S = 300


@dataclass(frozen=True)
class SearchPlan:
    """A tuning job that may start; in words what a user should know before, what it can cost, and what a trial is
    forecast to take.
    """

    job: tuning.TuningJob
    notices: tuple[str, ...]
    estimate: str
    forecasts: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """What a dry run prints."""
        return {
            "request": json.loads(self.job.to_json()), "notices": list(self.notices), "estimate": self.estimate,
            "forecast": list(self.forecasts),
        }  # fmt: skip


def plan_search(
    search: Search,
    output: Path,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    *,
    to_run: bool = True,
) -> SearchPlan:
    """Make the tuning job's request, and check everything. Starts nothing. `to_run` as of `preflight`.

    Raises:
        InputError: something that was given cannot be used, or could cost too much.
    """
    assert search.tuner is not None, "another search is Optuna's"
    base = search.job({}, _stop_s(search))
    name = tuning.new_name()
    directory = output / name.removeprefix("facesim-")
    sampled = [(axis.name, value) for axis in search.space.values() for value in axis.samples]
    jobs = [base, *(search.job({option: value}, _stop_s(search)) for option, value in sampled)]
    # The cap is on all trials together, which is checked below.
    cleared = preflight([_uncapped(job) for job in jobs], [directory] * len(jobs), progress, to_run=to_run)
    cleared.notices.pop("cost", None)
    requests = [planned.request for planned in cleared.planned]
    for (option, value), request in zip(sampled, requests[1:], strict=True):
        if _alike(request) != _alike(requests[0]):
            raise InputError(
                f"--search {flag(option)[2:]}: SageMaker's tuner gives all trials the same input and environment, and "
                f"{value} needs others; use --tuner optuna",
                field=option,
                value=value,
            )
    volume_gb = max(request.request["ResourceConfig"]["VolumeSizeInGB"] for request in requests)
    inputs = cleared.planned[0].inputs

    def rendered(stop_s: float | None) -> TrainingJob:
        made = base.backend.open().render(search.job({}, stop_s), directory, inputs)
        made.request["ResourceConfig"]["VolumeSizeInGB"] = volume_gb
        return made

    made = _within_budget(search, rendered)
    paid = [made] * _most_trials(search, made)
    estimate = base.backend.open().estimate(paid, base.backend.max_cost)
    if len(paid) < search.trials:
        estimate = f"before the deadline no more than {count_text(len(paid), 'trial')} can run to their end: {estimate}"
    job = tuning.tuning_job(made, name, _config(search, base))
    forecasts = tuple(f"each trial: {line}" for line in forecast_lines([base], [inputs]))
    return SearchPlan(job, tuple(cleared.all_notices()), estimate, forecasts)


def _uncapped(job: Job) -> Job:
    return job.model_copy(update={"backend": job.backend.model_copy(update={"max_cost": None})})


def _alike(made: TrainingJob) -> dict[str, Any]:
    """What of a request the tuner cannot vary, but for the volume, which may be larger than needed."""
    request = {key: value for key, value in made.request.items() if key != "HyperParameters"}
    return {**request, "ResourceConfig": {**request["ResourceConfig"], "VolumeSizeInGB": None}}


def _stop_s(search: Search) -> float | None:
    """What ends a trial: the deadline, though no later than what ends any training job where nothing is said; None
    where there is none.
    """
    if search.budget_s is None or search.given.get("max_run") is not None:
        return search.budget_s
    return min(search.budget_s, USUAL_RUN_S)


def _most_trials(search: Search, made: TrainingJob) -> int:
    """How many trials, run for as long as each may, cost at least what all together can."""
    assert search.tuner is not None
    kept = "KeepAlivePeriodInSeconds" in made.request["ResourceConfig"]  # paid for after each
    if search.budget_s is None or kept:
        return search.trials
    one_after_another = math.ceil(search.budget_s / made.request["StoppingCondition"]["MaxRuntimeInSeconds"])
    return min(search.trials, search.tuner.parallel * one_after_another)


def _within_budget(search: Search, rendered: Callable[[float | None], TrainingJob]) -> TrainingJob:
    """The request of a trial, with a time at which it ends such that all trials keep to the budget.

    Raises:
        InputError: they cannot.
    """
    made, usd = rendered(_stop_s(search)), search.budget_usd
    if usd is None:
        return made
    paid = [made.request] * _most_trials(search, made)
    if search.given.get("max_run") is not None:
        refuse_above(usd, paid, limit="--budget")
        return made
    if fitting_s(paid, usd) >= made.request["StoppingCondition"]["MaxRuntimeInSeconds"]:
        return made
    fits_s = fitting_s([made.request] * search.trials, usd)
    if fits_s < _SHORTEST_TRIAL_S:
        shortest = {**made.request, "StoppingCondition": {"MaxRuntimeInSeconds": _SHORTEST_TRIAL_S}}
        trials = int(usd / most(shortest).total)
        possible = f"there is room for --trials {trials}" if trials else "there is no room for one"
        raise InputError(
            f"--budget {usd:g} is too little for {count_text(search.trials, 'trial')}, of which each has its instances "
            f"for {_SHORTEST_TRIAL_S} s at the least: {possible}; or use smaller instances or fewer workers",
            field="budget",
            value=usd,
        )
    return rendered(fits_s)


def _config(search: Search, base: Job) -> dict[str, Any]:
    """HyperParameterTuningJobConfig, without the objective."""
    assert search.tuner is not None
    hyperband = search.tuner.strategy == "hyperband"
    config: dict[str, Any] = {
        "Strategy": search.tuner.strategy.capitalize(),
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": search.trials,
            "MaxParallelTrainingJobs": search.tuner.parallel,
            **({"MaxRuntimeInSeconds": math.ceil(search.budget_s)} if search.budget_s is not None else {}),
        },
        "ParameterRanges": _ranges(search.space.values()),
        "TrainingJobEarlyStoppingType": "Off" if hyperband else "Auto",
        "RandomSeed": base.experiment.seed,
    }
    if hyperband:
        # A resource is an evaluation. One more than there are: a trial that reaches the most would be stopped.
        evaluations = math.ceil(base.experiment.epochs / base.experiment.evaluate_every)
        config["StrategyConfig"] = {"HyperbandStrategyConfig": {"MinResource": 1, "MaxResource": evaluations + 1}}
    return config


def _ranges(axes: Iterable[Axis]) -> dict[str, list[dict[str, Any]]]:
    """ParameterRanges."""
    ranges: dict[str, list[dict[str, Any]]] = {}
    for axis in axes:
        if axis.choices:
            kind, values = "Categorical", {"Values": [text_of(value) for value in axis.choices]}
        else:
            kind = "Integer" if axis.whole else "Continuous"
            scale = "Logarithmic" if axis.logarithmic else "Linear"
            values = {"MinValue": text_of(axis.low), "MaxValue": text_of(axis.high), "ScalingType": scale}
        ranges.setdefault(f"{kind}ParameterRanges", []).append({"Name": axis.name, **values})
    return ranges


def text_of(value: Any) -> str:
    """A value as hosts read it again (`facesim.backends.training_job.job_of`)."""
    return value if isinstance(value, str) else json.dumps(value)


def value_of(axis: Axis, text: str) -> Any:
    """A value that the tuner chose."""
    if axis.choices:
        return {text_of(value): value for value in axis.choices}[text]
    assert axis.low is not None and axis.high is not None
    number = min(max(float(text), axis.low), axis.high)
    return round(number) if axis.whole else number

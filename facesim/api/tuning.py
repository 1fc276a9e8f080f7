"""A search for settings, and what it found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from facesim.api.defaults import observers_or_display
from facesim.api.runs import Run
from facesim.api.values import options_of
from facesim.spec.options import as_in_python, flag
from facesim.study.observers import Observer
from facesim.util.errors import InputError
from facesim.util.folders import RUNS, local_path
from facesim.util.words import count_text

if TYPE_CHECKING:
    import pandas

    from facesim.tuning.findings import Findings
    from facesim.tuning.search import Search

TunerName = Literal["optuna", "sagemaker"]
TUNERS: tuple[TunerName, ...] = get_args(TunerName)


class Tuning:
    """What a search for settings found: `best`, `importance`, `front`, and every trial."""

    def __init__(self, findings: Findings):
        #: The data behind everything that is shown.
        self.findings = findings

    @property
    def best(self) -> dict[str, Any] | None:
        """The settings that reached most on validation images; None while no trial is complete."""
        return dict(self.findings.best.params) if self.findings.best else None

    @property
    def importance(self) -> dict[str, float]:
        """What share, 0-1, of the variance of the accuracy each option explains; empty of few trials."""
        return self.findings.importance

    @property
    def front(self) -> list[Run]:
        """The runs than which none other is both more accurate on validation images and faster, the fastest first."""
        return [Run(trial.run) for trial in self.findings.front if trial.run]

    @property
    def verdict(self) -> str:
        """What was found, in words."""
        return "\n".join(self.findings.sentences())

    @property
    def frame(self) -> pandas.DataFrame:
        """One row a trial: its settings, `state`, `validation_accuracy`, `total_s`, `cost_usd`."""
        import pandas

        from facesim.tuning.findings import trial_facts

        facts_of_trials = [trial_facts(trial) for trial in self.findings.trials]
        return pandas.DataFrame([facts.pop("params") | facts for facts in facts_of_trials])

    def write(self, file: Path | str) -> Path:
        """Write the report as one HTML file that needs nothing else.

        Raises:
            InputError, DiskFull: it cannot be written.
        """
        from facesim.tuning.page import write_page

        file = local_path(file)
        write_page(self.findings, file)
        return file

    def __repr__(self) -> str:
        return f"<facesim.Tuning of {count_text(len(self.findings.trials), 'trial')}: {self.best}>"


def tune(
    search: Mapping[str, str | Sequence[Any]] | None = None,
    *,
    trials: int = 20,
    validation: float | None = None,
    budget_s: float | None = None,
    budget_usd: float | None = None,
    tuner: TunerName = "optuna",
    tuner_strategy: Literal["bayesian", "random", "hyperband"] | None = None,
    parallel: int | None = None,
    output: Path | str = RUNS / "tune",
    observers: Iterable[Observer] | None = None,
    **given: Any,
) -> Tuning:
    """Find settings by trying. Called again with the same `output` and options, it continues.

    Args:
        search: values to try, by option: `{"learning_rate": "1e-5..1e-2", "batch": [16, 32]}`, which is the default.
        trials: how many, those of earlier calls included.
        validation: share of the training images that trials are tested on; the held-out ones are left alone. None: the
            part `val` of the data's own split, or where it has none, 0.2.
        budget_s, budget_usd: what all trials together may take; with SageMaker's tuner, how long the search may.
        tuner: what proposes settings: Optuna, on any backend, or with `backend="sagemaker"` SageMaker's own, as one
            tuning job at AWS.
        tuner_strategy: by which SageMaker's does, by default `bayesian`.
        parallel: how many trials SageMaker's runs at a time, by default 1.
        output: the folder of the search, in which each run gets a directory.
        observers: they hear how it goes; left out, it is printed.
        given: any other option of a job, the same for all trials: `strategy="ps-async", data="photos/", epochs=20`.

    Raises:
        InputError: something that was given cannot be used; then nothing has been started.
        StillRunning: SageMaker's tuner goes on, and is not followed any more.

    >>> import facesim
    >>> facesim.tune({"seed": [1, 2]})
    Traceback (most recent call last):
    facesim.util.errors.InputError: ...seed cannot be searched, ...
    """
    from facesim.tuning.findings import find

    with as_in_python():
        limits = {
            "trials": trials, "validation": validation, "budget_s": budget_s, "budget_usd": budget_usd,
            "parallel": parallel,
        }  # fmt: skip
        options = options_of({**given, **limits, "tuner": tuner, "tuner_strategy": tuner_strategy}, "options")
        wanted = wanted_search(options_of(search or {}, "search"), **options)
        return Tuning(find(wanted, local_path(output), list(observers_or_display(observers))))


def wanted_search(
    search: Mapping[str, str | Sequence[Any]] | None,
    *,
    trials: int,
    validation: float | None,
    budget_s: float | None,
    budget_usd: float | None,
    tuner: str,
    tuner_strategy: str | None = None,
    parallel: int | None = None,
    **given: Any,
) -> Search:
    """What is asked for by the arguments of `tune`.

    Raises:
        InputError: something that was given cannot be used.
    """
    from facesim.billing.catalogue import refuse_foreign
    from facesim.tuning.search import Search, Tuner, with_own_parts
    from facesim.tuning.space import DEFAULT, read_space

    if tuner not in TUNERS:
        message = f"--tuner {tuner} is not known; take {' or '.join(TUNERS)}"
        raise InputError(message, field="tuner", value=tuner, allowed=[*TUNERS])
    own = tuner != "optuna"
    for name, value in {"tuner_strategy": tuner_strategy, "parallel": parallel}.items():
        if value is not None and not own:
            message = f"{flag(name)} is for --tuner sagemaker, with --backend sagemaker; leave it out"
            raise InputError(message, field=name, value=value)
    wanted = Search(
        given, read_space(search or DEFAULT), 0.2 if validation is None else validation, trials, budget_s, budget_usd,
        tuner=Tuner(tuner_strategy or "bayesian", parallel or 1) if own else None,
    )  # fmt: skip
    if budget_usd is not None:
        job = wanted.job({})
        refuse_foreign("--budget", budget_usd, job.backend.open().foreign_prices(job))
    return with_own_parts(wanted) if validation is None else wanted

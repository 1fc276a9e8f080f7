"""facesim from Python: what the command line does, as functions and objects for scripts and notebooks.

>>> import facesim
>>> run = facesim.run(model="compact-cnn", epochs=1, image_size=32, output="runs", observers=[])
>>> run.state, run.verdict
('Completed', 'single')

Everything here is reached from `facesim` itself, and imported when it is first used. Options are those of the command
line, with `_` for `-` and without the dashes: `learning_rate=0.001`. What is wrong with one is an `InputError`, whose
`field`, `value`, `allowed` and `remedy` say so to programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.recognition.recognizer import Recognizer
from facesim.runs import directory
from facesim.runs.states import RunState
from facesim.spec import study as spec
from facesim.spec.job import Job
from facesim.spec.options import as_in_python
from facesim.study.kept import Keeping
from facesim.study.observers import EndRun, JsonLines, Observer, Together
from facesim.study.runner import dry_run, resume, run_study
from facesim.tracking.observer import Tracking
from facesim.util.errors import InputError

if TYPE_CHECKING:
    import pandas

    from facesim.forecast.profile_data import Profile
    from facesim.report.comparison import Comparison as Report
    from facesim.runs.forecasts import ForecastRecord
    from facesim.runs.records import Evaluation, Result
    from facesim.tuning.findings import Findings

__all__ = [
    "Comparison", "EndRun", "JsonLines", "Observer", "Recognizer", "Run", "Study", "Tracking",
    "Tuning", "compare", "forecast", "load", "run", "tune",
]  # fmt: skip

#: Where a study leaves its runs.
OUTPUT = Path("runs")


class Run:
    """A run: one job, executed, and everything that it left in its directory.

    >>> import facesim
    >>> run = facesim.load("runs")
    >>> run.result.state
    <RunState.COMPLETED: 'Completed'>
    >>> sorted(run.frame.columns)[:3]
    ['host', 'name', 'role']
    """

    def __init__(self, run: directory.Run):
        self._run = run

    @property
    def directory(self) -> Path:
        return self._run.directory

    @property
    def id(self) -> str:
        return self._run.id

    @cached_property
    def job(self) -> Job:
        """What was run.

        Raises:
            InputError: the directory does not say, or not as this facesim understands it.
        """
        return self._run.job()

    @property
    def result(self) -> Result | None:
        """What was found and measured; None while the run has not ended.

        Raises:
            InputError: it cannot be read.
        """
        return self._run.result()

    @property
    def state(self) -> str:
        """How the run ended, `Completed`, `Failed`, `Stopped`, ...; `Unfinished` where it has no result."""
        return str(self.result.state) if self.result else RunState.UNFINISHED.value

    @property
    def failure(self) -> str | None:
        """Why the run failed; None if it did not."""
        return self.result.failure if self.result else None

    @property
    def verdict(self) -> str:
        """Whether its replicas trained together: `together`, `apart`, `unknown`, or `single` of one replica."""
        return self.result.sync_audit.verdict if self.result else "unknown"

    @property
    def held_out_accuracy(self) -> float | None:
        """Share, 0-1, of images that were not trained on and were recognised; None where that was not measured."""
        return self.result.held_out_accuracy if self.result else None

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """What `Recognizer.evaluate` found, by data, the newest last."""
        return self._run.evaluations()

    @property
    def forecast(self) -> ForecastRecord | None:
        """What was forecast of the run: time by phase, dollars, intervals, assumptions; None where it was not."""
        return self._run.forecast()

    @property
    def frame(self) -> pandas.DataFrame:
        """Every sample of the run, one a row: `run_id, time_unix_s, host, role, task_index, source, name, value, unit`.

        Raises:
            InputError: there are none.
        """
        from facesim.metrics.files import read_samples

        return read_samples(self.directory)

    def model(
        self, notice: Callable[[str], None] | None = None, before_loading: Callable[[], None] = lambda: None
    ) -> Recognizer:
        """The model that it trained, to use. It is loaded, with TensorFlow, when that is first needed.

        Args:
            notice: is told what of given images is not used; left out, that is a warning.
            before_loading: called once before TensorFlow is imported.

        Raises:
            InputError: the run left no model.

        >>> import facesim
        >>> model = facesim.load("runs").model()
        >>> found = model.evaluate()
        >>> 0 <= found["closed_set"]["accuracy"] <= 1
        True
        """
        options = {} if notice is None else {"notice": notice}
        return Recognizer(self._run, before_loading=before_loading, **options)

    def resume(self, *, observers: Iterable[Observer] | None = None, **changes: Any) -> Run:
        """Go on with a run that did not complete, from its newest checkpoint; `changes` are options such as `workers`.

        Raises:
            InputError: it cannot go on, or not with these changes; nothing has been changed then.
        """
        with as_in_python():
            return Run(resume(self._run, changes, _observers(observers)))

    def __repr__(self) -> str:
        return f"<facesim.Run {self.id}: {self.state}>"

    def _repr_html_(self) -> str:
        from facesim.report.notebook import table

        result = self.result
        facts: dict[str, Any] = {"run": self.id, "state": self.state, "trained together?": self.verdict}
        if result:
            facts["held-out accuracy"] = None if (share := result.held_out_accuracy) is None else f"{share:.1%}"
            facts["training"] = None if (seconds := result.training_s) is None else f"{seconds:.1f} s"
            facts |= {"measurement": result.measurement, "why it failed": result.failure}
        return table([(name, str(value)) for name, value in facts.items() if value is not None])


class Comparison:
    """Runs, compared: those of one strategy, backend and shape are one row, their seeds taken together.

    It can be iterated over: its runs.

    >>> import facesim
    >>> comparison = facesim.compare("runs")
    >>> list(comparison.frame.index)
    ['single']
    """

    def __init__(self, runs: Iterable[Run], target_accuracy: float | None = None, margin: float = 0.01):
        from facesim.report import compare

        self.runs = tuple(runs)
        #: The data behind everything that is shown.
        self.report: Report = compare([run._run for run in self.runs], target_accuracy, margin)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __getitem__(self, number: int) -> Run:
        return self.runs[number]

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def verdict(self) -> str:
        """The comparison in words, a sentence for each row that is compared."""
        return "\n".join(headline.text for headline in self.report.headlines)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the rows unlike each other apart from their strategy, or was left out."""
        return self.report.warnings

    @property
    def frame(self) -> pandas.DataFrame:
        """One row for each row of the comparison, by its label: strategy, backend, seeds, whether its replicas trained
        together, how its numbers are marked, and the mean of every measure over the seeds. Measures have their units in
        their names.
        """
        from facesim.report.notebook import frame

        return frame(self.report)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data for `json.dumps`."""
        from facesim.report import to_json

        return to_json(self.report)

    def write(self, file: Path | str) -> Path:
        """Write the report, with its plots, as one HTML file that needs nothing else.

        Raises:
            InputError, DiskFull: it cannot be written.
        """
        from facesim.report.html import write_html

        write_html(self.report, Path(file))
        return Path(file)

    def __repr__(self) -> str:
        return f"<facesim.Comparison of {len(self)} runs: {', '.join(row.label for row in self.report.rows)}>"

    def _repr_html_(self) -> str:
        from facesim.report.notebook import html

        return html(self.report)


class Study(spec.Study):
    """Jobs that belong together: every combination of the values of what varies, each with every seed.

    An option with a list of values varies. `seeds` is how many, or which; an accuracy statement needs three.

    Raises:
        InputError: an option is unknown, means nothing to any job, or a value is not allowed.

    >>> import facesim
    >>> study = facesim.Study(strategy=["single", "ps-async"], workers=[2, 4], seeds=3, epochs=5)
    >>> len(study)
    9
    """

    def __init__(
        self,
        base: Mapping[str, Any] | None = None,
        axes: Mapping[str, Sequence[Any]] | None = None,
        seeds: int | Sequence[int] = 1,
        faults: Sequence[dict[str, Any]] | str = (),
        **given: Any,
    ):
        from facesim.spec.faults import read_faults

        fixed, varied = dict(base or {}), dict(axes or {})
        for name, value in given.items():
            (varied if spec.varies(name, value) else fixed)[name] = value
        with as_in_python():
            read = read_faults(faults) if isinstance(faults, str) else faults
            super().__init__(fixed, varied, seeds, read)
            object.__setattr__(self, "_faults", faults)  # as given: a study is written down so
            self.jobs()  # what is wrong with them is told now

    def __len__(self) -> int:
        """How many jobs it has."""
        return len(self.jobs())

    def dry_run(self, output: Path | str = OUTPUT, *, reuse: bool = True) -> dict[str, Any]:
        """What would run, as plain data: directories, jobs, exact requests, files, cost. Starts nothing.

        Raises:
            InputError: something that was given cannot be used.
        """
        with as_in_python():
            return dry_run(self.jobs(), Path(output), reuse=reuse)

    def keeping(self, output: Path | str = OUTPUT, name: str = "study", **about: Any) -> Keeping | None:
        """An observer that writes the study's options to a file in `output`, from which `facesim study run` goes on.

        Args:
            name: what the file's name begins with.
            about: what the file says beside.

        Returns:
            the observer; None where a file cannot have them, such as faults that were not given as a text, or None
            among several values.
        """
        faults, own = getattr(self, "_faults", ()), self.settings()
        without_name = any(None in value for value in own.values() if isinstance(value, list))
        if without_name or (faults and not isinstance(faults, str)):
            return None
        settings = {**own, **({"faults": faults} if faults else {}), **about}
        return Keeping(settings, Path(output), name)

    def run(
        self,
        output: Path | str = OUTPUT,
        *,
        observers: Iterable[Observer] | None = None,
        baselines: bool = True,
        reuse: bool = True,
        parallel: int = 1,
    ) -> Comparison:
        """Run the jobs that have not been run yet, and compare all.

        Args:
            output: the folder in which each run gets a directory.
            observers: are told how it goes; left out, it is printed.
            baselines: also recognise with classical methods, the bar for any network.
            reuse: a job that has completed in `output` is not run again, and one that began there goes on.
            parallel: how many jobs run at the same time; on this machine each on processors of its own.

        Raises:
            InputError: something that was given cannot be used; then nothing has been started.
        """
        keeping = self.keeping(output)
        observer = Together([*_observers(observers), *([keeping] if keeping else [])])
        runs = self.train(output, observers=[observer], reuse=reuse, parallel=parallel)
        if baselines and not any(run.state == RunState.STOPPED for run in runs):
            for text in self.baselines(output)[1]:
                observer.noticed(text)
        return Comparison(runs)

    def train(
        self,
        output: Path | str = OUTPUT,
        *,
        observers: Iterable[Observer] | None = None,
        reuse: bool = True,
        parallel: int = 1,
    ) -> list[Run]:
        """Run the jobs as `run` does, with nothing beside; the runs, however they ended.

        A run that fails does not keep the next from being run; one that is stopped does.

        Raises:
            InputError: something that was given cannot be used; then nothing has been started.
        """
        with as_in_python():
            told = _observers(observers)
            return [Run(run) for run in run_study(self.jobs(), Path(output), told, reuse=reuse, parallel=parallel)]

    def baselines(self, output: Path | str = OUTPUT) -> tuple[list[Any], list[str]]:
        """What classical methods reach on the study's data, kept in `output`, where its comparison finds it: the
        scores, and why there are none of data that is too large.

        Raises:
            InputError: the data cannot be used.
        """
        from facesim.baselines.record import study_baselines

        with as_in_python():
            return study_baselines(self.jobs(), Path(output))


def run(
    strategy: str = "single",
    *,
    output: Path | str = OUTPUT,
    observers: Iterable[Observer] | None = None,
    seed: int = 0,
    **given: Any,
) -> Run:
    """Train once and return the run, however it ended: `state` says how.

    Args:
        strategy: how replicas train together.
        output: the folder in which the run gets a directory.
        observers: are told how it goes; left out, it is printed.
        seed: of the split, the parameters and the order of examples.
        given: any other option of a job: `workers=2, data="photos/", epochs=20`.

    Raises:
        InputError: something that was given cannot be used; then nothing has been started.

    >>> import facesim
    >>> facesim.run(strategy="ps-asink")
    Traceback (most recent call last):
    facesim.util.errors.InputError: strategy 'ps-asink' is not allowed: must be one of ...; did you mean ps-async?
    """
    if wrong := next((name for name in ("seeds", "axes", "base") if name in given), None):
        raise InputError(f"{wrong} is of a study: use facesim.Study(...).run()", field=wrong, value=given[wrong])
    several = [name for name, value in {"strategy": strategy, **given}.items() if spec.varies(name, value)]
    if several:
        message = f"{several[0]} has several values, which make a study: use facesim.Study(...).run()"
        raise InputError(message, field=several[0])
    (ended,) = Study(strategy=strategy, seeds=[seed], **given).train(output, observers=observers, reuse=False)
    return ended


def forecast(
    strategy: str = "single",
    *,
    profile: Profile | Path | str | None = None,
    backend: str = "sagemaker",
    output: Path | str = OUTPUT,
    seed: int = 0,
    **given: Any,
) -> Run:
    """What a job will take, without running it: a run whose numbers are all forecast, and are marked so.

    `compare` shows it beside others; its `forecast` has time by phase, dollars, 80 % intervals, and what was assumed.

    Args:
        strategy: how replicas train together.
        profile: what was measured on one machine, or the file that it is in; left out, that of this machine, which is
            measured now, in a few minutes, if there is none yet.
        backend: where it would run.
        output: the folder in which the run gets a directory.
        given: any other option of a job, such as `workers` and `instance_type`.

    Raises:
        InputError: something that was given cannot be used, or cannot be forecast.
    """
    from facesim.forecast.profile_data import Profile
    from facesim.planning.jobs import check_profile, write_forecasts
    from facesim.planning.profiles import have_profile

    (job,) = Study(strategy=strategy, backend=backend, seeds=[seed], **given).jobs()
    with as_in_python():
        if profile is None:
            profile = have_profile(job)
        elif not isinstance(profile, Profile):
            profile = Profile.load(Path(profile))
        check_profile(profile, job, "the profile")
        (run,) = write_forecasts([(job, profile)], Path(output))
    return Run(run)


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
        return [Run(one.run) for one in self.findings.front if one.run]

    @property
    def verdict(self) -> str:
        """What was found, in words."""
        return "\n".join(self.findings.sentences())

    @property
    def frame(self) -> pandas.DataFrame:
        """One row a trial: its settings, `state`, `validation_accuracy`, `total_s`, `cost_usd`."""
        import pandas

        from facesim.tuning.findings import trial_facts

        facts = [trial_facts(one) for one in self.findings.trials]
        return pandas.DataFrame([one.pop("params") | one for one in facts])

    def write(self, file: Path | str) -> Path:
        """Write the report as one HTML file that needs nothing else.

        Raises:
            InputError, DiskFull: it cannot be written.
        """
        from facesim.tuning.page import write_page

        write_page(self.findings, Path(file))
        return Path(file)

    def __repr__(self) -> str:
        return f"<facesim.Tuning of {len(self.findings.trials)} trials: {self.best}>"


def tune(
    search: Mapping[str, str | Sequence[Any]] | None = None,
    *,
    trials: int = 20,
    validation: float = 0.2,
    budget_s: float | None = None,
    budget_usd: float | None = None,
    output: Path | str = OUTPUT / "tune",
    observers: Iterable[Observer] | None = None,
    **given: Any,
) -> Tuning:
    """Find settings by trying. Called again with the same `output` and options, it goes on.

    Args:
        search: values to try, by option: `{"learning_rate": "1e-5..1e-2", "batch": [16, 32]}`, which is the default.
        trials: how many, those of earlier calls included.
        validation: share of the training images that trials are tested on; the held-out ones are left alone.
        budget_s, budget_usd: what all trials together may take.
        output: the folder of the search, in which each run gets a directory.
        observers: are told how it goes; left out, it is printed.
        given: any other option of a job, the same for all trials: `strategy="ps-async", data="photos/", epochs=20`.

    Raises:
        InputError: something that was given cannot be used; then nothing has been started.

    >>> import facesim
    >>> facesim.tune({"seed": [1, 2]})
    Traceback (most recent call last):
    facesim.util.errors.InputError: ...seed cannot be searched, ...
    """
    from facesim.tuning.findings import find
    from facesim.tuning.search import Search
    from facesim.tuning.space import DEFAULT, read_space

    with as_in_python():
        wanted = Search(given, read_space(search or DEFAULT), validation, trials, budget_s, budget_usd)
        return Tuning(find(wanted, Path(output), list(_observers(observers))))


def load(path: Path | str) -> Run:
    """The one run at `path`: its directory, or a folder that holds it.

    Raises:
        InputError: there is none, or several.
    """
    return Run(directory.find_run(Path(path)))


def compare(
    runs: Run | Path | str | Iterable[Run | Path | str],
    target_accuracy: float | None = None,
    margin: float = 0.01,
) -> Comparison:
    """Compare runs: given as such, by their directories, or by folders that hold them.

    Args:
        target_accuracy: of time-to-accuracy, 0-1; left out, 95 % of the lowest mean final accuracy of a row.
        margin: accuracies closer than this count as the same, 0-1.

    Raises:
        InputError: a path holds no run.
    """
    given = [runs] if isinstance(runs, (Run, Path, str)) else runs
    by_directory: dict[Path, Run] = {}
    for one in given:
        several = [one] if isinstance(one, Run) else [Run(each) for each in directory.find_runs([Path(one)])]
        by_directory |= {each.directory.resolve(): each for each in several}
    return Comparison(by_directory.values(), target_accuracy, margin)


def _observers(given: Iterable[Observer] | None) -> Iterable[Observer]:
    if given is not None:
        return given
    from rich.console import Console

    from facesim.study.progress import display

    return [display(Console())]

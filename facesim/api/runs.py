"""A run as an object: its result, its samples, its model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesim.api.defaults import observers_or_display
from facesim.api.values import options_of
from facesim.recognition.recognizer import Recognizer
from facesim.runs import directory
from facesim.runs.states import RunState
from facesim.spec.job import Job
from facesim.spec.options import as_in_python
from facesim.study.observers import Observer
from facesim.study.runner import resume
from facesim.util.folders import local_path

if TYPE_CHECKING:
    import pandas

    from facesim.runs.evaluations import Evaluation
    from facesim.runs.forecasts import ForecastRecord
    from facesim.runs.records import Result


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
            notice: called with a text for what is not used of given images; left out, that is a warning.
            before_loading: called once before TensorFlow is imported.

        Raises:
            InputError: the run left no model.

        >>> import facesim
        >>> model = facesim.load("runs").model()
        >>> scores = model.evaluate()
        >>> 0 <= scores["closed_set"]["accuracy"] <= 1
        True
        """
        options = {} if notice is None else {"notice": notice}
        return Recognizer(self._run, before_loading=before_loading, **options)

    def resume(self, *, observers: Iterable[Observer] | None = None, **changes: Any) -> Run:
        """Continue a run that did not complete, from its newest checkpoint; `changes` are options such as `workers`, or
        `faults` in place of those that it has.

        Raises:
            InputError: it cannot continue, or not with these changes; nothing has been changed then.
        """
        with as_in_python():
            return Run(resume(self._run, options_of(changes, "changes"), observers_or_display(observers)))

    def __repr__(self) -> str:
        return f"<facesim.Run {self.id}: {self.state}>"

    def _repr_html_(self) -> str:
        from facesim.report.notebook import table

        result = self.result
        facts: dict[str, Any] = {"run": self.id, "state": self.state, "trained together?": self.verdict}
        if result:
            share = result.held_out_accuracy
            facts[f"{result.tested_in_words} accuracy"] = None if share is None else f"{share:.1%}"
            facts["training"] = None if (seconds := result.training_s) is None else f"{seconds:.1f} s"
            facts |= {"measurement": result.measurement, "why it failed": result.failure}
        return table([(name, str(value)) for name, value in facts.items() if value is not None])


def load(path: Path | str) -> Run:
    """The one run at `path`: its directory, or a folder that holds it.

    Raises:
        InputError: there is none, or several.
    """
    return Run(directory.find_run(local_path(path)))

"""A study as an object, and a study of one job: `run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster import clock
from facesim.api.comparison import Comparison
from facesim.api.defaults import observers_or_display
from facesim.api.runs import Run
from facesim.api.values import options_of, value_of
from facesim.runs.states import RunState
from facesim.spec import study as spec
from facesim.spec.options import as_in_python
from facesim.study.observers import Interrupted, Observer, Together
from facesim.study.runner import dry_run, run_study
from facesim.study.study_file import StudyFileWriter
from facesim.util.errors import InputError
from facesim.util.folders import RUNS, local_path


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

        with as_in_python():
            fixed, varied = options_of(base or {}, "base"), options_of(axes or {}, "axes")
            for name, value in options_of(given, "options").items():
                (varied if spec.varies(name, value) else fixed)[name] = value
            read = read_faults(faults) if isinstance(faults, str) else value_of(faults)
            if not isinstance(read, Sequence):
                message = f"faults is {faults!r}; it has to be a file, random:SEED:PER_MINUTE, or a list of dicts"
                raise InputError(message, field="faults", value=faults)
            super().__init__(fixed, varied, value_of(seeds), read)
            object.__setattr__(self, "_faults", faults)  # as given: a study is written down so
            self.jobs()  # raises now what is wrong with them

    def __len__(self) -> int:
        """How many jobs it has."""
        return len(self.jobs())

    def dry_run(
        self, output: Path | str = RUNS, *, reuse: bool = True, since_unix_s: float | None = None
    ) -> dict[str, Any]:
        """What would run, as plain data: directories, jobs, exact requests, files, cost. Starts nothing.

        Raises:
            InputError: something that was given cannot be used.
        """
        with as_in_python():
            return dry_run(self.jobs(), local_path(output), reuse=reuse, since_unix_s=since_unix_s)

    def keeping(self, output: Path | str = RUNS, name: str = "study", **about: Any) -> StudyFileWriter | None:
        """An observer that writes the study's options to a file in `output`, with which `facesim study run` continues.

        Args:
            name: what the file's name begins with.
            about: what else the file says.

        Returns:
            the observer; None where a file cannot hold the options, such as faults that were not given as a text, or
            None among several values.
        """
        faults, options = getattr(self, "_faults", ()), self.settings()
        has_none = any(None in value for value in options.values() if isinstance(value, list))
        if has_none or (faults and not isinstance(faults, str)):
            return None
        settings = {**options, **({"faults": faults} if faults else {}), **about}
        return StudyFileWriter(settings, local_path(output), name)

    def run(
        self,
        output: Path | str = RUNS,
        *,
        observers: Iterable[Observer] | None = None,
        baselines: bool = True,
        reuse: bool = True,
        parallel: int = 1,
    ) -> Comparison:
        """Run the jobs that have not been run yet, and compare all.

        Args:
            output: the folder in which each run gets a directory.
            observers: they hear how it goes; left out, it is printed.
            baselines: also recognise with classical methods, the bar for any network.
            reuse: a job that has completed in `output` is not run again, and one that began there goes on.
            parallel: how many jobs run at the same time; on this machine each on processors of its own.

        Raises:
            InputError: something that was given cannot be used; then nothing has been started.
        """
        since_unix_s = None if reuse else clock.time_unix_s()
        keeping = self.keeping(output, since_unix_s=since_unix_s, baselines=baselines, parallel=parallel)
        interrupted = Interrupted()
        observer = Together([*observers_or_display(observers), *([keeping] if keeping else []), interrupted])
        runs = self.train(output, observers=[observer], since_unix_s=since_unix_s, parallel=parallel)
        if baselines and not interrupted.heard and not any(run.state == RunState.STOPPED for run in runs):
            for text in self.baselines(output)[1]:
                observer.noticed(text)
        return Comparison(runs)

    def train(
        self,
        output: Path | str = RUNS,
        *,
        observers: Iterable[Observer] | None = None,
        reuse: bool = True,
        since_unix_s: float | None = None,
        parallel: int = 1,
    ) -> list[Run]:
        """Run the jobs as `run` does, without baselines and comparison; the runs, however they ended. Of those in
        `output`, only what began since `since_unix_s` is reused.

        A run that fails does not keep the next from being run; one that is stopped does.

        Raises:
            InputError: something that was given cannot be used; then nothing has been started.
        """
        with as_in_python():
            listeners = observers_or_display(observers)
            how: dict[str, Any] = {"reuse": reuse, "since_unix_s": since_unix_s, "parallel": parallel}
            return [Run(run) for run in run_study(self.jobs(), local_path(output), listeners, **how)]

    def baselines(self, output: Path | str = RUNS) -> tuple[list[Any], list[str]]:
        """What classical methods reach on the study's data, kept in `output`, where its comparison finds it: the
        scores, and why there are none of data that is too large, or of a method.

        Raises:
            InputError: the data cannot be used.
        """
        from facesim.baselines.record import study_baselines

        with as_in_python():
            return study_baselines(self.jobs(), local_path(output))


def run(
    strategy: str = "single",
    *,
    output: Path | str = RUNS,
    observers: Iterable[Observer] | None = None,
    seed: int = 0,
    **given: Any,
) -> Run:
    """Train once and return the run, however it ended: `state` says how.

    Args:
        strategy: how replicas train together.
        output: the folder in which the run gets a directory.
        observers: they hear how it goes; left out, it is printed.
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
    options = options_of({"strategy": strategy, **given}, "options")
    several = [name for name, value in options.items() if spec.varies(name, value)]
    if several:
        message = f"{several[0]} has several values, which make a study: use facesim.Study(...).run()"
        raise InputError(message, field=several[0])
    (ended,) = Study(seeds=[seed], **options).train(output, observers=observers, reuse=False)
    return ended

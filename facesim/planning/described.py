"""The jobs that a forecast is asked of: as run directories, TOML files and options describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from facesim.forecast.profile_data import Profile
from facesim.planning.notes import data_options, options_of
from facesim.runs.directory import Run, find_runs
from facesim.spec.job import DEFAULTS, Job, flat, options
from facesim.spec.study import OF_THE_FILE, OF_THE_STUDY, Study
from facesim.util.errors import InputError
from facesim.util.files import read_toml

#: Where a job would run whose backend is not given.
_BACKEND = "sagemaker"

#: Of a study's file what is no option of its jobs.
_OF_NO_JOB = {*OF_THE_FILE, *OF_THE_STUDY} - {"seeds"}


class Described(NamedTuple):
    """A job that a forecast is asked of, without faults, and whether what describes it has any; the options of its data
    that were given in words, and the training examples of the run that it is from, if they are known.
    """

    job: Job
    data_options: tuple[str, ...] = ()
    training_examples: int | None = None
    had_faults: bool = False


def described_jobs(
    sources: Sequence[Path], strategies: Sequence[str], given: Mapping[str, Any], profile: Profile | None = None
) -> list[Described]:
    """The jobs of `sources`, each a run directory, a folder of them or a TOML file, with `strategies` and the options
    `given` in place of theirs; without sources those of the options alone, for the network of `profile`. What the file
    of a study has beside the options of its jobs is left alone, but for its seeds.

    Raises:
        InputError: a source cannot be read, or an option is not allowed.
    """
    described = []
    for source in sources:
        if source.suffix == ".toml":
            content = {name.replace("-", "_"): value for name, value in read_toml(source, "forecast").items()}
            base = {name: value for name, value in content.items() if name not in _OF_NO_JOB}
            jobs = _study_of({"backend": _BACKEND, **base}, given, strategies)
            had_faults = bool(content.get("faults"))
            described += [Described(job, data_options({**base, **given}), None, had_faults) for job in jobs]
            continue
        for run in find_runs([source]):
            of_run = run.job()
            base = {**flat(of_run), "spot": of_run.spot is not None}
            examples, had_faults = _training_examples(run), bool(of_run.faults)
            jobs = _study_of(base, given, strategies)
            described += [Described(job, data_options(given), examples, had_faults) for job in jobs]
    if not sources:
        of_profile = options_of(profile, "the profile") if profile is not None and "recipe" not in given else {}
        jobs = _study_of({"backend": _BACKEND, **of_profile}, given, strategies)
        described = [Described(job, data_options(given)) for job in jobs]
    return described


def _training_examples(run: Run) -> int | None:
    try:
        result = run.result()
    except InputError:  # a job is forecast also of a run that did not end well
        return None
    return result.data.training_examples if result else None


def _study_of(base: Mapping[str, Any], given: Mapping[str, Any], strategies: Sequence[str]) -> list[Job]:
    """The jobs of a base with the options that are given over it; a list in a TOML file is several jobs."""
    table = options()
    named = strategies or base.get("strategy", "single")
    asked = {part: given.get(part, base.get(part, default)) for part, default in DEFAULTS.items()} | {"strategy": named}
    names = {part: {value} if isinstance(value, str) else set(value) for part, value in asked.items()}
    # What a run, or a file, has for another strategy, backend or framework than is asked for now.
    fitting = {
        name: value
        for name, value in base.items()
        if not (name in table and table[name].of and not names[table[name].part] & set(table[name].of))
    }
    merged = {**fitting, **given, "strategy": named}
    seeds = merged.pop("seeds", None)
    if seeds is None or given.get("seed") is not None:
        seed = merged.pop("seed", None) or 0
        seeds = seed if isinstance(seed, list | tuple) else [seed]
    axes = {
        name: value
        for name, value in merged.items()
        if isinstance(value, list | tuple)
        and (value or name == "strategy")
        and (name == "strategy" or name not in table or not table[name].several)
    }
    shared = {name: value for name, value in merged.items() if name not in axes and value is not None}
    return Study(shared, axes, seeds).jobs()

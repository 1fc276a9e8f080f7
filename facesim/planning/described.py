"""The jobs that a forecast is asked of: as run directories, TOML files and options describe them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facesim.forecast.profile_data import Profile
from facesim.planning.jobs import options_of
from facesim.runs.directory import find_runs
from facesim.spec.job import DEFAULTS, Job, flat, options
from facesim.spec.study import Study
from facesim.util.files import read_toml

#: Where a job would run whose backend is not given.
_BACKEND = "sagemaker"


def described_jobs(
    sources: Sequence[Path], strategies: Sequence[str], given: Mapping[str, Any], profile: Profile | None = None
) -> list[Job]:
    """The jobs of `sources`, each a run directory, a folder of them or a TOML file, with `strategies` and the options
    `given` in place of theirs; without sources those of the options alone, for the network of `profile`.

    Raises:
        InputError: a source cannot be read, or an option is not allowed.
    """
    bases: list[dict[str, Any]] = []
    for source in sources:
        if source.suffix == ".toml":
            content = {name.replace("-", "_"): value for name, value in read_toml(source, "forecast").items()}
            bases.append({"backend": _BACKEND, **content})
        else:
            jobs = [run.job() for run in find_runs([source])]
            bases += [{**flat(job), "spot": job.spot is not None} for job in jobs]
    if not bases:
        bases = [{"backend": _BACKEND}]
        if profile is not None and "recipe" not in given:
            bases[0] |= options_of(profile, "the profile")
    return [job for base in bases for job in _study_of(base, given, strategies)]


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
    several = {
        name: value
        for name, value in merged.items()
        if isinstance(value, list | tuple) and (value or name == "strategy")
    }
    seeds = merged.pop("seed", None) or 0
    axes = {
        name: value
        for name, value in several.items()
        if name != "seed" and (name == "strategy" or name not in table or not table[name].several)
    }
    shared = {name: value for name, value in merged.items() if name not in axes and value is not None}
    return Study(shared, axes, seeds if isinstance(seeds, list | tuple) else [seeds]).jobs()

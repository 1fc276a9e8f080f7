"""A study: jobs that belong together, as what they share and what they differ in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from facesim.spec.job import DECIDING, DEFAULTS, Job, make_job, means_nothing, options
from facesim.spec.options import flag
from facesim.spec.recovery import whole_path
from facesim.spec.strategies import STRATEGIES, options_without_meaning
from facesim.util.errors import InputError

#: More jobs than these are a slip of the finger.
MOST_JOBS = 10_000

#: What is compared where nobody says what.
COMPARED = ("single", "ps-async")

#: What the file of a study may say of itself, for its page and its report: see `docs/studies/index.md`. That of
#: one that was begun with --again says since when runs are its own.
OF_THE_FILE = ("title", "about", "published", "since_unix_s")

#: What it may have in addition to the options of its jobs.
OF_THE_STUDY = ("seeds", "faults", "output", "baselines", "parallel", "json_lines", "track")


@dataclass(frozen=True)
class Study:
    """Every combination of the values of `axes`, each with every seed.

    base: options of all jobs, as `make_job` takes them; what is None is left out. An option that only some of the
        study's strategies, backends or frameworks have goes to these.
    axes: options with several values each. The seed varies slowest, then the first axis. What means nothing to a
        strategy, such as the number of workers to `single`, does not make several jobs of it.
    seeds: how many, 0, 1, ..., or which.
    faults: as `facesim.spec.faults.read_faults` returns them; every job has them.

    Raises:
        InputError: an axis has no values, or an option is given in two places or means nothing to any job.

    >>> study = Study({"epochs": 5}, {"strategy": ["single", "ps-async"], "workers": [2, 4]}, seeds=3)
    >>> len(study.jobs())
    9
    """

    base: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    seeds: int | Sequence[int] = 1
    faults: Sequence[dict[str, Any]] = ()

    def __post_init__(self) -> None:
        given = {name: value for name, value in self.base.items() if value is not None}
        axes = {name: _distinct(name, values) for name, values in self.axes.items()}
        seeds = _seeds(self.seeds)
        for name, value in {"base": given, "axes": axes, "seeds": seeds, "faults": tuple(self.faults)}.items():
            object.__setattr__(self, name, value)
        self._check(given, axes, seeds)

    def _check(self, base: Mapping[str, Any], axes: Mapping[str, tuple[Any, ...]], seeds: tuple[int, ...]) -> None:
        for name, values in {**axes, "seeds": seeds}.items():
            if not values:
                raise InputError(f"{flag(name)} has no values: give one or more", field=name, value=values)
        if (jobs := math.prod(map(len, axes.values())) * len(seeds)) > MOST_JOBS:
            longest = max({**axes, "seeds": seeds}.items(), key=lambda axis: len(axis[1]))[0]
            raise InputError(
                f"these options make {jobs:,} jobs, {MOST_JOBS:,} are allowed: give fewer values of {flag(longest)}",
                field=longest,
            )
        if twice := sorted(base.keys() & axes.keys()):
            flags = " and ".join(map(flag, twice))
            raise InputError(f"{flags} has one value for all jobs and several: give it once", field=twice[0])
        if "seed" in base or "seed" in axes:
            raise InputError("--seed is what --seeds says in a study: give the seeds there", field="seed")
        if wrong := list(self._without_meaning()):
            raise InputError.of(wrong)

    def _names(self, part: str) -> tuple[str, ...]:
        """The strategies, backends or frameworks of the study."""
        return tuple(self.axes.get(part, (self.base.get(part, DEFAULTS[part]),)))

    def _without_meaning(self) -> Iterator[InputError]:
        """Options that mean nothing to any of the study's jobs."""
        table = options()
        for part, registry in DECIDING.items():
            names = self._names(part)
            if not all(isinstance(name, str) and name in registry for name in names):
                continue  # `make_job` says what is wrong
            for name, value in {**self.base, **self.axes}.items():
                one = table.get(name)
                if one and one.of and one.part == part and not set(one.of) & set(names):
                    yield means_nothing(one, value, part, " or ".join(names))
                elif name in self.axes and part == "strategy" and all(name in _meaningless(each) for each in names):
                    message = f"several values of {flag(name)} mean nothing to {flag(part)} {' or '.join(names)}"
                    yield InputError(f"{message}: give one", field=name, value=value, remedy="give one value")

    @classmethod
    def of(
        cls, options: Mapping[str, Any], seeds: int | Sequence[int] = 1, faults: Sequence[dict[str, Any]] = ()
    ) -> Study:
        """A study of flat options, of which those with a list of values vary."""
        varied = {name: value for name, value in options.items() if varies(name, value)}
        return cls({name: value for name, value in options.items() if name not in varied}, varied, seeds, faults)

    def settings(self) -> dict[str, Any]:
        """The options of all jobs as a file has them, lists where they vary. Faults are not among them."""
        options = {**self.base, **{name: list(values) for name, values in self.axes.items()}}
        options.setdefault("strategy", DEFAULTS["strategy"])  # a file without one compares `COMPARED`
        plain = {name: _plain(value) for name, value in options.items()}
        if folder := plain.get("checkpoint_dir"):  # as its jobs have it: the file may be read from another place
            plain["checkpoint_dir"] = [*map(whole_path, folder)] if isinstance(folder, list) else whole_path(folder)
        return {**plain, "seeds": list(self.seeds)}  # type: ignore[arg-type]

    def jobs(self) -> list[Job]:
        """The jobs, none twice.

        Raises:
            InputError: an option is unknown, or a value is not allowed.
        """
        jobs: dict[str, Job] = {}
        for seed in _seeds(self.seeds):
            for values in product(*self.axes.values()):
                job = make_job(seed=seed, faults=self.faults, **self._of_one(dict(zip(self.axes, values))))
                jobs.setdefault(job.model_dump_json(), job)
        return list(jobs.values())

    def _of_one(self, varied: Mapping[str, Any]) -> dict[str, Any]:
        """The options of the job with these values of the axes: all but those that only others of the study have."""
        given, table = {**self.base, **varied}, options()
        parts = {part: given.get(part, default) for part, default in DEFAULTS.items()}
        for name in list(given):
            one = table.get(name)
            elsewhere = one is not None and not one.is_of(parts)
            if elsewhere or (name in varied and name in _meaningless(parts["strategy"])):
                del given[name]
        return given


def varies(name: str, value: Any) -> bool:
    """Whether a value is several: a list, of an option that takes one value."""
    known = options().get(name)
    return isinstance(value, (list, tuple)) and not (known and known.several)


def _seeds(given: int | Sequence[int]) -> tuple[int, ...]:
    listed = range(given) if isinstance(given, int) else given
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise InputError(
            f"--seeds is {given!r}; it is how many, or a list of which, whole numbers from 0 on",
            field="seeds",
            value=given,
        )
    if len(listed) > MOST_JOBS:
        message = f"--seeds are {len(listed):,}, and {MOST_JOBS:,} jobs are allowed: give fewer"
        raise InputError(message, field="seeds", value=given)
    return _distinct("seeds", listed)


def _distinct(name: str, values: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(values, str):  # whose letters would be the values
        message = f"{flag(name)} has {values!r}; its values have to be a list"
        raise InputError(message, field=name, value=values)
    try:
        return tuple(dict.fromkeys(values))
    except TypeError:  # a list or a table in it
        message = f"{flag(name)} has {values!r}; its values have to be single ones, such as numbers or words"
        raise InputError(message, field=name, value=values) from None


def _plain(value: Any) -> Any:
    """A value as JSON has it: a path is a text, a table of tags a list of KEY=VALUE."""
    if isinstance(value, Mapping):
        return [f"{key}={one}" for key, one in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _meaningless(strategy: str) -> set[str]:
    return options_without_meaning(strategy) if strategy in STRATEGIES else set()

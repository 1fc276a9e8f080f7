"""Whether a profile is of a job, and what of a job, or of a profile, its forecast does not heed, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from facesim.billing.catalogue import foreign_prices, instances
from facesim.forecast.hosts import HostType
from facesim.forecast.model import Phases
from facesim.forecast.profile_data import Profile
from facesim.metrics.machine import cpu_model
from facesim.profiling.profile import MATTERS, OF_IMAGES
from facesim.spec.job import DECIDING, Job, flat, make_job, options
from facesim.spec.options import flag
from facesim.spec.own_model import network
from facesim.util.errors import InputError
from facesim.util.words import count_text

#: Options without which nothing about a step's time is known.
_OF_THE_NETWORK = ("framework", "model", "precision", "head", "image_size", "channels")

#: Those that change what a job takes, or costs, and are in no formula.
_WITHOUT_FORMULA = (
    "threads", "steps_per_dispatch", "spot_lifetimes", "spot_trace", "spot_notice_s", "spot_speed", "input_mode",
    "encrypt_traffic", "keep_alive_s",
)  # fmt: skip

#: Those that decide which images are trained on, in any number.
_OF_THE_DATA = (
    "data", "test", "split", "test_part", "subset", "min_images", "image_feature", "label_feature", "held_out",
    "validation",
)  # fmt: skip


def options_of(profile: Profile, where: str) -> dict[str, bool | int | float | str | None]:
    """The options of the experiment that a profile is of, as `make_job` takes them.

    Raises:
        InputError: there are no such options, or values of them; `where` says which profile.
    """
    again = "make one with facesim profile"
    if unknown := sorted(profile.options.keys() - {*MATTERS, *OF_IMAGES, "sample_rate"}):
        raise InputError(f"{where} cannot be used: options.{unknown[0]} is none of a profile's; {again}")
    try:
        make_job(**profile.experiment)
    except InputError as error:
        raise InputError(f"{where} cannot be used: {error}; {again}") from None
    return profile.experiment


def with_options_of(profile: Profile, where: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are `given`, and what they leave out as in a profile; where they name a recipe, they alone.

    Raises:
        InputError: the profile is of another framework, or its options are none; `where` says which profile.
    """
    of_profile = options_of(profile, where)
    if "recipe" in given:
        return dict(given)
    # Before they are one job's: what the profile has, another framework may not have.
    framework = given.get("framework")
    if isinstance(framework, str) and framework in DECIDING["framework"]:
        _check_network(profile, {"framework": framework}, where)
    return {**of_profile, **given}


def check_profile(profile: Profile, job: Job, where: str) -> None:
    """Look whether a profile is of a job's network, as far as it says. What else differs is in `profile_notes`.

    Raises:
        InputError: it is of another; `where` says which profile.
    """
    _check_network(profile, flat(job), where)


def _check_network(profile: Profile, known: Mapping[str, Any], where: str) -> None:
    for name in _OF_THE_NETWORK:
        asked, measured = known.get(name), profile.experiment.get(name)
        if None not in (asked, measured) and network(str(asked)) != network(str(measured)):
            raise InputError(
                f"{flag(name)} {asked}: {where} is of {measured}, and nothing about {asked} follows from it; give "
                f"{flag(name)} {measured}, or measure {asked}: facesim profile {flag(name)} {asked}"
            )


def profile_notes(profile: Profile, job: Job, where: str, identities: int | None = None) -> list[str]:
    """Notes on a profile that was given, which may be another machine's, or of other images, versions and options than
    the job's; `identities` are those of its data, where they are known.
    """
    notes, here = [], cpu_model()
    if profile.machine.processor and here and profile.machine.processor != here:
        notes.append(f"{where} was measured on another machine, {profile.machine.processor}; this one has {here}")
    if others := [*_other_versions(profile)]:
        notes.append(f"{where} was measured with {' and '.join(others)}")
    if not profile.options:
        notes.append(
            f"{where} does not say with which images, head and optimiser it was measured: taken to be the same"
        )
    for name, measured in profile.options.items():
        asked = getattr(job.experiment, name, None)
        if name not in _OF_THE_NETWORK and asked != measured:
            notes.append(
                f"{where} was measured with {name} = {measured}, not {asked}: what that takes is not in the forecast"
            )
    if identities is not None and profile.identities not in (None, identities):
        notes.append(
            f"{where} was measured with {count_text(profile.identities, 'identity')}, the data has {identities}: the "
            "last layer's part of a step is extrapolated"
        )
    return notes


def data_options(given: Mapping[str, object]) -> tuple[str, ...]:
    """Of options that were given, those that decide which images are trained on."""
    return tuple(name for name in _OF_THE_DATA if given.get(name) is not None)


def data_notes(
    profile: Profile, where: str, asked: Sequence[str] = (), training_examples: int | None = None
) -> list[str]:
    """Notes on a profile that was given, of whose images a forecast is: where these `asked` options of the data are of
    others, or a job had other `training_examples`.
    """
    people = f" of {count_text(profile.identities, 'identity')}" if profile.identities else ""
    if asked:
        named = _not_looked_at([*map(flag, asked)])
        return [f"{named}: {profile.examples:,} training examples{people} are taken from {where}"]
    if training_examples not in (None, profile.examples):
        return [
            f"the run trained on {count_text(training_examples, 'example')}, the forecast is of the "
            f"{profile.examples:,} training examples{people} of {where}"
        ]
    return []


def _not_looked_at(named: Sequence[str]) -> str:
    """`--data and --test are not looked at`."""
    names = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    return f"{names} {'are' if len(named) > 1 else 'is'} not looked at"


#: The note where what describes a job has faults.
FAULTS_LEFT_OUT = _not_looked_at(["--faults"])


def left_out(job: Job, phases: Phases) -> Iterator[str]:
    """Notes on what a job asks for and its forecast leaves out."""
    asked, table = flat(job), options()
    given = [name for name in _WITHOUT_FORMULA if asked.get(name) not in (None, table[name].default)]
    named = [*(f"{flag(name)} {asked[name]}" for name in given), *(["--faults"] if job.faults else [])]
    if named:
        yield _not_looked_at(named)
    yield from over_limits(job, phases)


def over_limits(job: Job, phases: Phases) -> Iterator[str]:
    """Notes on what ends a job before it has done what is forecast of it."""
    run_s, wait_s = job.backend.open().limits_s(job)
    if run_s == wait_s:  # that of waiting says it
        run_s = None
    for name, given_s, limit_s, due_s in (
        ("max_run", job.max_run_s, run_s, phases.billed_s),
        ("max_wait", job.max_wait_s, wait_s, phases.total_s),
    ):
        if limit_s is None or due_s <= limit_s:
            continue
        if given_s is not None:
            yield f"{flag(name)} {given_s:g} is not looked at: it ends the job before the {due_s:,.0f} s that it takes"
        else:
            yield f"{usual_limit(name, limit_s)}, before the {due_s:,.0f} s that this one takes"


def usual_limit(name: str, limit_s: float) -> str:
    """What ends a job of the backends that go by AWS' limits, if it does not say when, in words."""
    return f"AWS' own limit ends a job after {limit_s:.0f} s unless {flag(name)} says otherwise"


def region_notes(region: str | None, names: Collection[str | None], known: Mapping[str, HostType]) -> list[str]:
    """A note where the prices of instance types are those of another AWS region than is meant; none where they are the
    user's own.
    """
    theirs = [name for name in names if name in instances() and not known[name].own_price]
    note = foreign_prices(region, theirs) if region is not None else None
    return [note] if note else []


def _other_versions(profile: Profile) -> Iterator[str]:
    for name, measured in profile.versions.items():
        try:
            here = version(name)
        except (PackageNotFoundError, ValueError):  # it is no package, or not installed
            continue
        if here != measured:
            yield f"{name} {measured}, not {here}"

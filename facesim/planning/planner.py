"""A plan from what is wanted: of which profile, with which hosts, and what has to be noted about both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from facesim.forecast.hosts import HostType, host
from facesim.forecast.profile_data import Profile
from facesim.forecast.shapes import ClusterShape, check_strategies
from facesim.planning import TRIED
from facesim.planning.accuracy import accuracies, learns_like, normalises_batches, replay_shape, replayed_job
from facesim.planning.notes import check_profile, data_notes, data_options, profile_notes, region_notes, with_options_of
from facesim.planning.profiles import have_profile, how_to_have_one
from facesim.planning.quantities import MOST_REPLAYS
from facesim.planning.saved import saved_hosts, saved_outside, saved_widths
from facesim.planning.search import Axes, Plan, Wanted, make_plan
from facesim.preflight.inputs import prepare_inputs
from facesim.profiling.accuracy import check_replayable
from facesim.runs.directory import Run, find_runs
from facesim.runs.records import Data
from facesim.spec.aws_names import region as checked_region
from facesim.spec.job import Job, make_job, options
from facesim.spec.options import flag
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError
from facesim.util.folders import RUNS
from facesim.util.words import count_text

#: Of an experiment what depends on the workers that make an update: a plan gives each shape the same updates.
_OF_SCALING = {"scale_lr", "warmup_epochs"}


def plan_training(
    axes: Axes,
    wanted: Wanted,
    *,
    given: Mapping[str, Any],
    profile: Profile | Path | None = None,
    measure: Callable[[Job], Profile] = have_profile,
    own_instances: Path | None = None,
    region: str | None = None,
    runs: Path = RUNS,
    replays: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Plan:
    """The plan of a training on every shape of `axes`, judged by what is wanted.

    Args:
        axes: without instance types, every type whose speed is known is tried; without strategies, those of `TRIED`
            that the framework has.
        given: options of the experiment, as `make_job` takes them, but for those that scale the rate; what is left out
            is as in the `profile`, if there is one.
        profile: what was measured, or the file that it is in; left out, this machine's, which `measure` returns, and
            measures if there is none.
        own_instances: TOML file of the user's own instance types and prices.
        region: AWS region whose prices are meant; a note says where the known ones are another's.
        runs: folder of runs whose accuracies are used; it need not exist.
        replays: seeds with which to train here what the recommended shapes would, into `runs`, where no run shows their
            accuracy. `progress` gets a line for each shape.

    Raises:
        InputError: something that was given cannot be used.
        FacesimError: a process that measures, or replays, failed.
    """
    known = saved_hosts(own_instances)
    _check_types(known, axes)
    if type(replays) is not int or not 0 <= replays <= MOST_REPLAYS:
        raise InputError(f"--replay {replays!r} is not allowed: it must be 0 to {MOST_REPLAYS} seeds", field="replay")
    if not axes.instance_types:
        axes = replace(axes, instance_types=tuple(name for name, kind in known.items() if kind.relative_speed))
    where = f"the profile {profile}" if isinstance(profile, Path) else "the profile"
    given_profile = Profile.load(profile) if isinstance(profile, Path) else profile
    asked = with_options_of(given_profile, where, given) if given_profile else given
    _check_heeded(given)
    job = make_job(**asked)
    tried = axes.strategies or tuple(name for name in TRIED if job.framework in STRATEGIES[name].trainers)
    check_strategies(tried, job.framework)
    axes = replace(axes, strategies=tried)
    shapes = axes.shapes()  # before anything is measured
    too_few = [name for name in tried if all(shape.strategy != name for shape in shapes)]
    replayable = True
    try:
        _check_replays(job, axes, shapes)
    except InputError:
        if replays:
            raise
        replayable = False
    used = given_profile or measure(job)
    check_profile(used, job, where if given_profile else "the profile of this machine")
    notes = _region_notes(region, known, axes)
    if given_profile:
        of_data = data_notes(given_profile, where, data_options(given))
        notes = [*profile_notes(given_profile, job, where), *of_data, *notes]
    if too_few:
        notes.append(f"{', '.join(too_few)} not tried: --workers up to {max(axes.workers)} is too few")
    images = Data()
    if not given_profile:
        # A subset's content is that of its seed.
        content = None if job.experiment.subset else prepare_inputs(job, lambda *_: None).data.sha256
        images = Data(training_examples=used.examples, content_sha256=content)
    accuracies_in = partial(accuracies, job=job, profile=used, shapes=shapes, images=images)

    def left_out(error: InputError) -> None:
        notes.append(f"no accuracy of a run: {error}")

    of_user = runs != RUNS and not replays  # the usual folder is there after the first run; that of a replay is made
    known_accuracies = accuracies_in(_runs_in(runs, left_out if of_user else None), left_out=left_out)
    make = partial(
        make_plan,
        used,
        axes,
        epochs=job.experiment.epochs,
        batch=job.experiment.batch,
        evaluations=math.ceil(job.experiment.epochs / job.experiment.evaluate_every),
        known_hosts=known,
        widths=saved_widths(),
        outside=saved_outside(),
        notes=notes,
        profile_command=f"{how_to_have_one(job)} --fresh",
        replayable=replayable,
    )
    if replays:
        _replay(make(replace(wanted, min_accuracy=None), accuracies=known_accuracies), job, runs, replays, progress)
        known_accuracies = accuracies_in(_runs_in(runs))
    return make(wanted, accuracies=known_accuracies)


def _check_heeded(given: Mapping[str, Any]) -> None:
    """A plan is of an experiment, on shapes of its own: what else a job has would change nothing."""
    table = options()
    heeded = {name for name, one in table.items() if one.path[0] == "experiment"} - _OF_SCALING | {"framework"}
    for name, value in given.items():
        if value is not None and name in {*table, "faults"} - heeded:
            raise InputError(
                f"{flag(name)} {value!r} means nothing to a plan, which takes options of the experiment and tries "
                "shapes of its own: leave it out; a forecast of one job takes it",
                field=name,
                value=value,
                remedy="leave it out",
            )


def _check_types(known: Mapping[str, HostType], axes: Axes) -> None:
    asked = [("instance_type", name) for name in axes.instance_types]
    asked += [("other_workers", name) for name, _ in axes.other_workers]
    asked += [("ps_instance_type", name) for name in filter(None, [axes.ps_instance_type])]
    for option, name in asked:
        try:
            host(name, known)
        except InputError as error:
            own = "a type of your own goes in a file for --instances"
            raise InputError(f"{flag(option)}: {error}; {own}") from None


def _check_replays(job: Job, axes: Axes, shapes: Collection[ClusterShape]) -> None:
    if axes.other_workers:
        raise InputError("--replay: no job has workers of several types; leave out --other-workers")
    check_replayable(job)
    largest = {shape.strategy: shape for shape in sorted(shapes, key=lambda shape: (shape.workers, shape.ps))}
    for shape in largest.values():
        replayed_job(job, shape)


def _region_notes(region: str | None, known: Mapping[str, HostType], axes: Axes) -> list[str]:
    if region is None:
        return []
    try:
        checked_region(region)
    except ValueError as error:
        raise InputError(f"--region {region!r} is not allowed: {error}") from None
    return region_notes(region, (*axes.instance_types, axes.ps_instance_type, *dict(axes.other_workers)), known)


def _runs_in(folder: Path, left_out: Callable[[InputError], None] | None = None) -> list[Run]:
    """The runs in a folder; if there are none, `left_out` gets why."""
    try:
        return find_runs([folder])
    except InputError as error:
        if left_out is not None:
            left_out(error)
        return []


def _replay(plan: Plan, job: Job, runs: Path, seeds: int, progress: Callable[[str], None]) -> None:
    """Replay the shapes that are recommended and whose accuracy nobody knows, those that learn alike once."""
    wanted = {}
    for row in (plan.cheapest, plan.nearly_fastest, plan.fastest):
        if row is not None and row.accuracy is None:
            shape = row.forecast.shape
            like = learns_like(shape.strategy, shape.model_dump(), normalises_batches(plan.profile))
            wanted.setdefault(like, shape)
    for place, shape in enumerate(wanted.values(), 1):
        progress(f"[{place}/{len(wanted)}] replaying {shape} with {count_text(seeds, 'seed')}")
        folder = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-replay-{shape.strategy}-{place}"
        replay_shape(job, plan.profile, shape, folder, seeds)

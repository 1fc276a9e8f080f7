"""The command `plan`: what training would take and cost on clusters that nobody has run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import GroupedCommand, help_all, job_options, own
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice, read_config
from facesim.planning import quantities
from facesim.spec.strategies import STRATEGIES
from facesim.util.errors import InputError

if TYPE_CHECKING:
    from facesim.forecast.hosts import HostType
    from facesim.forecast.profile_data import Profile
    from facesim.planning.search import Plan
    from facesim.runs.directory import Run
    from facesim.spec.job import Job

#: Strategies that a plan tries; the others gain nothing where hosts compute on their processors.
_TRIED = ("single", "ps-async", "ps-sync", "allreduce", "local-sgd")

#: Options of a job that say what is trained, and are the same for every shape of a plan.
OF_THE_EXPERIMENT = (
    "recipe", "data", "test", "split", "test_part", "subset", "model", "head", "image_size", "channels", "held_out",
    "min_images", "image_feature", "label_feature", "epochs", "batch", "precision", "cache", "augment", "mirror_test",
    "evaluate_every", "seed", "learning_rate", "schedule", "warmup", "weight_decay", "clip_norm", "label_smoothing",
    "optimizer", "momentum", "margin", "margin_scale",
)  # fmt: skip

FILE = click.Path(path_type=Path)


class _Dollars(click.types.FloatParamType):
    """An amount of money; a TOML file may have it as a number."""

    name = "dollars"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return quantities.dollars(str(value), "--budget")


class _Counts(click.types.IntParamType):
    """`4`, `1,2,4` or `1..16`; a TOML file may have a single one as a number."""

    name = "numbers"

    def __init__(self, option: str, most: int):
        self._option, self._most = option, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return quantities.counts(str(value), self._option, self._most)


@click.command(cls=GroupedCommand)
@own("--strategy", type=Choice(list(STRATEGIES)), multiple=True, group="Training",
     help=f"what to try; repeatable  [default: {', '.join(_TRIED)}]")  # fmt: skip
@job_options(only=OF_THE_EXPERIMENT)
@own("--instance-type", multiple=True, group="Cluster",
     help="what to try; repeatable  [default: every type whose speed is known]")  # fmt: skip
@own(
    "--workers",
    type=_Counts("--workers", 1024),
    default="1..8",
    show_default=True,
    group="Cluster",
    help="how many: 4, 1,2,4 or 1..16",
)
@own(
    "--ps",
    type=_Counts("--ps", 64),
    default="1..2",
    show_default=True,
    group="Cluster",
    help="how many parameter servers",
)
@own("--ps-instance-type", group="Cluster", help="hosts of their own for parameter servers  [default: the workers']")
@own("--backup-workers", type=click.IntRange(0, 64), default=0, show_default=True, group="Cluster", common=False,
     help="ps-sync: workers that may come too late")  # fmt: skip
@own("--local-steps", type=click.IntRange(1, 10_000), default=8, show_default=True, group="Cluster", common=False,
     help="local-sgd: steps between averagings")  # fmt: skip
@own("--deadline", group="Cost and spot", help="how long it may take, such as 2h or 90m")
@own("--budget", type=_Dollars(), group="Cost and spot", help="US dollars that it may cost, such as 5")
@own("--min-accuracy", group="Training", help="held-out accuracy that it must reach, such as 0.95 or 95 %")
@own("--spot/--no-spot", default=False, show_default=True, group="Cost and spot",
     help="try spot capacity, too, beside on demand")  # fmt: skip
@own("--region", group="AWS", help="AWS region whose prices are meant")
@own(
    "--profile",
    type=FILE,
    group="Output",
    help="the profile  [default: this machine's, measured if there is none]",
)
@own("--instances", type=FILE, group="Cost and spot",
     help="TOML file of instance types and prices of your own")  # fmt: skip
@own("--runs", type=FILE, default=Path("runs"), show_default=True, help="folder of runs whose accuracies are used")
@own(
    "--explain",
    metavar="SHAPE",
    help="the arithmetic of one shape in words: cheapest, fastest, or ps-async:ml.m5.xlarge:4w:1ps",
)
@own("--replay", type=click.IntRange(0, 20), default=0, show_default=True,
     help="seeds with which to train here what the recommended shapes would, for their accuracy")  # fmt: skip
@own("--all", "everything", is_flag=True, common=False, help="print every shape")
@own("--output", type=FILE, help="HTML file with the plots  [default: in --runs]")
@own("--config", type=FILE, is_eager=True, expose_value=False, callback=read_config,
     help="TOML file with any of these options; flags win over it")  # fmt: skip
@own("--json", "as_json", is_flag=True, help="print JSON for machines, every shape, in place of text")
@help_all()
def plan(
    strategy: tuple[str, ...],
    instance_type: tuple[str, ...],
    workers: tuple[int, ...],
    ps: tuple[int, ...],
    deadline: str | None,
    budget: float | None,
    min_accuracy: str | None,
    spot: bool,
    region: str | None,
    profile: Path | None,
    instances: Path | None,
    runs: Path,
    replay: int,
    explain: str | None,
    everything: bool,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what training would take and cost on clusters that nobody has run: one machine or a cluster, and which.

    All numbers are forecasts, from a profile of this machine and formulas, with 80 % intervals. Nothing is started
    but, where there is no profile yet, the measurements of one.
    """
    from facesim.planning.search import Axes, Wanted

    wanted = Wanted(
        None if deadline is None else quantities.seconds(deadline, "--deadline"),
        budget,
        None if min_accuracy is None else quantities.share(min_accuracy, "--min-accuracy"),
    )
    axes = Axes(
        strategies=tuple(dict.fromkeys(strategy or _TRIED)),
        instance_types=tuple(dict.fromkeys(instance_type)),
        workers=workers,
        ps=ps,
        spot=spot,
        ps_instance_type=options.pop("ps_instance_type"),
        backup_workers=options.pop("backup_workers"),
        local_steps=options.pop("local_steps"),
    )
    made = _plan(axes, wanted, region, profile, instances, runs, replay, options, as_json)
    chosen = None if explain is None else _row_of(made, explain)
    if as_json:
        _print_json(made, chosen)
        return
    if chosen is not None:
        from facesim.planning.explain import explain as explained
        from facesim.planning.explain import numbered_lines

        echo(f"forecast of {chosen.forecast.shape}, step by step:")
        for line in numbered_lines(explained(made, chosen)):
            echo(line)
        return
    _print_plan(made, everything)
    from facesim.planning.page import write_page

    page = output or runs / f"plan-{time.strftime('%Y%m%d-%H%M%S')}.html"
    write_page(made, page)
    echo(f"\nplan: {page}")


def _plan(
    axes: Any,
    wanted: Any,
    region: str | None,
    profile_file: Path | None,
    own_instances: Path | None,
    runs: Path,
    replays: int,
    options: dict[str, Any],
    as_json: bool,
) -> Plan:
    import math
    from dataclasses import replace
    from functools import partial

    from facesim.planning.accuracy import accuracies
    from facesim.planning.jobs import check_profile
    from facesim.planning.saved import saved_hosts, saved_outside, saved_widths
    from facesim.planning.search import make_plan
    from facesim.spec.job import make_job

    known = saved_hosts(own_instances)
    _check_types(known, (*axes.instance_types, *filter(None, [axes.ps_instance_type])))
    if not axes.instance_types:
        usable = tuple(name for name, kind in known.items() if kind.relative_speed)
        axes = replace(axes, instance_types=usable)
    shapes = axes.shapes()  # before anything is measured
    given = {name: value for name, value in options.items() if value is not None}
    if profile_file is not None:
        from facesim.forecast.profile_data import Profile

        profile = Profile.load(profile_file)
        job = make_job(**{**(profile.experiment if "recipe" not in given else {}), **given})
        check_profile(profile, job, f"the profile {profile_file}")
    else:
        job = make_job(**given)
        profile = measured_profile(job, as_json)
        check_profile(profile, job, "the profile of this machine")
    notes = [*_of_the_profile(profile, job, profile_file, given), *_of_the_region(region, known, axes)]
    make = partial(
        make_plan,
        profile,
        axes,
        epochs=job.experiment.epochs,
        batch=job.experiment.batch,
        evaluations=math.ceil(job.experiment.epochs / job.experiment.evaluate_every),
        known_hosts=known,
        widths=saved_widths(),
        outside=saved_outside(),
        notes=notes,
    )
    if replays:
        first = make(replace(wanted, min_accuracy=None), accuracies=accuracies(_runs_in(runs), job, profile, shapes))
        _replay(first, job, runs, replays)
    return make(wanted, accuracies=accuracies(_runs_in(runs), job, profile, shapes))


def _replay(made: Plan, job: Job, runs: Path, seeds: int) -> None:
    """Replay the shapes that are recommended and whose accuracy nobody knows, those that learn alike once."""
    from facesim.planning.accuracy import learns_like, normalises_batches, replay_shape

    wanted = {}
    for row in (made.cheapest, made.nearly_fastest, made.fastest):
        if row is not None and row.accuracy is None:
            shape = row.forecast.shape
            like = learns_like(shape.strategy, shape.model_dump(), normalises_batches(made.profile))
            wanted.setdefault(like, shape)
    for place, shape in enumerate(wanted.values(), 1):
        echo(f"[{place}/{len(wanted)}] replaying {shape} with {seeds} seed{'s' if seeds > 1 else ''}", err=True)
        folder = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-replay-{shape.strategy}-{place}"
        replay_shape(job, made.profile, shape, folder, seeds)


def _check_types(known: dict[str, HostType], names: tuple[str, ...]) -> None:
    from facesim.forecast.hosts import host

    for name in names:
        try:
            host(name, known)
        except InputError as error:
            raise InputError(f"--instance-type: {error}; a type of your own goes in a file for --instances") from None


def measured_profile(job: Job, quiet: bool) -> Profile:
    """This machine's profile of a job's experiment, measured now if there is none."""
    from rich.console import Console

    from facesim.planning.profiles import have_profile
    from facesim.profiling.display import make_watcher

    watcher = make_watcher(Console(stderr=True), quiet)
    try:
        return have_profile(job, watcher)
    finally:
        watcher.close()


def _of_the_profile(profile: Profile, job: Job, file: Path | None, given: dict[str, Any]) -> list[str]:
    """What has to be said of a profile that may be of another experiment than the job's."""
    from facesim.planning.jobs import profile_notes

    if file is None:
        return []
    told = profile_notes(profile, job, file)
    if given.keys() & {"data", "subset"}:
        people = f" of {profile.identities:,} identities" if profile.identities else ""
        told.append(f"--data is not looked at: {profile.examples:,} training examples{people} are taken from {file}")
    return told


def _of_the_region(region: str | None, known: dict[str, HostType], axes: Any) -> list[str]:
    from facesim.billing import instances
    from facesim.spec.aws_names import region as checked

    if region is None:
        return []
    try:
        checked(region)
    except ValueError as error:
        raise InputError(f"--region {region!r} is not allowed: {error}") from None
    others = {
        kind.price_region
        for name, kind in instances().items()
        if name in axes.instance_types and known[name].price_source != "the user" and kind.price_region != region
    }
    if not others:
        return []
    return [
        f"prices are those of {', '.join(sorted(others))}, not of {region}: facesim prices refresh --region {region} "
        "asks AWS for them"
    ]


def _runs_in(folder: Path) -> list[Run]:
    from facesim.runs.directory import find_runs

    if not folder.exists():
        return []
    try:
        return find_runs([folder])
    except InputError:  # it has none
        return []


def _row_of(made: Plan, text: str) -> Any:
    """The row that --explain names; made now where it is none of the plan's."""
    from facesim.planning.explain import read_shape
    from facesim.planning.search import Row

    named = {"cheapest": made.cheapest or made.cheapest_of_all, "fastest": made.fastest or made.fastest_of_all}
    if text.strip() in named:
        return named[text.strip()]
    usual = (made.cheapest or made.cheapest_of_all).forecast.shape
    wanted = read_shape(text, made.known, usual)
    for row in made.rows:
        if row.forecast.shape == wanted:
            return row
    from facesim.forecast.model import forecast_job

    forecast = forecast_job(
        made.profile, wanted, epochs=made.epochs, batch=made.batch, known_hosts=made.known, widths=made.widths
    )
    return Row(forecast, None, ())


def _print_json(made: Plan, chosen: Any) -> None:
    from facesim.planning.answer import to_json

    content = to_json(made)
    if chosen is not None:
        from facesim.planning.explain import explain

        content["explained"] = {
            "shape": str(chosen.forecast.shape),
            "steps": [step._asdict() for step in explain(made, chosen)],
        }
    echo_json(content)


def _print_plan(made: Plan, everything: bool) -> None:
    from facesim.planning.answer import answer, notes, table

    for sentence in answer(made):
        echo(sentence)
    echo("\nAll numbers are forecast; in brackets the 80 % interval.")
    rows = table(made, everything)
    headings = ("shape", "time", "dollars", "accuracy", "bound by", "")
    cells = [headings, *((row.shape, row.time, row.cost, row.accuracy, row.bound, row.marks) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    for line in cells:
        echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    left = len(made.rows) - len(rows)
    if left:
        echo(f"and {left:,} more shapes: --all prints them")
    echo()
    for topic, text in notes(made):
        echo(f"{topic:12}{text}")

"""The command `plan`: what training would take and cost on clusters that nobody has run."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import GroupedCommand, command_option, help_all, job_options
from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import Choice, Dollars, FilePath, read_config
from facesim.planning import TRIED, quantities
from facesim.spec.strategies import STRATEGIES
from facesim.util.folders import RUNS
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.forecast.profile_data import Profile
    from facesim.planning.search import Plan, Row
    from facesim.spec.job import Job

#: Options of a job that say what is trained, and are the same for every shape of a plan.
OF_THE_EXPERIMENT = (
    "recipe", "data", "test", "split", "test_part", "subset", "model", "head", "sample_rate", "image_size", "channels",
    "held_out", "min_images", "image_feature", "label_feature", "epochs", "batch", "precision", "cache", "augment",
    "mirror_test", "evaluate_every", "seed", "learning_rate", "schedule", "warmup", "weight_decay", "clip_norm",
    "label_smoothing", "optimizer", "momentum", "margin", "margin_scale", "framework",
)  # fmt: skip

FILE = FilePath()


class _Share(click.types.FloatParamType):
    """A share, or percents; a TOML file may have it as a number."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return quantities.share(str(value), "--min-accuracy")


class _Counts(click.types.IntParamType):
    """`4`, `1,2,4` or `1..16`; a TOML file may have a number, or a list of any of these."""

    name, takes_list = "numbers", True

    def __init__(self, option: str, most: int):
        self._option, self._most = option, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        several = value if isinstance(value, (list, tuple)) else [value]
        return quantities.counts(",".join(map(str, several)), self._option, self._most)


@click.command(cls=GroupedCommand)
@command_option("--strategy", type=Choice(list(STRATEGIES)), multiple=True, group="Training",
     help=f"what to try; repeatable  [default: {', '.join(TRIED)}]")  # fmt: skip
@job_options(only=OF_THE_EXPERIMENT)
@command_option("--instance-type", multiple=True, group="Cluster",
     help="what to try; repeatable  [default: every type whose speed is known]")  # fmt: skip
@command_option(
    "--workers",
    type=_Counts("--workers", quantities.MOST_WORKERS),
    default="1..8",
    show_default=True,
    group="Cluster",
    help="how many: 4, 1,2,4 or 1..16",
)
@command_option(
    "--ps",
    type=_Counts("--ps", quantities.MOST_SERVERS),
    default="1..2",
    show_default=True,
    group="Cluster",
    help="how many parameter servers",
)
@command_option(
    "--ps-instance-type", group="Cluster", help="hosts of their own for parameter servers  [default: the workers']"
)
@command_option("--other-workers", multiple=True, group="Cluster", metavar="TYPE:N", common=False,
     help="of a cluster's workers so many on another type, ml.m5.xlarge:4; repeatable")  # fmt: skip
@command_option("--backup-workers", type=click.IntRange(0, 64), default=0, show_default=True, group="Cluster",
     common=False, help="ps-sync: workers that may come too late")  # fmt: skip
@command_option("--local-steps", type=click.IntRange(1, 10_000), default=8, show_default=True, group="Cluster",
     common=False, help="local-sgd: steps between averagings")  # fmt: skip
@command_option("--deadline", group="Cost and spot", help="how long it may take, such as 2h or 90m")
@command_option("--budget", type=Dollars("--budget"), group="Cost and spot",
     help="US dollars that it may cost, such as 5")  # fmt: skip
@command_option(
    "--min-accuracy", type=_Share(), group="Training", help="held-out accuracy that it must reach, such as 0.95 or 95 %"
)
@command_option("--spot/--no-spot", default=False, show_default=True, group="Cost and spot",
     help="try spot capacity, too, beside on demand")  # fmt: skip
@command_option("--region", group="AWS", help="AWS region whose prices are meant")
@command_option(
    "--profile",
    type=FILE,
    group="Output",
    help="the profile  [default: this machine's, measured if there is none]",
)
@command_option("--instances", type=FILE, group="Cost and spot",
     help="TOML file of instance types and prices of your own")  # fmt: skip
@command_option("--runs", type=FILE, default=RUNS, show_default=True, help="folder of runs whose accuracies are used")
@command_option(
    "--explain",
    metavar="SHAPE",
    help="the arithmetic of one shape in words: cheapest, fastest, or ps-async:ml.m5.xlarge:4w:1ps",
)
@command_option("--replay", type=click.IntRange(0, quantities.MOST_REPLAYS), default=0, show_default=True,
     help="seeds with which to train here what the recommended shapes would, for their accuracy")  # fmt: skip
@command_option("--all", "everything", is_flag=True, common=False, help="print every shape")
@command_option("--output", type=FILE, help="HTML file with the plots  [default: in --runs]")
@command_option("--config", type=FILE, is_eager=True, expose_value=False, callback=read_config,
     help="TOML file with any of these options; flags win over it")  # fmt: skip
@command_option("--json", "as_json", is_flag=True, help="print JSON for machines, every shape, in place of text")
@help_all()
def plan(
    strategy: tuple[str, ...],
    instance_type: tuple[str, ...],
    workers: tuple[int, ...],
    ps: tuple[int, ...],
    deadline: str | None,
    budget: float | None,
    min_accuracy: float | None,
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
    from facesim.planning.explain import row_of
    from facesim.planning.page import check_output, write_page
    from facesim.planning.planner import plan_training
    from facesim.planning.search import Axes, Wanted

    page = output or runs / f"plan-{time.strftime('%Y%m%d-%H%M%S')}.html"
    writes = output is not None or not (as_json or explain is not None)
    if writes:
        check_output(page)

    wanted = Wanted(
        None if deadline is None else quantities.seconds(deadline, "--deadline"),
        budget,
        min_accuracy,
    )
    axes = Axes(
        strategies=tuple(dict.fromkeys(strategy)),
        instance_types=tuple(dict.fromkeys(instance_type)),
        workers=workers,
        ps=ps,
        spot=spot,
        ps_instance_type=options.pop("ps_instance_type"),
        backup_workers=options.pop("backup_workers"),
        local_steps=options.pop("local_steps"),
        other_workers=quantities.workers_on(options.pop("other_workers"), "--other-workers"),
    )
    made = plan_training(
        axes,
        wanted,
        given={name: value for name, value in options.items() if value is not None},
        profile=profile,
        measure=partial(measured_profile, quiet=as_json),
        own_instances=instances,
        region=region,
        runs=runs,
        replays=replay,
        progress=partial(echo, err=True),
    )
    chosen = None if explain is None else row_of(made, explain)
    if writes:
        write_page(made, page)
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
    echo(f"\nplan: {page}")


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


def profile_for(job: Job, file: Path | None, quiet: bool) -> Profile:
    """The profile in a file, for as many images as the job's data has, after notes on where it may not be the job's;
    without a file this machine's.

    Raises:
        InputError: the file cannot be used, or the data is not on this machine.
    """
    from facesim.forecast.profile_data import Profile
    from facesim.planning.notes import check_profile, profile_notes
    from facesim.preflight.inputs import prepare_inputs
    from facesim.profiling.profile import of_these_images
    from facesim.spec.remote import refuse_remote

    refuse_remote(
        job.experiment.data,
        ", and how many images there are has to be known here: copy it to this machine (aws s3 cp --recursive), and "
        "give that folder",
    )
    if file is None:
        profile = measured_profile(job, quiet)
        check_profile(profile, job, "the profile of this machine")
        return profile
    profile, where = Profile.load(file), f"the profile {file}"
    check_profile(profile, job, where)
    inputs = prepare_inputs(job, lambda *_: None)
    for note in profile_notes(profile, job, where, len(inputs.data.names)):
        echo(note, err=True)
    return of_these_images(profile, job, inputs)


def _print_json(made: Plan, chosen: Row | None) -> None:
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
    from facesim.planning.answer import answer, notes, table, words

    for sentence in answer(made):
        echo(sentence)
    images = count_text(made.profile.examples, "training image")
    echo(
        f"\n{made.profile.model}, {made.profile.framework}, on {images}, "
        f"{count_text(made.epochs, 'epoch')}, batch {made.batch}: "
        f"{count_text(len(made.rows), 'shape')}. All numbers are forecast; in brackets "
        "the 80 % interval."
    )
    rows = table(made, everything)
    headings = ("shape", "time", "dollars", "accuracy", "bound by", "")
    cells = [headings, *((row.shape, row.time, row.cost, row.accuracy, row.bound, row.marks) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    for line in cells:
        echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    left = len(made.rows) - len(rows)
    if left:
        echo(f"and {count_text(left, 'more shape')}: --all prints {'it' if left == 1 else 'them'}")
    echo()
    for topic, text in (*words(rows), *notes(made)):
        echo(f"{topic:12}{text}")

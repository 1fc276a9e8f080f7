"""Commands that train and compare: `compare`, `run`, `report`, `baselines`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import GroupedCommand, help_all, job_options, own
from facesim.cli.output import console, echo, echo_json, writing
from facesim.cli.parsing import Choice, command, read_config
from facesim.errors import DiskFull, InputError
from facesim.spec.strategies import STRATEGIES

if TYPE_CHECKING:
    from facesim.baselines import Score
    from facesim.runs.directory import Run
    from facesim.runs.records import Result
    from facesim.spec.data import DataSpec
    from facesim.spec.job import Job
    from facesim.study import Watcher

INTERRUPTED = 130

#: More runs of one thing are a slip of the finger.
MAX_SEEDS = 1000


def _study_options(default_strategies: list[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of `run` and `compare`. What is left out is the job's default."""
    file = click.Path(path_type=Path)
    options = [
        own("--strategy", type=Choice(list(STRATEGIES)), multiple=True, default=default_strategies,
            show_default=True, group="Training", help="how replicas train together; repeatable"),
        job_options(several=("subset",), without=("strategy", "seed")),
        own("--seeds", type=click.IntRange(1, MAX_SEEDS), default=1, show_default=True, group="Training",
            help="runs of each strategy, with seeds 0, 1, ...; an accuracy statement needs 3"),
        own("--spot/--no-spot", default=None, group="Cost and spot",
            help="play managed spot training; any other option that begins with --spot asks for it, too"),
        own("--faults", group="Recovery", common=False,
            help="disturb the run: a TOML file of faults, or random:SEED:PER_MINUTE"),
        own("--output", type=file, default=Path("runs"), show_default=True,
            help="folder for run directories and report"),
        own("--config", type=file, is_eager=True, expose_value=False, callback=read_config,
            help="TOML file with any of these options; flags win over it"),
        own("--dry-run", is_flag=True, help="print the exact processes, TF_CONFIGs and files; start nothing"),
        own("--json", "as_json", is_flag=True, help="print JSON for machines in place of text"),
        help_all(),
    ]  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command(cls=GroupedCommand)
@_study_options(["single"])
@own("--resume", "resumed", metavar="RUN", type=click.Path(path_type=Path), group="Recovery",
     help="go on with a run that did not complete; its options stay but for those given")  # fmt: skip
@click.pass_context
def run(ctx: click.Context, resumed: Path | None, **options: Any) -> int:
    """Train with one strategy (or several) and show what came of it."""
    if resumed is None:
        return _study(**options)
    given = {name for name in options if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    return _resume(resumed, {name: options[name] for name in given}, options["as_json"])


def _resume(directory: Path, options: dict[str, Any], as_json: bool) -> int:
    from facesim.runs.directory import Run
    from facesim.spec.faults import read_faults
    from facesim.study import resume

    for name in ("seeds", "output", "dry_run"):
        if name in options:
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning with --resume, which goes on in the run's directory"
            )
    changes = {name: value for name, value in options.items() if name not in ("as_json", "faults")}
    for name in changes.keys() & {"strategy", "subset"}:
        (*_, changes[name]) = changes[name]
    if "faults" in options:
        changes["faults"] = read_faults(options["faults"])
    run = resume(Run.open(directory), changes, _watcher(as_json))
    return _finished([run], directory.parent, as_json)


@click.command(cls=GroupedCommand)
@_study_options(["single", "ps-async"])
@own("--baselines/--no-baselines", default=True, show_default=True,
     help="also recognise with classical methods, the bar for any network")  # fmt: skip
def compare(**options: Any) -> int:
    """Train with several strategies, the same examples for each, and compare time, accuracy, resources and cost."""
    return _study(**options)


def _study(
    strategy: tuple[str, ...],
    subset: tuple[str, ...],
    seeds: int,
    output: Path,
    dry_run: bool,
    as_json: bool,
    baselines: bool = False,
    **options: Any,
) -> int:
    from facesim.spec.faults import read_faults
    from facesim.spec.job import applicable, make_job

    named = options.pop("faults")
    faults = read_faults(named) if named else ()
    by_strategy = applicable(options, dict.fromkeys(strategy))
    jobs = [
        make_job(subset=part, seed=seed, faults=faults, **own_options)
        for seed in range(seeds)
        for part in dict.fromkeys(subset or [None])
        for own_options in by_strategy
    ]
    if dry_run:
        return _print_dry_run(jobs, output)

    from facesim.runs.states import RunState
    from facesim.study import run_study

    runs = run_study(jobs, output, _watcher(as_json))
    if baselines and RunState.STOPPED not in {result.state for run in runs if (result := run.result())}:
        _baselines(jobs, output)
    return _finished(runs, output, as_json)


def _watcher(as_json: bool) -> Watcher:
    from facesim.progress import make_watcher

    return make_watcher(console(), quiet=as_json)


def _finished(runs: list[Run], output: Path, as_json: bool) -> int:
    """Report on runs that have ended; the command's exit code."""
    from facesim.runs.states import RunState

    show_report(runs, output / f"report-{time.strftime('%Y%m%d-%H%M%S')}.html", as_json)
    states = {result.state if (result := run.result()) else None for run in runs}
    if RunState.STOPPED in states:
        return INTERRUPTED
    return 0 if states <= {RunState.COMPLETED} else 1  # one without a result could not be followed to its end


def _baselines(jobs: list[Job], output: Path) -> list[Score]:
    """Have the classical methods' scores in the study's output folder."""
    from facesim.baselines import MAX_IMAGES
    from facesim.baselines.record import record_baselines
    from facesim.inputs import prepare_all

    scores: dict[DataSpec, list[Score]] = {}
    too_many: dict[str, None] = {}
    for job, inputs in zip(jobs, prepare_all(jobs, lambda *_: None), strict=True):
        data, spec = inputs.data, job.experiment.data_spec
        if len(data.labels) > MAX_IMAGES:
            too_many[f"{data.name} has {len(data.labels):,} images"] = None
        elif spec not in scores:
            scores[spec] = record_baselines(data, job.experiment.model_dump(), [spec.seed], output)
    for told in too_many:
        echo(f"no classical baselines: {told}, and they take too long on more than {MAX_IMAGES:,}", err=True)
    return [score for own in scores.values() for score in own]


def _print_dry_run(jobs: list[Job], output: Path) -> int:
    from facesim.inputs import prepare_all
    from facesim.leakage import check_unseen
    from facesim.runs.directory import Run
    from facesim.study import cost_estimate, preflight, render_jobs

    inputs = prepare_all(jobs, lambda *_: None)
    notices = [*preflight(jobs, inputs, output), *check_unseen(jobs, inputs)]
    rendered = render_jobs(jobs, output, inputs)
    shown = [
        {
            "run_directory": str(directory),
            "job": job.model_dump(),
            "data": str(own.data.directory),
            "request": json.loads(request.to_json()),
            "files": Run.files(),
        }
        for own, (job, directory, request) in zip(inputs, rendered, strict=True)
    ]
    told: dict[str, Any] = {"runs": shown, "notices": notices}
    if estimate := cost_estimate(rendered):
        told["estimate"] = estimate
    echo_json(told)
    return 0


def show_report(runs: list[Run], html: Path, as_json: bool) -> None:
    """Write the runs' report to `html` and print its table."""
    from facesim.report import compare, print_report, to_json, write_report

    try:
        comparison, full = write_report(runs, html), None
    except DiskFull as error:  # what there is to say can be shown nevertheless
        comparison, full = compare(runs), error
    if as_json:
        results = [result and result.model_dump(mode="json") for run in runs for result in [_result(run)]]
        file = None if full else str(html)
        echo_json({"report": file, "results": results, "comparison": to_json(comparison)})
    else:
        with writing():
            print_report(comparison, console())
        if not full:
            echo(f"\nreport: {html}")
    if full:
        raise full


def _result(run: Run) -> Result | None:
    """A run's result, if it has one that can be read; why not is in the comparison's warnings."""
    try:
        return run.result()
    except InputError:
        return None


@command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="HTML file"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines in place of the table")
def report(runs: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Make the report again from run directories alone: RUNS are run directories, or folders of them."""
    from facesim.runs.directory import find_runs

    show_report(find_runs(list(runs)), output, as_json)


@command()
@click.argument("source", metavar="DATA")
@click.option(
    "--seeds", type=click.IntRange(1, MAX_SEEDS), default=1, show_default=True, help="splits, with seeds 0, 1, ..."
)
@job_options(only=("image_size", "held_out", "min_images", "image_feature", "label_feature", "subset"))
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="folder that keeps the scores as baselines.json")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def baselines(source: str, seeds: int, output: Path, as_json: bool, **options: Any) -> None:
    """Recognise with classical methods: the bar that a network has to pass on DATA (as --data of compare)."""
    from facesim.baselines import BASELINES, means
    from facesim.spec.job import make_job

    table = means(_baselines([make_job(data=source, seed=seed, **options) for seed in range(seeds)], output))
    if as_json:
        echo_json(table)
        return
    echo(f"{'':12}{'held-out':>10}{'sd':>8}{'balanced':>10}{'seconds':>10}")
    for name, score in table.items():
        spread = "" if score["accuracy_sd"] is None else f"{100 * score['accuracy_sd']:.1f} %"
        accuracy, balanced = 100 * score["accuracy"], 100 * score["balanced_accuracy"]
        figures = f"{accuracy:8.1f} %{spread:>8}{balanced:8.1f} %{score['seconds']:10.2f}"
        echo(f"{name:12}{figures}  {BASELINES[name].summary}")
    for name in BASELINES.keys() - table.keys():
        echo(f"{name:12}  left out: it needs more than one training image of somebody")

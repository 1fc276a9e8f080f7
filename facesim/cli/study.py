"""Commands that train and compare: `compare`, `run`, `report`, `baselines`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.backends import BACKENDS
from facesim.cli.aws import AWS_OPTIONS
from facesim.cli.output import console, echo, echo_json, writing
from facesim.cli.parsing import Choice, command, read_config
from facesim.errors import InputError
from facesim.models import HEADS, MODELS
from facesim.recipes import RECIPES
from facesim.training import STRATEGIES

if TYPE_CHECKING:
    from facesim.baselines import Score
    from facesim.job import Job
    from facesim.runs.directory import Run
    from facesim.runs.records import Result
    from facesim.study import Watcher

INTERRUPTED = 130

#: More runs of one thing are a slip of the finger.
MAX_SEEDS = 1000


def _job_options(default_strategies: list[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that describe jobs. What is left out is `facesim.job`'s default."""
    file = click.Path(path_type=Path)
    options = [
        click.option("--backend", type=Choice(list(BACKENDS)), default="local", show_default=True,
                     help="where to run"),
        click.option("--data", help="rendered (default), olivetti, lfw, or a folder, .npz, .csv, .rec or .tfrecord"),
        click.option("--subset", multiple=True,
                     help="identities=N,images=M, or one of them: a part of the data, chosen by the seed, each larger"
                          " one containing the smaller; repeatable, for a learning curve"),
        click.option("--strategy", type=Choice(list(STRATEGIES)), multiple=True, default=default_strategies,
                     show_default=True, help="how replicas train together; repeatable"),
        click.option("--recipe", type=Choice(list(RECIPES)),
                     help="defaults of model, head, optimiser, ... (facesim recipes)  [default: paper]"),
        click.option("--model", type=Choice(list(MODELS)), help="network (facesim models)  [default: paper-cnn]"),
        click.option("--head", type=Choice(list(HEADS)), help="from features to logits  [default: softmax]"),
        click.option("--pretrained", metavar="RUN",
                     help="start from the network of this run, or .keras file, all but its head"),
        click.option("--margin", type=float, help="cosface: cosine, arcface: radians  [default: 0.2]"),
        click.option("--margin-scale", type=float, help="what cosines are multiplied with  [default: 30]"),
        click.option("--label-smoothing", type=float, help="share of the truth spread over everybody  [default: 0]"),
        click.option("--workers", type=int, help="workers of a distributed strategy  [default: 2]"),
        click.option("--ps", type=int, help="parameter servers  [default: 1]"),
        click.option("--backup-workers", type=int, help="ps-sync: workers that may come too late  [default: 0]"),
        click.option("--steps-per-dispatch", type=int, help="ps-async: steps handed to a worker at once  [default: 1]"),
        click.option("--local-steps", type=int, help="local-sgd: steps between averagings  [default: 8]"),
        click.option("--threads", type=int, help="threads of a task for one operation  [default: a fair share]"),
        click.option("--epochs", type=int, help="times that every training example is seen  [default: 50]"),
        click.option("--batch", type=int, help="examples in one update  [default: 32]"),
        click.option("--learning-rate", type=float, help="Adam's learning rate  [default: 0.0001]"),
        click.option("--schedule", type=Choice(["constant", "cosine"]), help="of the rate  [default: constant]"),
        click.option("--warmup", type=float, help="share of updates in which a cosine rate rises  [default: 0.05]"),
        click.option("--weight-decay", type=float, help="AdamW's weight decay; 0 is Adam  [default: 0]"),
        click.option("--clip-norm", type=float, help="bound of the whole gradient's norm  [default: none]"),
        click.option("--augment/--no-augment", default=None, help="alter training images at random  [default: no]"),
        click.option("--mirror-test/--no-mirror-test", default=None,
                     help="test on each image and its mirror image, averaged  [default: no]"),
        click.option("--scale-lr", type=Choice(["none", "linear", "sqrt"]),
                     help="with the workers of an update, --batch being each one's  [default: none]"),
        click.option("--warmup-epochs", type=int, help="epochs until a scaled rate is reached  [default: 5]"),
        click.option("--precision", type=Choice(["float32", "bfloat16"]), help="compute in  [default: float32]"),
        click.option("--cache", type=Choice(["memory", "disk", "none"]),
                     help="where decoded images are kept; none: image files are decoded as read  [default: memory]"),
        click.option("--image-size", type=int, help="height and width in pixels  [default: 64]"),
        click.option("--held-out", type=float, help="share of an identity's images kept for testing  [default: 0.2]"),
        click.option("--max-bad-files", type=float, help="share of files that may be unreadable  [default: 0.05]"),
        click.option("--min-images", type=int, help="leave out identities with fewer images  [default: none; lfw: 15]"),
        click.option("--image-feature", help="what TFRecord files call the image  [default: the usual names]"),
        click.option("--label-feature", help="what TFRecord files call the identity  [default: the usual names]"),
        click.option("--evaluate-every", type=int, help="epochs between evaluations  [default: 1]"),
        click.option("--seeds", type=click.IntRange(1, MAX_SEEDS), default=1, show_default=True,
                     help="runs of each strategy, with seeds 0, 1, ...; an accuracy statement needs 3"),
        click.option("--instance-type", help="SageMaker instance whose price is used  [default: ml.m5.2xlarge]"),
        *AWS_OPTIONS,
        click.option("--spot/--no-spot", default=None,
                     help="play managed spot training; any option below that begins with --spot asks for it, too"),
        click.option("--spot-rate", type=float, help="reclaims of a host an hour  [default: a made-up day's trace]"),
        click.option("--spot-lifetimes", metavar="FILE", help="hosts' lifetimes, JSON or CSV, or weibull:SHAPE,HOURS"),
        click.option("--spot-trace", metavar="FILE", help="hosts that come and go: CSV of ms,add|remove,node"),
        click.option("--spot-wait-s", type=float, help="mean wait for capacity after a reclaim  [default: 120]"),
        click.option("--spot-notice-s", type=float, help="notice before a reclaim  [default: 0, none]"),
        click.option("--spot-speed", type=float, help="how much faster capacity's time passes  [default: 1]"),
        click.option("--spot-discount", type=float, help="share of the price that spot saves  [default: assumed 0.57]"),
        click.option("--max-run", type=float, help="seconds for which a run may have its hosts  [default: no limit]"),
        click.option("--max-wait", type=float, help="the same with waiting for spot capacity  [default: no limit]"),
        click.option("--sampling-s", type=float, help="seconds between resource samples  [default: 1]"),
        click.option("--checkpoint-s", type=float, help="seconds between checkpoints, 0 for none  [default: 30]"),
        click.option("--checkpoint-steps", type=int, help="updates between checkpoints, 0 for none  [default: 0]"),
        click.option("--checkpoint-keep", type=int, help="how many of the newest are kept  [default: 2]"),
        click.option("--checkpoint-dir", help="folder for them, one in it a run  [default: in the run directory]"),
        click.option("--max-restarts", type=int, help="of tasks that fail, in all  [default: 3]"),
        click.option("--faults", help="disturb the run: a TOML file of faults, or random:SEED:PER_MINUTE"),
        click.option("--output", type=file, default=Path("runs"), show_default=True,
                     help="folder for run directories and report"),
        click.option("--config", type=file, is_eager=True, expose_value=False, callback=read_config,
                     help="TOML file with any of these options; flags win over it"),
        click.option("--dry-run", is_flag=True, help="print the exact processes, TF_CONFIGs and files; start nothing"),
        click.option("--json", "as_json", is_flag=True, help="print JSON for machines in place of text"),
    ]  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@command()
@_job_options(["single"])
@click.option("--resume", "resumed", metavar="RUN", type=click.Path(path_type=Path),
              help="go on with a run that did not complete; its options stay but for those given")  # fmt: skip
@click.pass_context
def run(ctx: click.Context, resumed: Path | None, **options: Any) -> int:
    """Train with one strategy (or several) and show what came of it."""
    if resumed is None:
        return _study(**options)
    given = {name for name in options if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    return _resume(resumed, {name: options[name] for name in given}, options["as_json"])


def _resume(directory: Path, options: dict[str, Any], as_json: bool) -> int:
    from facesim.faults import read_faults
    from facesim.runs.directory import Run
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


@command()
@_job_options(["single", "ps-async"])
@click.option("--baselines/--no-baselines", default=True, show_default=True,
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
    from facesim.faults import read_faults
    from facesim.job import make_job

    options["faults"] = read_faults(options["faults"]) if options["faults"] else ()
    jobs = [
        make_job(strategy=name, subset=part, seed=seed, **options)
        for seed in range(seeds)
        for part in dict.fromkeys(subset or [None])
        for name in dict.fromkeys(strategy)
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
    states = {result.state for run in runs if (result := run.result())}
    if RunState.STOPPED in states:
        return INTERRUPTED
    return 0 if states <= {RunState.COMPLETED} else 1


def _baselines(jobs: list[Job], output: Path) -> list[Score]:
    """Have the classical methods' scores in the study's output folder."""
    from facesim.baselines import MAX_IMAGES
    from facesim.baselines.record import record_baselines
    from facesim.inputs import prepare_all

    scores: dict[tuple[str | None, int], list[Score]] = {}
    for job, inputs in zip(jobs, prepare_all(jobs, lambda *_: None), strict=True):
        data = inputs.data
        split = (job.experiment.subset, job.experiment.seed)
        if len(data.labels) > MAX_IMAGES:
            echo(f"no classical baselines: they take too long on more than {MAX_IMAGES:,} images", err=True)
            return []
        if split not in scores:
            scores[split] = record_baselines(data, job.experiment.model_dump(), [job.experiment.seed], output)
    return [score for own in scores.values() for score in own]


def _print_dry_run(jobs: list[Job], output: Path) -> int:
    from facesim.inputs import prepare_all
    from facesim.leakage import check_unseen
    from facesim.runs.directory import Run
    from facesim.study import cost_estimate, render_jobs

    inputs = prepare_all(jobs, lambda *_: None)
    check_unseen(jobs, inputs)
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
    told: dict[str, Any] = {"runs": shown}
    if estimate := cost_estimate(rendered):
        told["estimate"] = estimate
    echo_json(told)
    return 0


def show_report(runs: list[Run], html: Path, as_json: bool) -> None:
    """Write the runs' report to `html` and print its table."""
    from facesim.report import print_report, to_json, write_report

    comparison = write_report(runs, html)
    if as_json:
        results = [result and result.model_dump(mode="json") for run in runs for result in [_result(run)]]
        echo_json({"report": str(html), "results": results, "comparison": to_json(comparison)})
    else:
        with writing():
            print_report(comparison, console())
        echo(f"\nreport: {html}")


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
@click.option("--image-size", type=int, help="height and width in pixels  [default: 64]")
@click.option("--held-out", type=float, help="share of each identity's images kept for testing  [default: 0.2]")
@click.option("--min-images", type=int, help="leave out identities with fewer images  [default: none; lfw: 15]")
@click.option("--image-feature", help="what TFRecord files call the image  [default: the usual names]")
@click.option("--label-feature", help="what TFRecord files call the identity  [default: the usual names]")
@click.option("--subset", help="identities=N,images=M, or one of them: a part of the data, chosen by the seed")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="folder that keeps the scores as baselines.json")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def baselines(source: str, seeds: int, output: Path, as_json: bool, **options: Any) -> None:
    """Recognise with classical methods: the bar that a network has to pass on DATA (as --data of compare)."""
    from facesim.baselines import BASELINES, means
    from facesim.job import make_job

    table = means(_baselines([make_job(data=source, seed=seed, **options) for seed in range(seeds)], output))
    if as_json:
        echo_json(table)
        return
    echo(f"{'':12}{'held-out':>10}{'sd':>8}{'balanced':>10}{'seconds':>10}")
    for name, own in table.items():
        spread = "" if own["accuracy_sd"] is None else f"{100 * own['accuracy_sd']:.1f} %"
        figures = (
            f"{100 * own['accuracy']:8.1f} %{spread:>8}{100 * own['balanced_accuracy']:8.1f} %{own['seconds']:10.2f}"
        )
        echo(f"{name:12}{figures}  {BASELINES[name].summary}")
    for name in BASELINES.keys() - table.keys():
        echo(f"{name:12}  left out: it needs more than one training image of somebody")

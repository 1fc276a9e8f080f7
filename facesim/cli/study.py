"""Commands that train and compare: `compare`, `run`, `report`, `baselines`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import DATA, GroupedCommand, help_all, job_options, own
from facesim.cli.output import console, echo, echo_json, unread, writing
from facesim.cli.parsing import Choice, Choices, command, flattened, read_config
from facesim.spec.strategies import STRATEGIES
from facesim.tracking import TRACKERS
from facesim.util.errors import DiskFull, InputError

if TYPE_CHECKING:
    from facesim.api import Comparison, Run
    from facesim.runs.records import Result
    from facesim.study.observers import Observer

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
            help="simulate managed spot training; any other option that begins with --spot asks for it, too"),
        own("--faults", group="Recovery", common=False,
            help="disturb the run: a TOML file of faults, or random:SEED:PER_MINUTE"),
        own("--output", type=file, default=Path("runs"), show_default=True,
            help="folder for run directories and report"),
        own("--config", type=file, is_eager=True, expose_value=False, callback=read_config,
            help="TOML file with any of these options; flags win over it"),
        own("--dry-run", is_flag=True, help="print the exact processes, TF_CONFIGs and files; start nothing"),
        own("--json", "as_json", is_flag=True, help="print JSON for machines in place of text"),
        own("--json-lines", type=file, metavar="FILE", common=False,
            help="also write to this file what happens as it happens, a JSON object a line"),
        own("--track", type=Choices(list(TRACKERS)), multiple=True, common=False, callback=flattened,
            help="also send what is measured, as it is measured; repeatable, or with commas"),
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
     help="continue a run that did not complete, with its options except for those given")  # fmt: skip
@click.pass_context
def run(ctx: click.Context, resumed: Path | None, **options: Any) -> int:
    """Train with one strategy (or several) and show the result."""
    if resumed is None:
        return _study(**options)
    given = {name for name in options if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    return _resume(resumed, {name: options[name] for name in given}, options["as_json"])


def _resume(directory: Path, options: dict[str, Any], as_json: bool) -> int:
    from facesim import api
    from facesim.runs.directory import Run
    from facesim.spec.faults import read_faults

    for name in ("seeds", "output", "dry_run"):
        if name in options:
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning with --resume, which continues in the run's directory",
                field=name,
            )
    others = (options.get("json_lines"), options.get("track", ()), directory.parent)
    own_options = ("as_json", "faults", "json_lines", "track")
    changes = {name: value for name, value in options.items() if name not in own_options}
    for name in changes.keys() & {"strategy", "subset"}:
        (*_, changes[name]) = changes[name]
    if "faults" in options:
        changes["faults"] = read_faults(options["faults"])
    run = api.Run(Run.open(directory)).resume(observers=observers(as_json, *others), **changes)
    return _finished([run], directory.parent, as_json)


_EXAMPLES = """\b
Examples:
  facesim --data photos/ --seeds 3              your own images; three seeds for a statement about accuracy
  facesim --workers 4 --ps 2 --epochs 20        another cluster
  facesim --strategy single --strategy allreduce --recipe modern
  facesim --data photos/ --subset images=5 --subset all   a learning curve
  facesim --config study.toml --dry-run         what would run; start nothing
  facesim --backend sagemaker --data photos/ --max-run 3600 --max-cost 5
"""


@click.command(cls=GroupedCommand, epilog=_EXAMPLES)
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
    faults: str | None,
    output: Path,
    dry_run: bool,
    as_json: bool,
    json_lines: Path | None,
    track: tuple[str, ...] = (),
    baselines: bool = False,
    **options: Any,
) -> int:
    from facesim import api
    from facesim.runs.states import RunState

    study = api.Study(options, {"subset": subset or [None], "strategy": strategy}, seeds, faults or ())
    if dry_run:
        echo_json(study.dry_run(output))
        return 0
    runs = study.train(output, observers=observers(as_json, json_lines, track, output))
    if baselines and not any(run.state == RunState.STOPPED for run in runs):
        for text in study.baselines(output)[1]:
            echo(text, err=True)
    return _finished(runs, output, as_json)


def observers(
    as_json: bool, json_lines: Path | None = None, track: Sequence[str] = (), output: Path = Path("runs")
) -> list[Observer]:
    """What shows how a study goes: on a terminal, or wherever text is printed, in a file for machines, and in trackers,
    which keep what they keep here in `output`.
    """
    from facesim.study.observers import JsonLines
    from facesim.study.progress import display

    others: list[Observer] = [JsonLines(json_lines)] if json_lines else []
    if track:
        from facesim.tracking.observer import Tracking

        others += [Tracking(name, output) for name in track]
    return [*([] if as_json else [display(console())]), *others]


def _finished(runs: list[Run], output: Path, as_json: bool) -> int:
    """Report on runs that have ended; the command's exit code."""
    from facesim import api
    from facesim.runs.states import RunState

    with unread():
        show_report(api.compare(runs), output / f"report-{time.strftime('%Y%m%d-%H%M%S')}.html", as_json)
    states = {run.state for run in runs}
    if RunState.STOPPED in states:
        return INTERRUPTED
    return 0 if states <= {RunState.COMPLETED.value} else 1  # one without a result could not be followed to its end


def show_report(comparison: Comparison, html: Path, as_json: bool) -> None:
    """Write the report to `html` and print its table."""
    from facesim.report import print_report

    full = None
    try:
        comparison.write(html)
    except DiskFull as error:  # what there is to say can be shown nevertheless
        full = error
    if as_json:
        results = [result and result.model_dump(mode="json") for run in comparison for result in [_result(run)]]
        file = None if full else str(html)
        echo_json({"report": file, "results": results, "comparison": comparison.to_json()})
    else:
        with writing():
            print_report(comparison.report, console())
        if not full:
            echo(f"\nreport: {html}")
    if full:
        raise full


def _result(run: Run) -> Result | None:
    """A run's result, if it has one that can be read; why not is in the comparison's warnings."""
    try:
        return run.result
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
    from facesim import api

    show_report(api.compare(runs), output, as_json)


@command()
@click.argument("source", metavar="DATA")
@click.option(
    "--seeds", type=click.IntRange(1, MAX_SEEDS), default=1, show_default=True, help="splits, with seeds 0, 1, ..."
)
@job_options(only=(*DATA, "subset"))
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="folder that keeps the scores as baselines.json")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
def baselines(source: str, seeds: int, output: Path, as_json: bool, **options: Any) -> None:
    """Recognise with classical methods: the bar that a network has to pass on DATA (as --data of compare)."""
    from facesim import api
    from facesim.baselines import BASELINES, means

    scores, left_out = api.Study({"data": source, **options}, seeds=seeds).baselines(output)
    for text in left_out:
        echo(text, err=True)
    table = means(scores)
    if as_json:
        echo_json(table)
        return
    echo(f"{'':12}{'held-out':>10}{'sd':>8}{'balanced':>10}{'seconds':>10}")
    for name, score in table.items():
        spread = "" if score["accuracy_sd"] is None else f"{100 * score['accuracy_sd']:.1f} %"
        accuracy, balanced = 100 * score["accuracy"], 100 * score["balanced_accuracy"]
        figures = f"{accuracy:8.1f} %{spread:>8}{balanced:8.1f} %{score['seconds']:10.2f}"
        echo(f"{name:12}{figures}  {BASELINES[name].summary}")
    for name in [name for name, _ in BASELINES.available() if name not in table]:
        echo(f"{name:12}  left out: it needs more than one training image of somebody")

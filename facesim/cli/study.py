"""Commands that train and compare: `compare`, `run`, `report`, `baselines`."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.options import DATA, GroupedCommand, command_option, help_all, job_options, one_or_several
from facesim.cli.output import console, echo, echo_json, unread, writing
from facesim.cli.parsing import (
    Choice,
    Choices,
    FilePath,
    Flag,
    Number,
    Values,
    command,
    flattened,
    listed,
    read_config,
)
from facesim.spec.backends import BACKENDS
from facesim.spec.options import flag
from facesim.spec.strategies import STRATEGIES
from facesim.spec.study import COMPARED, varies
from facesim.tracking import TRACKERS
from facesim.util.errors import DiskFull, FacesimError, InputError
from facesim.util.folders import RUNS

if TYPE_CHECKING:
    from facesim.api import Comparison, Run
    from facesim.runs.records import Result
    from facesim.study.observers import Observer

INTERRUPTED = 130

#: More runs of one thing are a slip of the finger.
MAX_SEEDS = 1000


class Seeds(Values):
    """How many seeds, `3`, or which, `0,4,7`; `4,` is seed 4 alone."""

    def __init__(self) -> None:
        super().__init__(click.IntRange(1, MAX_SEEDS))
        self.items = click.IntRange(0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        several = isinstance(value, (list, tuple)) or (isinstance(value, str) and "," in value)
        value = value.removesuffix(",") if isinstance(value, str) else value
        return list(map(int, listed(value, self.items, param, ctx))) if several else super().convert(value, param, ctx)


def study_options(
    default_strategies: list[str], config: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of commands that run studies. What is left out is the job's default."""
    file = FilePath()
    options = [
        command_option("--strategy", type=Values(Choice(list(STRATEGIES))), multiple=True, default=default_strategies,
            show_default=True, group="Training", callback=one_or_several,
            help="how replicas train together; repeatable"),
        job_options(without=("strategy", "seed"), lists=True),
        command_option("--seeds", type=Seeds(), default=1, show_default=True, group="Training",
            help="runs of each strategy, with seeds 0, 1, ..., or with these: 3,5,7; `4,` is seed 4 alone; an accuracy "
                 "statement needs 3"),
        command_option("--spot/--no-spot", default=None, type=Flag(), group="Cost and spot",
            help="simulate managed spot training; any other option that begins with --spot asks for it, too"),
        command_option("--faults", group="Recovery", common=False,
            help="disturb the run: a TOML file of faults, or random:SEED:PER_MINUTE"),
        command_option("--output", type=file, default=RUNS, show_default=True,
            help="folder for run directories and report"),
        command_option(
            "--parallel", type=click.IntRange(1, 64), default=1, show_default=True, group="Cluster", common=False,
            help="jobs that run at the same time; on this machine each on CPUs of its own, and its times are marked"),
        command_option("--again", is_flag=True, common=False,
            help="run every job of a study again, also those that have completed in --output"),
        *([command_option("--config", type=file, is_eager=True, expose_value=False, callback=read_config,
               help="TOML file with any of these options; flags win over it")] if config else []),
        command_option("--dry-run", is_flag=True,
            help="print the exact processes, TF_CONFIGs and files; start nothing"),
        command_option("--json", "as_json", is_flag=True, help="print JSON for machines in place of text"),
        command_option("--json-lines", type=file, metavar="FILE", common=False,
            help="also write to this file what happens as it happens, a JSON object a line"),
        command_option("--track", type=Choices(list(TRACKERS)), multiple=True, common=False, callback=flattened,
            help="also send what is measured, as it is measured; repeatable, or with commas"),
        help_all(),
    ]  # fmt: skip

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


baselines_option = command_option("--baselines/--no-baselines", default=True, show_default=True,
    help="also recognise with classical methods, the bar for any network")  # fmt: skip


@click.command(cls=GroupedCommand)
@study_options(["single"])
@command_option("--resume", "resumed", metavar="RUN", type=FilePath(), group="Recovery",
     help="continue a run that did not complete, with its options except for those given")  # fmt: skip
@click.pass_context
def run(ctx: click.Context, resumed: Path | None, **options: Any) -> int:
    """Train with one strategy (or several) and show the result."""
    if resumed is None:
        return run_study(resumable=False, **options)
    given = {name for name in options if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT}
    return _resume(resumed, {name: options[name] for name in given}, options["as_json"])


def _resume(directory: Path, options: dict[str, Any], as_json: bool) -> int:
    from facesim import api
    from facesim.runs.directory import Run
    from facesim.study.observers import Interrupted

    for name in ("seeds", "output", "dry_run", "parallel", "again"):
        if name in options:
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning with --resume, which continues in the run's directory",
                field=name,
            )
    observed = (options.get("json_lines"), options.get("track", ()), directory.parent)
    not_of_the_run = ("as_json", "json_lines", "track")
    changes = {name: value for name, value in options.items() if name not in not_of_the_run}
    for name, value in changes.items():
        if varies(name, value):
            raise InputError(
                f"{flag(name)} has several values, and the run that continues has one: give one", field=name
            )
    interrupted = Interrupted()
    run = api.Run(Run.open(directory)).resume(observers=[*observers(as_json, *observed), interrupted], **changes)
    return _finished([run], directory.parent, as_json, interrupted.heard)


_EXAMPLES = """\b
Examples:
  facesim --data photos/ --seeds 3              your own images; three seeds for a statement about accuracy
  facesim --workers 4 --ps 2 --epochs 20        another cluster
  facesim --strategy single,allreduce --recipe modern
  facesim --strategy ps-async --workers 1,2,4 --learning-rate 1e-3,2e-3   every combination
  facesim --data photos/ --subset images=5 --subset all   a learning curve
  facesim --config study.toml --dry-run         what would run; start nothing
  facesim --backend sagemaker --data photos/ --max-run 3600 --max-cost 5
"""


@click.command(cls=GroupedCommand, epilog=_EXAMPLES)
@study_options(list(COMPARED))
@baselines_option
def compare(**options: Any) -> int:
    """Train with several strategies, the same examples for each, and compare time, accuracy, resources and cost."""
    return run_study(**options)


def _show(planned: dict[str, Any], as_json: bool) -> None:
    """Print what would run: in the form of another tool where all of it has one, else as JSON."""
    backends = [BACKENDS[run["job"]["backend"]["name"]]().open() for run in planned["runs"]]
    manifests = [backend.manifest(run["request"]) for backend, run in zip(backends, planned["runs"], strict=True)]
    texts = [text for text in manifests if text is not None]
    if as_json or not texts or len(texts) < len(manifests):
        echo_json(planned)
        return
    echo("---\n".join(texts))
    for notice in planned["notices"]:
        echo(notice, err=True)


def run_study(
    *,
    seeds: int | list[int],
    faults: str | None,
    output: Path,
    dry_run: bool,
    as_json: bool,
    json_lines: Path | None,
    parallel: int,
    again: bool,
    track: tuple[str, ...] = (),
    baselines: bool = False,
    resumable: bool = True,
    name: str = "study",
    about: dict[str, Any] | None = None,
    **options: Any,
) -> int:
    """Run the study of these options and report on it; the command's exit code.

    One that is `resumable`, as every study of several jobs is, leaves a file from which it continues, and continues
    where it was begun before; with `again` it is begun now. `name` and `about` are what its file is called and says of
    it.
    """
    from cluster import clock
    from facesim import api
    from facesim.runs.states import RunState
    from facesim.study.interrupts import sigterm_as_ctrl_c
    from facesim.study.observers import Interrupted

    first = {part: options.pop(part) for part in ("subset", "strategy")}  # these vary slowest
    study = api.Study(seeds=seeds, faults=faults or (), **first, **options)
    resumable = resumable or len(study) > 1
    since_unix_s = clock.time_unix_s() if again else (about or {}).get("since_unix_s")
    reused: dict[str, Any] = {"reuse": resumable, "since_unix_s": since_unix_s}
    if dry_run:
        _show(study.dry_run(output, **reused), as_json)
        return 0
    extra_settings = {
        "baselines": baselines, "parallel": parallel if parallel > 1 else None, "track": list(track) or None,
        "json_lines": json_lines and os.path.abspath(json_lines), **(about or {}), "since_unix_s": since_unix_s,
    }  # fmt: skip
    writer = study.keeping(output, name, **extra_settings) if resumable else None
    interrupted = Interrupted()
    listeners = [*observers(as_json, json_lines, track, output), *([writer] if writer else []), interrupted]

    def continue_command() -> str | None:
        return f"facesim study run {shlex.quote(str(writer.file))}" if writer and writer.file else None

    try:
        with sigterm_as_ctrl_c():
            runs = study.train(output, observers=listeners, parallel=parallel, **reused)
            if baselines and not interrupted.heard and not any(run.state == RunState.STOPPED for run in runs):
                for text in study.baselines(output)[1]:
                    echo(text, err=True)
    except (FacesimError, KeyboardInterrupt):
        if command := continue_command():
            echo(f"to continue: {command}", err=True)
        raise
    return _finished(runs, output, as_json, interrupted.heard, len(study), continue_command(), about)


def observers(
    as_json: bool, json_lines: Path | None = None, track: Sequence[str] = (), output: Path = Path("runs")
) -> list[Observer]:
    """What shows how a study goes: on a terminal, or wherever text is printed, in a file for machines, and in trackers,
    which keep their local files in `output`. Where standard output is for machines, standard error has the notices.
    """
    from facesim.study.observers import JsonLines
    from facesim.study.progress import Notices, display

    others: list[Observer] = [JsonLines(json_lines)] if json_lines else []
    if track:
        from facesim.tracking.observer import Tracking

        others += [Tracking(name, output) for name in track]
    return [Notices(console(stderr=True)) if as_json else display(console()), *others]


def _finished(
    runs: list[Run],
    output: Path,
    as_json: bool,
    interrupted: bool,
    jobs: int = 1,
    continue_command: str | None = None,
    about: dict[str, Any] | None = None,
) -> int:
    """Report on the runs of so many jobs that have ended, perhaps because the user `interrupted` the command; its exit
    code. The report ends with the `continue_command` for what did not complete.
    """
    from facesim import api
    from facesim.runs.states import RunState

    page = output / f"report-{time.strftime('%Y%m%d-%H%M%S')}.html"
    states = {run.state for run in runs}
    complete = len(runs) == jobs and states <= {RunState.COMPLETED.value}  # one without a result was lost sight of
    if not complete and continue_command is None and runs:
        continue_command = resuming(runs[0].directory)
    continued = None if complete else continue_command
    with reporting([run.directory for run in runs], page, continued):
        comparison = api.compare(runs)
        if about and "published" in about:
            from facesim.report.published import Published

            comparison.report = replace(comparison.report, published=Published.read(about["published"], "the study"))
        with unread():
            show_report(comparison, page, as_json, continued)
    if interrupted or RunState.STOPPED in states:
        return INTERRUPTED
    return 0 if complete else 1


@contextmanager
def reporting(runs: Sequence[Path], page: Path, continue_command: str | None = None) -> Iterator[None]:
    """While it is reported on runs that have ended: where Ctrl-C or SIGTERM ends that, what is kept is said, and the
    commands for the rest.
    """
    from facesim.study.interrupts import sigterm_as_ctrl_c

    with sigterm_as_ctrl_c():
        try:
            yield
        except KeyboardInterrupt:
            command = shlex.join(["facesim", "report", *map(str, runs), "--output", str(page)])
            echo(f"the runs are kept, their report may not be: {command}", err=True)
            if continue_command:
                echo(f"to continue: {continue_command}", err=True)
            raise


def resuming(directory: Path) -> str:
    """The command that continues a run."""
    return f"facesim run --resume {shlex.quote(str(directory))}"


def show_report(comparison: Comparison, html: Path, as_json: bool, continue_command: str | None = None) -> None:
    """Write the report to `html` and print its table, and the `continue_command` for what did not complete."""
    from facesim.report import print_report

    full = None
    try:
        comparison.write(html)
    except DiskFull as error:  # what there is to say can be shown nevertheless
        full = error
    if as_json:
        results = [result and result.model_dump(mode="json") for run in comparison for result in [_result(run)]]
        file = None if full else str(html)
        continued = {"continue": continue_command} if continue_command else {}
        echo_json({"report": file, "results": results, "comparison": comparison.to_json(), **continued})
    else:
        with writing():
            print_report(comparison.report, console())
        if not full:
            echo(f"\nreport: {html}")
        if continue_command:
            echo(f"to continue: {continue_command}")
    if full:
        raise full


def _result(run: Run) -> Result | None:
    """A run's result, if it has one that can be read; why not is in the comparison's warnings."""
    try:
        return run.result
    except InputError:
        return None


@command()
@click.argument("runs", nargs=-1, required=True, type=FilePath())
@click.option("--output", type=FilePath(), default=Path("report.html"), show_default=True, help="HTML file")
@click.option("--target-accuracy", metavar="SHARE",
              help="of time-to-accuracy, 0.9 or 90 %  [default: 95 % of the lowest mean final accuracy]")  # fmt: skip
@click.option("--margin-points", type=Number(0, 100, min_open=True), default=1.0, show_default=True,
              help="percentage points: accuracies closer than this count as the same")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print JSON for machines in place of the table")
@click.option("--open", "in_browser", is_flag=True, help="show the file in the browser")
def report(
    runs: tuple[Path, ...],
    output: Path,
    target_accuracy: str | None,
    margin_points: float,
    as_json: bool,
    in_browser: bool,
) -> None:
    """Make the report again from run directories alone: RUNS are run directories, or folders of them."""
    from facesim import api
    from facesim.planning.quantities import share

    target = None if target_accuracy is None else share(target_accuracy, "--target-accuracy")
    show_report(api.compare(runs, target, margin_points / 100), output, as_json)
    if in_browser and click.launch(str(output.resolve())) != 0:
        echo(f"no browser could be started: open {output} yourself", err=True)


@command()
@click.argument("source", metavar="DATA")
@click.option(
    "--seeds", type=click.IntRange(1, MAX_SEEDS), default=1, show_default=True, help="splits, with seeds 0, 1, ..."
)
@job_options(only=(*DATA, "subset"))
@click.option("--output", type=FilePath(), default=RUNS, show_default=True,
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
    if table:
        echo(f"{'':12}{'held-out':>10}{'sd':>8}{'balanced':>10}{'seconds':>10}")
    for name, score in table.items():
        spread = "" if score["accuracy_sd"] is None else f"{100 * score['accuracy_sd']:.1f} %"
        accuracy, balanced = 100 * score["accuracy"], 100 * score["balanced_accuracy"]
        figures = f"{accuracy:8.1f} %{spread:>8}{balanced:8.1f} %{score['seconds']:10.2f}"
        echo(f"{name:12}{figures}  {BASELINES[name].summary}")

"""Commands about runs, wherever they are: `list`, `status`, `logs`, `attach`, `cancel`, `export-run`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.output import console, echo, echo_json, writing
from facesim.cli.parsing import Choice, FilePath, command
from facesim.spec.backends import BACKENDS
from facesim.tracking import FORMATS, TRACKERS
from facesim.tuning import TUNING_JOB
from facesim.util.errors import FacesimError, InputError
from facesim.util.folders import RUNS

if TYPE_CHECKING:
    from facesim.backends.base import Status, Target
    from facesim.runs.directory import Run
    from facesim.runs.states import RunState
    from facesim.tuning.sagemaker import Kept

_run = click.argument("named", metavar="RUN")
_region = click.option("--region", help="AWS region  [default: that of the run, or as AWS' own tools are configured]")
_json = click.option("--json", "as_json", is_flag=True, help="print JSON for machines")
tag_option = click.option(
    "--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="only runs with this tag; repeatable: with all of them"
)


def has_tags(tags: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether a run has every one of the tags that are wanted, `KEY` or `KEY=VALUE`."""
    pairs = [one.partition("=") for one in wanted]
    return all(tags.get(key) == value if equals else key in tags for key, equals, value in pairs)


def _options(**given: str | None) -> dict[str, str]:
    return {name: value for name, value in given.items() if value is not None}


@contextmanager
def _asking(named: str, region: str | None) -> Iterator[Target]:
    """The run that a user names, while its backend is asked about it."""
    from facesim.backends.targets import find_target, in_words

    target = find_target(named, _options(region=region))
    try:
        yield target
    except FacesimError as error:
        raise in_words(target, error) from None


@command(name="list")
@click.argument("folder", type=FilePath(), required=False)
@click.option("--backend", type=Choice(list(BACKENDS)),
              help="only runs of this one; sagemaker and kubernetes without FOLDER: those that AWS, or the cluster, "
              "has a list of")  # fmt: skip
@tag_option
@click.option("--studies", is_flag=True, help="the studies that were begun in FOLDER, in place of runs")
@_region
@click.option("--namespace", help="of a Kubernetes cluster  [default: default]")
@click.option("--kube-context", help="of the kubeconfig file  [default: the current one]")
@_json
def list_(
    folder: Path | None,
    backend: str | None,
    tags: tuple[str, ...],
    studies: bool,
    region: str | None,
    namespace: str | None,
    kube_context: str | None,
    as_json: bool,
) -> None:
    """Show the runs in and below FOLDER (runs), its studies, the training jobs at AWS, or the jobs in a cluster."""
    from facesim.backends.targets import runs_of

    if studies:
        from facesim.cli.stored import list_studies

        if backend or tags or region or namespace or kube_context:
            raise click.UsageError(
                "--studies has no meaning with --backend, --tag, --region, --namespace or --kube-context: leave these "
                "out"
            )
        return list_studies(folder or RUNS, as_json)
    if folder is None and backend is not None and BACKENDS[backend].can_attach:
        if tags and not BACKENDS[backend].lists_tags:
            raise click.UsageError(
                f"--tag has no meaning with --backend {backend}, whose list says no tags of jobs: leave it out, or "
                "name a folder of runs"
            )
        where = _options(region=region, namespace=namespace, kube_context=kube_context)
        return _list_of(backend, where, as_json, tags)
    if region is not None:
        raise click.UsageError("--region is of the list that AWS has: give --backend sagemaker, too, and no FOLDER")
    if namespace is not None or kube_context is not None:
        raise click.UsageError(
            "--namespace and --kube-context are of the list that a cluster has: give --backend kubernetes, too, and no "
            "FOLDER"
        )
    folder = folder or RUNS
    statuses, damaged = runs_of(folder, backend)
    tagged = _tagged(statuses, tags)
    _show_list(tagged, f"no runs in {folder}{_with(tags)}", as_json)
    for run_status in tagged if not as_json else ():  # JSON has all notes
        if run_status.running is None:  # which costs where it goes on
            for note in run_status.notes:
                echo(f"note: {note}", err=True)
    for text in damaged:
        echo(f"left out: {text}", err=True)


def _tagged(statuses: Iterable[Status], tags: tuple[str, ...]) -> list[Status]:
    return [run_status for run_status in statuses if has_tags(run_status.tags, tags)]


def _with(tags: tuple[str, ...]) -> str:
    return f" with {' '.join(tags)}" if tags else ""


def _list_of(backend: str, options: dict[str, str], as_json: bool, tags: tuple[str, ...] = ()) -> None:
    """Show the runs that a backend itself has a list of, those with all of the tags."""
    from facesim.backends.targets import with_options

    spec = with_options(BACKENDS[backend](), options)
    _show_list(_tagged(spec.open().jobs(spec), tags), f"no runs of facesim's at {backend}{_with(tags)}", as_json)


def _show_list(statuses: list[Status], nothing: str, as_json: bool) -> None:
    if as_json:
        echo_json([run_status.facts() for run_status in statuses])
    elif statuses:
        _print_table(statuses)
    else:
        echo(nothing)


def _print_table(statuses: list[Status]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("run", "strategy", "backend", "state", "accuracy", "time", "began", "tags"):
        table.add_column(heading, justify="right" if heading in ("accuracy", "time") else "left", no_wrap=True)
    for run_status in statuses:
        cells = (
            run_status.name,
            run_status.strategy or "",
            run_status.backend,
            _state(run_status),
            "" if run_status.held_out_accuracy is None else f"{run_status.held_out_accuracy:.3f}",
            _duration(run_status.total_s),
            _moment(run_status.began_unix_s),
            " ".join(f"{key}={value}" for key, value in run_status.tags.items()),
        )
        table.add_row(*map(Text, cells))  # as they are: brackets would be markup
    with writing():
        shown = console()
        if not shown.is_terminal:
            shown.width = 10_000  # nothing is cut off where there is no edge
        shown.print(table, soft_wrap=True)


def _state(run_status: Status) -> str:
    if run_status.measurement == "forecast":
        return "forecast"
    return f"{run_status.state} (running)" if run_status.running else run_status.state


@command()
@click.argument("named", metavar="[RUN]", required=False)
@_region
@_json
def status(named: str | None, region: str | None, as_json: bool) -> None:
    """Show the state of a run, how far it is and which process runs it.

    RUN is a run directory, or the name of a training job at AWS; without it, the newest of facesim's jobs there.
    """
    if named is None:
        return _list_of("sagemaker", _options(region=region), as_json)
    with _asking(named, region) as target:
        run_status = target.backend.open().status(target)
    if as_json:
        echo_json(run_status.facts())
        return
    who = f", run by {run_status.process}" if run_status.process else ""
    echo(f"{run_status.name}: {run_status.state}{who}")
    seed = None if run_status.seed is None else f"seed {run_status.seed}"
    echo("  " + ", ".join(part for part in (run_status.strategy, run_status.backend, seed) if part))
    if figures := _figures(run_status):
        echo(f"  {figures}")
    for name, begin, end in run_status.spans:
        lasted = "    running" if end is None else f"{end - begin:8.0f} s"
        echo(f"  {time.strftime('%H:%M:%S', time.localtime(begin))} {name:20}{lasted}")
    for note in run_status.notes:
        echo(f"  {note}")


def _figures(run_status: Status) -> str:
    """How far it is, in words."""
    tested = f"{run_status.tested_in_words} " if run_status.tested_in_words else ""
    parts = [f"epoch {run_status.epoch}/{run_status.epochs}"] if run_status.epochs is not None else []
    for value, form in (
        (run_status.images_per_s, "{:.0f} images/s"),
        (run_status.loss, "loss {:.3f}"),
        (run_status.held_out_accuracy, f"{tested}accuracy {{:.3f}}"),
        (run_status.left_s, "{:.0f} s left"),
    ):
        if value is not None:
            parts.append(form.format(value))
    if run_status.total_s is not None:
        duration = _duration(run_status.total_s)
        parts.append(f"{duration} so far" if run_status.running else f"{duration} in all")
    return ", ".join(parts)


@command()
@_run
@click.option("--task", "--host", "source", metavar="NAME", help="only of this task, worker-0, or host, algo-2")
@click.option("--follow", is_flag=True, help="continue until the run has ended")
@_region
@_json
def logs(named: str, source: str | None, follow: bool, region: str | None, as_json: bool) -> None:
    """Print what the tasks, or hosts, of a run printed.

    RUN is a run directory, or the name of a training job at AWS. With --json each line is a JSON object.
    """
    with _asking(named, region) as target:
        for line in target.backend.open().logs(target, source, follow):
            if as_json:
                when = {} if line.time_unix_s is None else {"time_unix_s": line.time_unix_s}
                echo(json.dumps({**when, "source": line.source, "line": line.text}))
            else:
                echo(f"{line.source}  {line.text}")


@command()
@_run
@click.option(
    "--output",
    type=FilePath(),
    default=RUNS,
    show_default=True,
    help="folder for the run directory, if RUN is the name of a training job; of the study, if it is one's",
)
@_region
@_json
def attach(named: str, output: Path, region: str | None, as_json: bool) -> int:
    """Follow a run that another command started, to its end, and report on it.

    RUN is a run directory, or the name of a training job at AWS, whose results are then downloaded; or a folder of
    runs: all of them that have not ended are followed, one after another; or the folder of a search by SageMaker's
    tuner; or a study, by its file or its name (facesim list --studies): what was submitted is followed, what did not
    complete continues, and the rest is run. Ctrl-C ends the following of a run on this machine; elsewhere it does what
    --on-interrupt of the run says.
    """
    from facesim import api
    from facesim.cli.stored import find_study
    from facesim.cli.studies import run as study_run
    from facesim.cli.study import reporting, resuming, show_report

    study = find_study(named, output)
    kept = None if study else _tuning_job(named)
    if region is not None and (study or kept):
        raise click.UsageError(
            f"--region has no meaning with {named}, {'a study' if study else 'a search'}, whose options say where its "
            "jobs run: leave it out"
        )
    if study:
        return study_run.main([str(study.file), *(["--json"] if as_json else [])], standalone_mode=False)
    if kept:
        from facesim.api import Tuning
        from facesim.cli.study import observers
        from facesim.cli.tune import show_tuning
        from facesim.tuning.findings import find

        return show_tuning(Tuning(find(kept.search, Path(named), observers(as_json))), Path(named), as_json)
    if runs := _runs_in(Path(named)):
        return _attach_all(Path(named), runs, region, as_json)
    run, state = _attach(named, output, region, as_json)
    continue_command = None if _exit_code([state]) == 0 else resuming(run.directory)
    page = run.directory / "report.html"
    with reporting([run.directory], page, continue_command):
        show_report(api.compare(api.Run(run)), page, as_json, continue_command)
    return _exit_code([state])


def _tuning_job(named: str) -> Kept | None:
    """The tuning job of a folder that a search by SageMaker's tuner was begun in."""
    if not os.path.isfile(Path(named) / TUNING_JOB):
        return None
    from facesim.tuning.sagemaker import kept_in

    return kept_in(Path(named))


def _attach(named: str, output: Path, region: str | None, as_json: bool) -> tuple[Run, RunState]:
    from facesim.cli.study import observers
    from facesim.study.runner import attach as follow

    with _asking(named, region) as target:
        attached = target.backend.open().attach(target, output)
        return attached.run, follow(attached, observers(as_json)).state


def _runs_in(folder: Path) -> list[Run]:
    """The runs of a folder that is no run directory itself."""
    from facesim.runs.directory import find_runs

    try:
        if not folder.is_dir() or (folder / "job.json").exists():
            return []
        return find_runs([folder])
    except (InputError, OSError):  # it holds none, or cannot be looked at: said where a run is looked for
        return []


def _attach_all(folder: Path, runs: Iterable[Run], region: str | None, as_json: bool) -> int:
    """Follow every run of a folder that has not ended; then report on all of its runs."""
    from facesim import api
    from facesim.backends.base import LeftRunning
    from facesim.cli.study import reporting, show_report
    from facesim.runs.states import RunState

    states = []
    for run in runs:
        try:
            result = run.result()
            states.append(result.state if result else _attach(str(run.directory), folder, region, as_json)[1])
        except LeftRunning:
            raise
        except FacesimError as error:  # the others can be followed nevertheless
            states.append(RunState.FAILED)
            echo(f"{run.id} cannot be followed: {error}", err=True)
    page = folder / "report.html"
    with reporting([folder], page):
        show_report(api.compare(folder), page, as_json)
    return _exit_code(states)


def _exit_code(states: Iterable[RunState]) -> int:
    from facesim.cli.study import INTERRUPTED
    from facesim.runs.states import RunState

    ended = set(states)
    return INTERRUPTED if RunState.STOPPED in ended else 0 if ended <= {RunState.COMPLETED} else 1


@command()
@_run
@_region
@_json
def cancel(named: str, region: str | None, as_json: bool) -> None:
    """Save and end a run, as Ctrl-C does where it runs, which ends its study, too. Harmless when repeated.

    RUN is a run directory, or the name of a training job at AWS, which may save and upload for two minutes more; or the
    folder of a search by SageMaker's tuner, or the name of its tuning job.
    """
    from facesim.runs.states import RunState

    if kept := _tuning_job(named):
        named, region = kept.name, region or kept.region
    with _asking(named, region) as target:
        cancelled = target.backend.open().cancel(target)
    facts: dict[str, Any] = {"name": cancelled.name, "state": cancelled.state, "ended_before": cancelled.ended}
    if as_json:
        echo_json(facts)
    else:
        state = f"had ended already ({cancelled.state})" if cancelled.ended else cancelled.state.lower()
        echo(f"{cancelled.name}: {state}")
        if target.run is not None and not cancelled.ended and cancelled.state != RunState.COMPLETED:
            from facesim.cli.study import resuming

            echo(f"to continue: {resuming(target.run.directory)}", err=True)


@command(name="export-run")
@click.argument("runs", nargs=-1, required=True, type=FilePath())
@click.option("--to", required=True, type=Choice([*TRACKERS, *FORMATS]), help="tracker, or format of a file")
@click.option("--output", type=FilePath(),
              help="folder in which a tracker keeps runs, or the file  [default: runs, or runs.csv, ...]")  # fmt: skip
@_json
def export_run(runs: tuple[Path, ...], to: str, output: Path | None, as_json: bool) -> None:
    """Send runs to a tracker, as --track does while they go on, or write them to a file.

    RUNS are run directories, or folders of them. csv and parquet have a row a sample; perfetto is a time line for
    ui.perfetto.dev.
    """
    from facesim.runs.directory import find_runs
    from facesim.tracking import export_runs

    exported = find_runs(list(runs))
    place = export_runs(exported, to, output or Path(f"runs{FORMATS[to].suffix if to in FORMATS else ''}"))
    if as_json:
        echo_json({"runs": [run.id for run in exported], "to": to, "place": place})
    else:
        echo(f"{len(exported)} run{'s' * (len(exported) > 1)} to {to}: {place}")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _moment(unix_s: float | None) -> str:
    return "" if unix_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))


COMMANDS: list[Any] = [list_, status, logs, attach, cancel, export_run]

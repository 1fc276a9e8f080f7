"""Commands about stored runs and studies: `show`, `diff`, `rm`, and the list of studies."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facesim.cli.output import agreed, echo, echo_json
from facesim.cli.parsing import FilePath, command
from facesim.cli.runs import has_tags, tag_option
from facesim.util.errors import InputError, doing
from facesim.util.folders import RUNS
from facesim.util.words import count_text

if TYPE_CHECKING:
    from facesim.runs.directory import Run
    from facesim.study.study_file import StudyFile

_FOLDER = click.option("--in", "folder", type=FilePath(), default=RUNS, show_default=True,
                       help="folder of runs, in which studies are looked for by their names")  # fmt: skip
_JSON = click.option("--json", "as_json", is_flag=True, help="print JSON for machines")

#: What `show` and `diff` tell of a result, in this order.
_FACTS = (
    "state", "failure", "measurement", "held_out_accuracy", "training_accuracy", "training_s", "total_s",
    "images_per_s", "updates", "examples_seen", "wire_bytes", "parameters",
)  # fmt: skip


def list_studies(folder: Path, as_json: bool) -> None:
    """Show the studies that were begun in a folder of runs."""
    from facesim.study.study_file import open_study_file, study_files

    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name one that holds runs")
    studies, damaged = [], []
    for file in study_files(folder):
        try:
            study = open_study_file(file)
            facts = {"name": study.name, "file": str(file), "jobs": len(study.jobs), "states": _states(study)}
            studies.append(facts)
        except InputError as error:
            damaged.append(f"{file}: {error}")
    if as_json:
        echo_json(studies)
    else:
        for facts in studies:
            echo(f"{facts['name']}: {count_text(facts['jobs'], 'job')}, {_in_words(facts['states'])}")
        if not studies:
            echo(f"no studies in {folder}")
    for text in damaged:
        echo(f"left out: {text}", err=True)


def _states(study: StudyFile) -> dict[str, int]:
    states: dict[str, int] = {}
    for _, run, result in study.runs():
        state = "not begun" if run is None else "Unfinished" if result is None else str(result.state)
        states[state] = states.get(state, 0) + 1
    return states


def _in_words(states: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in states.items())


@command()
@click.argument("named", metavar="RUN|STUDY")
@_FOLDER
@_JSON
def show(named: str, folder: Path, as_json: bool) -> None:
    """Show a run, its options where they are not the default and what came of it; or a study and its jobs."""
    study_file = find_study(named, folder)
    if study_file is None:
        content = _facts(_run(named))
    else:
        content = {
            "study": study_file.name,
            "settings": dict(study_file.settings),
            "jobs": {
                name: None if run is None else {"directory": str(run.directory), **_result(run)}
                for name, run, _ in study_file.runs()
            },
            "continue": f"facesim study run {shlex.quote(str(study_file.file))}",
        }
    if as_json:
        echo_json(content)
    else:
        _print(content)


def _print(content: Mapping[str, Any], indent: str = "") -> None:
    for name, value in content.items():
        if isinstance(value, dict) and value:
            echo(f"{indent}{name}:")
            _print(value, indent + "  ")
        elif value is not None:
            echo(f"{indent}{name}: {value}")
        else:
            echo(f"{indent}{name}: –")


@command()
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="RUN")
@_JSON
def diff(first: str, second: str, as_json: bool) -> None:
    """Show what differs between two runs: options, then what came of them."""
    first_facts, second_facts = (_facts(_run(named), whole=True) for named in (first, second))
    differences = {}
    for part in ("options", "result"):
        names = dict.fromkeys([*first_facts[part], *second_facts[part]])
        pairs = {name: [first_facts[part].get(name), second_facts[part].get(name)] for name in names}
        differences[part] = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    measurements = [facts["result"].get("measurement") for facts in (first_facts, second_facts)]
    if as_json:
        echo_json({"runs": [first_facts["run"], second_facts["run"]], "measurement": measurements, **differences})
        return
    if measurements[0] and measurements[0] == measurements[1]:
        echo(f"numbers are {measurements[0]}")
    width = max((len(name) for part in differences.values() for name in part), default=0)
    for part, differing in differences.items():
        echo(f"{part}:" + ("" if differing else " the same"))
        for name, (first_value, second_value) in differing.items():
            echo(f"  {name:{width}}  {_word(first_value)} | {_word(second_value)}")


def _word(value: Any) -> str:
    return "–" if value is None else str(value)


@command()
@click.argument("named", nargs=-1, metavar="[RUN|STUDY]...")
@_FOLDER
@tag_option
@click.option("--yes", is_flag=True, help="remove without asking")
def rm(named: tuple[str, ...], folder: Path, tags: tuple[str, ...], yes: bool) -> None:
    """Remove runs, or studies with all their runs; or every run of the folder --in with a --tag.

    What is being run, or may be elsewhere, is not removed. A run that belongs to another study, too, is removed
    nevertheless.
    """
    if bool(named) == bool(tags):
        raise click.UsageError("name what is to be removed, or give --tag")
    runs: dict[Path, Run] = {}
    files: list[Path] = []
    for name in named:
        study_file = find_study(name, folder)
        chosen = [_run(name)] if study_file is None else study_file.all_runs(_left_alone)
        runs |= {run.directory.resolve(): run for run in chosen}
        files += [study_file.file] if study_file else []
    if tags:
        runs |= {run.directory.resolve(): run for run in _tagged(folder, tags)}
    for run in runs.values():
        _check_removable(run)
    if not runs and not files:
        echo("there is nothing to remove")
        return
    names = [*(str(run.directory) for run in runs.values()), *map(str, files)]
    if not yes and not agreed(f"remove {len(names)}: {', '.join(names)}?"):
        raise InputError("nothing was removed; give --yes to remove without being asked")
    for run in runs.values():
        left = _left_elsewhere(run)
        with doing(f"remove {run.directory}", "remove it by hand, or as the user who ran it"):
            shutil.rmtree(run.directory)
        echo(f"removed {run.directory}" + (f"; {left}" if left else ""))
    for file in files:
        file.unlink(missing_ok=True)
        echo(f"removed {file}")


def _left_alone(error: InputError) -> None:
    echo(f"left alone: {error}", err=True)


def _check_removable(run: Run) -> None:
    """Raise InputError where something else than a run that has ended would be lost."""
    from facesim.runs.directory import find_runs

    if (look := run.claim.look()).held:
        raise InputError(f"{run.directory} is being run by {look.names()}; cancel it first (facesim cancel)")
    if not any(folder.is_dir() for folder in (run.metrics, run.logs, run.tasks)):
        raise InputError(f"{run.directory} has a job.json and nothing else of a run; remove it by hand")
    if len(inside := find_runs([run.directory])) > 1:
        raise InputError(
            f"{run.directory} holds {count_text(len(inside) - 1, 'other run')}, such as {inside[1].id}; name the inner "
            "runs first"
        )
    if elsewhere := _place_of(run):
        raise InputError(
            f"{run.directory} has no result, and may still be run, and billed, at {elsewhere}: cancel it first "
            f"(facesim cancel), or see what it does (facesim status)"
        )


def _place_of(run: Run) -> str | None:
    """The backend that may still run it; None where there is none."""
    from facesim.backends.targets import may_go_on_at

    try:
        return may_go_on_at(run)
    except InputError:  # damaged: this is how one gets rid of it
        return None


def _left_elsewhere(run: Run) -> str | None:
    """What of a run is not in its directory, in words: it stays."""
    try:
        job = run.job()
    except InputError:
        return None
    checkpoints = run.checkpoint_directory(job).resolve()
    if os.path.isdir(checkpoints) and not checkpoints.is_relative_to(run.directory.resolve()):
        return f"its checkpoints are still in {checkpoints}"
    return f"what it left at {job.backend.name} is still there" if job.backend.can_attach else None


def _tagged(folder: Path, tags: tuple[str, ...]) -> list[Run]:
    """The runs in a folder with all of the tags; what cannot be read is told and left alone."""
    from facesim.runs.directory import find_runs

    tagged = []
    for run in find_runs([folder]):
        try:
            if has_tags(run.job().backend.tags, tags):
                tagged.append(run)
        except InputError as error:
            _left_alone(error)
    return tagged


def find_study(named: str, folder: Path) -> StudyFile | None:
    """The study that is named; None where it is a run, or nothing is called so."""
    from facesim.study.study_file import find_study_file

    try:
        return None if (Path(named) / "job.json").exists() else find_study_file(named, folder)
    except OSError:  # nothing is called so
        return None


def _run(named: str) -> Run:
    from facesim.runs.directory import Run

    return Run.open(Path(named))


def _facts(run: Run, whole: bool = False) -> dict[str, Any]:
    """A run as data: its options, `whole` or without those that are the default, and what came of it."""
    from facesim.report.settings import faults_in_words
    from facesim.spec.job import flat, options

    job, table = run.job(), options()
    given = {name: value for name, value in flat(job).items() if value is not None}
    always = ("strategy", "backend")
    shown = {name: value for name, value in given.items() if whole or name in always or value != table[name].default}
    if job.spot is not None:
        shown["spot"] = True
    if job.faults:
        shown["faults"] = faults_in_words(fault.model_dump(exclude_defaults=True) for fault in job.faults)
    return {"run": run.id, "directory": str(run.directory), "options": shown, "result": _result(run)}


def _result(run: Run) -> dict[str, Any]:
    result = run.result()
    if result is None:
        return {"state": "Unfinished"}
    facts = {name: getattr(result, name) for name in _FACTS} | {"trained_together": result.sync_audit.verdict}
    facts["state"] = str(result.state)
    return {name: value for name, value in facts.items() if value is not None}


COMMANDS: list[Any] = [show, diff, rm]

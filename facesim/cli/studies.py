"""Commands about studies that are described by a file: `study run`, `study page`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from facesim.cli.options import GroupedCommand
from facesim.cli.output import echo
from facesim.cli.parsing import FilePath, group, read_config
from facesim.cli.study import baselines_option, run_study, study_options
from facesim.spec.study import COMPARED, OF_THE_FILE
from facesim.util.errors import InputError
from facesim.util.files import read_toml
from facesim.util.folders import local_path

_FILE = FilePath()


@group()
def study() -> None:
    """Run a study that a file describes, continue it, and write its page."""


@study.command("run", cls=GroupedCommand)
@click.argument("file", type=_FILE, is_eager=True, callback=read_config)
@study_options(list(COMPARED), config=False)
@baselines_option
def run(file: Path, **options: Any) -> int:
    """Run the study that FILE describes: a TOML file of options, lists where they vary; options given here win over it.

    What has completed before in --output is not run again, and what began continues. FILE may also be what facesim
    keeps of a study that it began, in the folder `studies` of --output.
    """
    from facesim.study.study_file import kept_in

    named = click.get_current_context().get_parameter_source("output")
    if (kept := kept_in(file)) and named is click.core.ParameterSource.DEFAULT_MAP:
        options["output"] = kept  # its runs are there, wherever this is called from
    return run_study(name=_name(file), about=_about(file), **options)


@study.command("page")
@click.argument("file", type=_FILE)
@click.option("--data", metavar="DATA", help="that the study was run on, in place of the file's: its --data")
@click.option("--output", type=_FILE, metavar="FILE", help="Markdown file  [default: docs/studies/NAME.md]")
@click.option("--in", "folder", type=_FILE, help="folder of the study's runs  [default: the study's --output]")
@click.option("--with", "beside", type=_FILE, multiple=True, help="runs, or forecasts, to show beside; repeatable")
def page(file: Path, data: str | None, output: Path | None, folder: Path | None, beside: tuple[Path, ...]) -> None:
    """Write the page of the study that FILE describes: a table, the verdict and pictures, from its runs alone.

    FILE is what `facesim study run` was given, or what facesim keeps of the study.
    """
    from facesim import api
    from facesim.report.page import write_page
    from facesim.report.published import Published
    from facesim.study.study_file import StudyFile, kept_in

    settings, about, name = read_toml(file, "the study"), _about(file), _name(file)
    command, title = ["facesim", "study", "run", str(file)], about.get("title", name)
    if data is not None:
        settings = {**settings, "data": data}
        name, title = f"{name}-{Path(data).stem}", f"{title}: {Path(data).stem}"
        command += ["--data", data]
    of_the_file = StudyFile(file, Path(), settings).text("output") or "runs"
    runs = folder or kept_in(file) or local_path(of_the_file)
    study_file = StudyFile(file, runs, settings)
    damaged: list[str] = []
    runs_of_jobs = study_file.runs(lambda error: damaged.append(f"left out: {error}"))
    ended = [run for _, run, result in runs_of_jobs if result is not None and run is not None]
    for text in damaged:
        echo(text, err=True)
    if not ended:
        raise InputError(
            f"no run of {file} has ended in {runs}: run it ({shlex.join(command)}), or name its runs' --in"
        )
    comparison = api.compare([*(run.directory for run in ended), *beside]).report
    if "published" in about:
        comparison = replace(comparison, published=Published.read(about["published"], str(file)))
    files = write_page(
        comparison,
        output or Path("docs/studies") / f"{name}.md",
        title=title,
        about=about.get("about", ""),
        command=shlex.join(command),
    )
    left = len(study_file.jobs) - len(ended)
    if left:
        echo(f"{left} of {len(study_file.jobs)} jobs have no run that ended, and are not in it", err=True)
    for written in files:
        echo(str(written))


def _about(file: Path) -> dict[str, Any]:
    """What a study's file says of itself."""
    from facesim.study.study_file import begun_unix_s

    content = read_toml(file, "the study")
    begun_unix_s(file, content)  # what is wrong with it is said before anything is run
    about = {name: content[name] for name in OF_THE_FILE if name in content}
    for name in ("title", "about"):
        if not isinstance(about.get(name, ""), str):
            raise InputError(f"{file}: {name} has to be a text")
    if "published" in about:
        from facesim.report.published import Published

        Published.read(about["published"], str(file))
    return about


def _name(file: Path) -> str:
    """What a study is called: as its file; what facesim keeps has the start of a digest behind it."""
    name, dash, digest = file.stem.rpartition("-")
    has_digest = file.suffix == ".json" and dash and len(digest) == 8
    return name if has_digest else file.stem

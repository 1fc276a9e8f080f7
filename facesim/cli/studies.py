"""Commands about studies that are described by a file: `study run`, `study page`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facesim.cli.options import GroupedCommand
from facesim.cli.parsing import OF_THE_FILE, group, read_config
from facesim.cli.study import baselines_option, run_study, study_options
from facesim.util.files import read_toml

_FILE = click.Path(path_type=Path)


@group()
def study() -> None:
    """Run a study that a file describes, go on with it, and write its page."""


@study.command("run", cls=GroupedCommand)
@click.argument("file", type=_FILE, is_eager=True, callback=read_config)
@study_options(["single", "ps-async"], config=False)
@baselines_option
def run(file: Path, **options: Any) -> int:
    """Run the study that FILE describes: a TOML file of options, lists where they vary; options given here win over it.

    What has completed before in --output is not run again, and what began goes on. FILE may also be what facesim
    keeps of a study that it began, in the folder `studies` of --output.
    """
    return run_study(name=_name(file), about=_about(file), **options)


def _about(file: Path) -> dict[str, Any]:
    """What a study's file says of itself."""
    content = read_toml(file, "the study")
    return {name: content[name] for name in OF_THE_FILE if name in content}


def _name(file: Path) -> str:
    """What a study is called: as its file; what facesim keeps has the start of a digest behind it."""
    name, dash, digest = file.stem.rpartition("-")
    kept = file.suffix == ".json" and dash and len(digest) == 8
    return name if kept else file.stem

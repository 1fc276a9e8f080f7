"""The command that watches a training script of the user's own: `audit`."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import click

from facesim.cli.output import echo
from facesim.cli.parsing import FilePath, command


@command(context_settings={"allow_interspersed_args": False})
@click.argument("script", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND...")
@click.option("--output", type=FilePath(), help="folder for the report  [default: audit-TIME]")
def audit(script: tuple[str, ...], output: Path | None) -> int:
    """Run a training script of your own, whatever it is written with, and say whether its processes trained together.

    \b
    facesim audit -- torchrun --nproc-per-node 2 train.py
    facesim audit -- mpirun -n 4 python train.py

    It sees which processes there are, their CPU time and the bytes that go between them. With two lines in the script,
    facesim.audit.step(examples=indices) after every step and facesim.audit.parameters(model) at the end, it also knows
    whether they divided the data and ended with the same parameters.

    The exit code is the command's; where that is 0, it is 1 if the processes trained apart. Ctrl-C ends the command and
    all that it started; the report is then of what was seen until then.
    """
    from facesim.audit.page import write
    from facesim.audit.verdict import APART, judge
    from facesim.audit.watch import watch
    from facesim.util.disk import probe
    from facesim.util.errors import InputError, doing

    if shutil.which(script[0]) is None:
        raise InputError(f"there is no command {script[0]} that may be run; give one as in a shell, after --")
    folder = output or Path(time.strftime("audit-%Y%m%d-%H%M%S"))
    with doing(f"write {folder}", "choose another folder with --output"):
        folder.mkdir(parents=True, exist_ok=True)
        probe(folder, 0)
    with tempfile.TemporaryDirectory(prefix="facesim-audit-") as reports:
        watched = watch(script, Path(reports))
    judgement = judge(watched.ranks(), failure=watched.failure)
    if watched.failure:
        echo(f"{watched.failure}.")
    echo(
        click.style(
            f"trained together? {judgement.verdict}", fg="red" if judgement.verdict == APART else None, bold=True
        )
    )
    for sentence in judgement.evidence:
        echo(f"- {sentence}")
    with doing(f"write {folder}", "choose another folder with --output"):  # what was found is shown already
        page = write(script, watched, judgement, folder)
    echo(f"report: {page}")
    if watched.exit_code < 0:  # ended by a signal: as a shell has it
        return 128 - watched.exit_code
    return watched.exit_code or int(judgement.verdict == APART)

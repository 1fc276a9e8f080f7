"""The command line. It imports little, so that `--help` is instant: what a command needs is imported when it runs."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from facesim import __version__
from facesim.cli import (
    about,
    audit,
    aws,
    completion,
    data,
    export_job,
    forecast,
    image,
    plan,
    pretrain,
    prices,
    profile,
    recognition,
    reference,
    replay,
    runs,
    stored,
    studies,
    study,
    tune,
)
from facesim.cli.output import OutputError, complain, complain_of_usage, degrade, in_colour, settle
from facesim.cli.parsing import Group
from facesim.util.errors import FacesimError, InputError, reason

#: Of an error that nobody foresaw so many characters are shown; all of it is kept.
_LONGEST = 300


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    degrade()
    args = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            return _run(args)
        finally:
            settle()  # what goes wrong in printing shows here at the latest
    except click.ClickException as error:
        complain_of_usage(error)
        return error.exit_code
    except OutputError as error:
        if not error.closed:
            complain(str(error))
        return error.exit_code
    except FacesimError as error:
        complain(error.on_command_line if isinstance(error, InputError) else str(error))
        return error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        return _last(error, args)


def _run(args: list[str]) -> int:
    # Not click's own main: it takes the end of an input for an interrupt, and looks for a request of a shell under
    # another name where the command is `python -m facesim`.
    if completion.VARIABLE in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(facesim, {}, "facesim", completion.VARIABLE, os.environ[completion.VARIABLE])
    try:
        with facesim.make_context("facesim", args, color=in_colour()) as ctx:
            return facesim.invoke(ctx) or 0
    except click.exceptions.Exit as end:
        return end.exit_code


def _last(error: BaseException, args: list[str]) -> int:
    """Of what nothing has turned into an error in words: say what there is to say, and where the rest is."""
    if any(isinstance(one, (KeyboardInterrupt, click.Abort)) for one in _chain(error)):
        complain("interrupted", "yellow")
        return study.INTERRUPTED
    command = " ".join(_command(args)) or "compare"
    what = f"{command} ended unexpectedly: {type(error).__name__}: {_first_line(reason(error))}"
    if isinstance(error, EOFError):
        what = f"{command} wanted to read an answer, or a file, that ended before it was complete: {reason(error)}"
    elif isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename is not None else ""
        what = f"{command} was refused something by the system: {reason(error)}{place}"
    elif isinstance(error, MemoryError):
        what = f"{command} needs more memory than there is"
    try:
        details = f"details are in {_keep(error, command)}, to report or to look into"
    except OSError as other:
        details = f"details could not be written: {reason(other)}"
    complain(f"{what}; {details}")
    return 1


def _first_line(text: str) -> str:
    """The first line of a library's message, which may go on with whole arrays."""
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those during whose handling it came."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _command(args: list[str]) -> list[str]:
    """The names of the command and its groups that `args` begin with, without what the user gave them."""
    names: list[str] = []
    place: click.Command | None = facesim
    for word in args:
        place = place.commands.get(word) if isinstance(place, click.Group) else None
        if place is None:
            break
        names.append(word)
    return names


def _keep(error: BaseException, command: str) -> Path:
    """Write the traceback to a file of its own that nobody else can read, and return where it is."""
    from facesim.util.folders import state_folder

    folder = state_folder() / "errors"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    text = "".join(
        [f"facesim {command}, version {__version__}, Python {sys.version}\n\n", *traceback.format_exception(error)]
    )
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(text.encode("utf-8", "backslashreplace"))
    return file


class _CompareByDefault(Group):
    """A group whose options alone mean the command `compare`, and whose help shows its commands in sections."""

    sections: dict[str, tuple[click.Command, ...]]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        alone = not args and not ctx.resilient_parsing  # a shell that completes the first word wants a command
        if alone or (args and args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["compare", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        items = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            items += study.compare.shell_complete(click.Context(study.compare, parent=ctx), incomplete)
        return items

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in self.sections.items():
            with formatter.section(title):
                longest = max(len(str(name)) for name in self.commands)
                limit = formatter.width - longest - 6
                formatter.write_dl([(f"{one.name:{longest}}", one.get_short_help_str(limit)) for one in commands])


@click.group(cls=_CompareByDefault, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="facesim")
def facesim() -> None:
    """Train the same face recognition on one machine and on a cluster, and compare both honestly.

    Without a command: `compare`, the study of one process against a parameter-server cluster. `facesim compare --help`
    shows its options.
    """


facesim.sections = {
    "Train and compare": (
        study.compare,
        study.run,
        pretrain.pretrain,
        studies.study,
        tune.tune,
        study.report,
        study.baselines,
        audit.audit,
    ),
    "Forecast": (plan.plan, forecast.forecast, replay.replay, forecast.calibrate, profile.profile),
    "Data": (data.data,),
    "Recognise": (
        recognition.evaluate,
        recognition.verify,
        recognition.identify,
        recognition.sort,
        recognition.embed,
        recognition.export,
        recognition.card,
    ),
    "Runs": (*runs.COMMANDS, *stored.COMMANDS),
    "AWS and containers": (*aws.COMMANDS, image.image, prices.prices, export_job.export_job),
    "What there is": (about.models, about.recipes, about.doctor, reference.reference, completion.completion),
}
for command in (command for commands in facesim.sections.values() for command in commands):
    facesim.add_command(command)

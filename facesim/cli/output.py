"""What commands print, on whatever there is to print on: a terminal, a pipe that closes, a full disk, ASCII alone."""

from __future__ import annotations

import codecs
import errno
import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from facesim.util.errors import FacesimError, reason
from facesim.util.files import json_content
from facesim.util.unused import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console


class OutputError(FacesimError):
    """Standard output takes no more. `closed`: its reader has gone, which is no fault and needs no words."""

    def __init__(self, error: OSError):
        super().__init__(f"cannot write to standard output: {reason(error)}")
        self.closed = error.errno == errno.EPIPE


@contextmanager
def writing() -> Iterator[None]:
    """Within it, what standard output does not take becomes an `OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(error) from None


@contextmanager
def unread() -> Iterator[None]:
    """For what is printed of work that is done: where the reader has gone, the command's exit code stays the work's."""
    try:
        yield
        settle()
    except OutputError as error:
        if not error.closed:
            raise
        _drop()


def echo(text: str = "", *, err: bool = False) -> None:
    """Print a line."""
    with writing():
        click.echo(text, err=err)


def echo_json(content: Any) -> None:
    """Print JSON for machines: as it is, also where text would lose characters; null for what is no finite number."""
    echo(json.dumps(json_content(content), indent=1, default=str))


def agreed(question: str) -> bool:
    """Whether a user at a terminal answers the question, on standard error, with yes; False where nobody can."""
    return sys.stdin is not None and sys.stdin.isatty() and click.confirm(question, default=False, err=True)


def padded(text: str, cells: int) -> str:
    """`text` with blanks behind it until it is so wide on a terminal, where a letter takes one cell, two or none."""
    from rich.cells import cell_len

    return text + " " * (cells - cell_len(text))


def console(stderr: bool = False) -> Console:
    """Standard output, or error, for tables and live displays."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - called where the error is handled; rich itself would end the process here

    return Output(stderr=stderr, emoji=False)  # what is shown is data


def in_colour() -> bool | None:
    """Never, where NO_COLOR says so; None, in a terminal. Rich heeds it by itself, click does not."""
    return False if os.environ.get("NO_COLOR") else None


def complain(text: str, colour: str = "red") -> None:
    """Print a line for the user on standard error, if that takes it."""
    try:
        click.secho(f"facesim: {_on_lines(text)}", fg=colour, err=True, color=in_colour())
    except OSError:
        pass


def _on_lines(text: str) -> str:
    """`text` without what would move a terminal's cursor: names of files, and what they hold, may."""
    return "\n".join(map(printable, text.split("\n")))


def complain_of_usage(error: click.ClickException) -> None:
    """Print what click has to say on standard error, if that takes it."""
    try:
        error.show()
    except OSError:
        pass


#: What stands for characters of facesim's that an output's encoding does not have.
_PLAIN = dict(zip("…×±–—→·’“”≈", ("...", "x", "+-", "-", "-", "->", ".", "'", '"', '"', "~")))


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end


codecs.register_error("facesim-plainly", _plainly)


def degrade() -> None:
    """From now on what the outputs' encodings do not have is written plainly in place of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="facesim-plainly")


def settle() -> None:
    """Write out what is left of the output.

    Raises:
        OutputError: that cannot be written. Then it is dropped, so that the interpreter does not try again at its end.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        _drop()
        raise OutputError(error) from None
    except ValueError:  # closed
        pass


def _drop() -> None:
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # it is no file
        pass

"""The errors that facesim raises on purpose; the command line turns each into an exit code.

A message says what was wrong, the value that was seen, what is allowed and what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class FacesimError(Exception):
    """Base of every error that facesim raises on purpose."""

    exit_code = 1


class InputError(FacesimError):
    """What the user gave cannot be used: an option, a file, a folder of images. Raised before anything starts.

    Attributes:
        field: the option that is wrong, by its name in a job (`learning_rate`); None where it is no option's value.
        value: what was given.
        allowed: what is allowed, in words or as a list of values.
        remedy: what to do about it.
        problems: where several things are wrong, an error for each; the attributes are then those of the first.
        on_command_line: the message with options as the command line has them, `--learning-rate`.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        value: Any = None,
        allowed: str | Sequence[Any] | None = None,
        remedy: str | None = None,
        problems: Sequence[InputError] = (),
        on_command_line: str | None = None,
    ):
        super().__init__(message)
        self.field, self.value, self.allowed, self.remedy = field, value, allowed, remedy
        self.problems: tuple[InputError, ...] = tuple(problems)
        self.on_command_line = message if on_command_line is None else on_command_line

    @classmethod
    def of(cls, problems: Sequence[InputError]) -> InputError:
        """One error for all `problems`, of which there is at least one."""
        first = problems[0]
        return cls(
            "; ".join(map(str, problems)),
            field=first.field,
            value=first.value,
            allowed=first.allowed,
            remedy=first.remedy,
            problems=problems,
        )

    def spelled(self, spell: Callable[[str], str]) -> InputError:
        """The same error with its words as `spell` has them."""
        error = InputError(
            spell(str(self)),
            field=self.field,
            value=self.value,
            allowed=self.allowed,
            remedy=self.remedy and spell(self.remedy),
            problems=[one.spelled(spell) for one in self.problems],
            on_command_line=self.on_command_line,
        )
        return error.with_traceback(self.__traceback__)


class CredentialsError(InputError):
    """There are no credentials, or they are wrong, or have expired: with new ones the same may go well."""


def lacks_credentials(error: InputError) -> bool:
    """Whether it says nothing against what was given: with credentials it may go well."""
    return any(isinstance(one, CredentialsError) for one in (error, *error.problems))


class DiskFull(FacesimError):
    """There is no room for what has to be written; the message names the folder, what is free and what to do."""


class RunFailed(FacesimError):
    """A run started and did not complete; the message carries the cause and the failed task's last lines."""


def reason(error: Exception) -> str:
    """What the system said, in its own words: "No space left on device"."""
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


@contextmanager
def doing(what: str, remedy: str) -> Iterator[None]:
    """Within it, what the system refuses becomes an error that says what was being done, and what to do now.

    Raises:
        FacesimError: `cannot WHAT: REASON; REMEDY`.
    """
    try:
        yield
    except OSError as error:
        raise FacesimError(f"cannot {what}: {reason(error)}; {remedy}") from None


class StillRunning(FacesimError):
    """A run goes on somewhere and is not followed any more; the message says how it can be again."""


class Lost(StillRunning):
    """It cannot be followed any more, which nobody asked for; the message says why."""

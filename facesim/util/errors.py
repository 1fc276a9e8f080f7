"""The errors that facesim raises on purpose; the command line turns each into an exit code.

A message says what was wrong, the value that was seen, what is allowed and what to do about it.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class FacesimError(Exception):
    """Base of every error that facesim raises on purpose."""

    exit_code = 1


class InputError(FacesimError):
    """What the user gave cannot be used: an option, a file, a folder of images. Raised before anything starts."""

    exit_code = 2


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

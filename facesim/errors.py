"""The errors that facesim raises on purpose; the command line turns each into an exit code.

A message says what was wrong, the value that was seen, what is allowed and what to do about it.
"""


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


class StillRunning(FacesimError):
    """A run goes on somewhere and is not followed any more; the message says how it can be again."""


class Lost(StillRunning):
    """It cannot be followed any more, which nobody asked for; the message says why."""

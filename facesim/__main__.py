"""`python -m facesim`, and the command `facesim`.

Before anything else is imported it makes sure that it is facesim that runs, and not a file of the user's that is called
like a module: Python looks for modules in the current folder first. From then on Ctrl-C is answered in one line, also
in the middle of imports.
"""

from __future__ import annotations

import os
import sys

import facesim

TYPE_CHECKING = False  # as type checkers know it: nothing more may be imported yet
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def run() -> int:
    """The command line, in a process of its own; its exit code."""

    def interrupted(*_: object) -> None:
        # Not an exception: one that is raised in the middle of an import may be taken for an import that failed.
        os.write(2, b"facesim: interrupted\n")
        os._exit(130)

    path = sys.path[:]
    sys.path[:] = [os.path.dirname(facesim.__path__[0])]  # `cluster` lies beside facesim
    from cluster import surroundings

    sys.path[:] = surroundings.import_path(path, surroundings.current_folder(), None, surroundings.home())
    import gc  # not before: they may be the user's files
    import signal
    import warnings

    # In a thread, or where somebody ignores the signal, it stays as it is.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, interrupted)
    surroundings.set_environment(surroundings.without_settings(os.environ))
    os.umask(os.umask(0) & 0o077)  # whatever others may not: who makes a file must be able to read it
    warnings.formatwarning = _in_one_line(warnings.formatwarning)
    gc.disable()  # nothing that an import makes is garbage: looking for it takes a tenth of the time of --help
    from facesim.cli import main

    gc.freeze()
    gc.enable()
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


def _in_one_line(formatted: Callable[..., str]) -> Callable[..., str]:
    """How warnings are shown: facesim's own are for users, who need no line of code."""

    def shown(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
        if category.__module__.partition(".")[0] == "facesim":
            return f"facesim: {message}\n"
        return formatted(message, category, *place, **more)

    return shown


if __name__ == "__main__":
    sys.exit(run())

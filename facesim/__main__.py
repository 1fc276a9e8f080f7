"""`python -m facesim`, and the command `facesim`.

Before anything else is imported it makes sure that it is facesim that runs, and not a file of the user's that is called
like a module: Python looks for modules in the current folder first.
"""

import os
import sys

import facesim


def run() -> int:
    """The command line, in a process of its own; its exit code."""
    path = sys.path[:]
    sys.path[:] = [os.path.dirname(facesim.__path__[0])]  # `cluster` lies beside facesim
    from cluster import surroundings

    sys.path[:] = surroundings.import_path(path, surroundings.current_folder(), None, surroundings.home())
    surroundings.set_environment(surroundings.without_settings(os.environ))
    os.umask(os.umask(0) & 0o077)  # whatever others may not: who makes a file must be able to read it
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a terminal that has no "…" is no reason to fail
    from facesim.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())

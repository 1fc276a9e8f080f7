"""The command `facesim`, and `python -m facesim`.

It imports nothing of facesim's before Ctrl-C is answered in one line, however far the imports have come.
"""

import os
import signal
import sys


def main() -> int:
    """Run the command line; the exit code."""

    def interrupted(*_: object) -> None:
        # Not an exception: one that is raised in the middle of an import may be taken for an import that failed.
        os.write(2, b"facesim: interrupted\n")
        os._exit(130)

    # In a thread, or where somebody ignores the signal, it stays as it is.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, interrupted)
    from facesim.cli import main as run

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())

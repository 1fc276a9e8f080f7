"""Prints what tasks print to their logs, as it comes: where only a host's output is kept, it is seen there."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

_EVERY_S = 0.3
_LONGEST_LINE = 65_536


class Relay:
    """A process beside a host's tasks that prints each new line of `directory/*.log` as `NAME| line`.

    Make it before anything else is loaded: it is forked and keeps what there is.
    """

    def __init__(self, directory: Path):
        ending, self._end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._end)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            try:
                _follow(directory, ending)
            except OSError as error:  # nobody reads any more
                print(error, file=sys.stderr)
            os._exit(0)
        os.close(ending)

    def end(self) -> None:
        """Print what is left and wait for it."""
        os.write(self._end, b"x")  # not only close: tasks hold the pipe, too
        os.close(self._end)
        os.waitpid(self._pid, 0)


def _follow(directory: Path, ending: int) -> None:
    read: dict[Path, int] = {}
    while True:
        last = bool(select.select([ending], [], [], _EVERY_S)[0])
        for path in sorted(directory.glob("*.log")):
            with path.open("rb") as file:
                file.seek(read.get(path, 0))
                new = file.read()
            # A line that is still being printed comes next time, unless there is none or it never ends.
            whole = len(new) if last or len(new) > _LONGEST_LINE else new.rfind(b"\n") + 1
            read[path] = read.get(path, 0) + whole
            for line in new[:whole].splitlines():
                os.write(1, path.stem.encode() + b"| " + line + b"\n")
        if last:
            return

"""Passes on what tasks write, as it comes: where only a host's output is kept, and its checkpoints while it runs.

Lines that come to the logs are printed. Other files that grow by whole lines are copied to where they outlive the host.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_EVERY_S = 0.3
_LONGEST_LINE = 65_536


@dataclass(frozen=True)
class Kept:
    """Files of lines, `source/*.jsonl`, of which `target` keeps a copy.

    A copy and not a link: the folders of a host may be on different file systems, where there are no links.
    """

    source: Path
    target: Path

    def restore(self) -> None:
        """Put back what was kept before, so that `source` goes on from there."""
        for file in sorted(self.target.glob("*.jsonl")):
            shutil.copy(file, self.source)

    def update(self) -> None:
        """Append to the copies the whole lines that have come since the last time.

        Raises:
            OSError: the target takes no more.
        """
        for file in sorted(self.source.glob("*.jsonl")):
            copy = self.target / file.name
            with file.open("rb") as lines, copy.open("ab") as output:
                lines.seek(output.tell())
                whole, end, _ = lines.read().rpartition(b"\n")
                output.write(whole + end)


class LogRelay:
    """A process beside a host's tasks that prints each new line of `directory/*.log` as `NAME| line`, and updates
    what is `kept`.

    Make it before anything else is loaded: it is forked and keeps what there is.
    """

    def __init__(self, directory: Path, kept: Kept | None = None):
        ending, self._end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._end)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            try:
                _follow(directory, ending, kept)
            except OSError as error:  # nobody reads any more
                print(error, file=sys.stderr)
            os._exit(0)
        os.close(ending)

    def end(self) -> None:
        """Pass on what is left and wait for it."""
        os.write(self._end, b"x")  # not only close: tasks hold the pipe, too
        os.close(self._end)
        os.waitpid(self._pid, 0)


def _follow(directory: Path, ending: int, kept: Kept | None) -> None:
    read: dict[Path, int] = {}
    failed = ""
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
        if kept:
            try:
                kept.update()
                failed = ""
            except OSError as error:  # its disk is full: perhaps not for long
                if str(error) != failed:
                    failed = str(error)
                    print(
                        f"what was measured cannot be kept for another attempt: {failed}", file=sys.stderr, flush=True
                    )
        if last:
            return

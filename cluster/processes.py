"""Starts a node on this machine and follows it: the local end of the protocol that `cluster.node` speaks."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from cluster.surroundings import python


class LocalNode:
    """A running `cluster.node`.

    The node has a session of its own, so that Ctrl-C on the terminal reaches only whoever started it, who then drains
    it in order. It holds the other end of our pipe: when this process ends, in whatever way, the node and its tasks
    end too.
    """

    def __init__(self, plan_file: Path, log: Path, environment: dict[str, str]):
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                python("cluster.node", str(plan_file.absolute())),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd=plan_file.parent,  # what lies in the user's folder is not for the tasks
                start_new_session=True,
                bufsize=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def events(self, tick_s: float | None = None) -> Iterator[dict[str, Any] | None]:
        """What happens, as it happens, until the node has ended; None each time `tick_s` pass without an event.

        A node that was killed cannot say that it ended: then that is said for it.
        """
        output, rest, last = self._process.stdout, b"", None
        while True:
            if not wait([output], tick_s):
                yield None
                continue
            chunk = os.read(output.fileno(), 65536)
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):  # Python's start-up files may print, too
                    last = json.loads(line)
                    yield last
        code = self._process.wait()
        if last is None or last["event"] != "node_ended":
            yield {"time_unix_s": time.time(), "event": "node_ended", "outcome": "failed", "exit_code": code}

    def stop(self) -> None:
        """Drain: the leader ends its work, then the others end. Returns at once; harmless when repeated or too late."""
        self._say(b"stop\n")

    def kill(self) -> None:
        """End everything at once. Returns at once; harmless when repeated or too late."""
        self._say(b"kill\n")

    def close(self) -> None:
        """End what may still run and wait for it."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            pipe.close()  # type: ignore[union-attr]

    def _say(self, command: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command)
        except (BrokenPipeError, ValueError):
            pass  # the node has ended, or was closed: there is nothing left to tell

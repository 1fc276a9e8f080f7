"""Starts a node on this machine and follows it: the local end of the protocol that `cluster.node` speaks."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil

from cluster import clock
from cluster.forked import ForkedNode, ForkServers
from cluster.lifeline import start_child
from cluster.plan import Plan
from cluster.supervisor import PONG
from cluster.surroundings import python

#: What stands for the node itself where a task is named.
NODE = "node"

#: A node that does not answer is not taken for dead earlier: it may wait for a task's end.
_NODE_HANG_S = 15.0
#: How long it may take to load what is preloaded, on a machine that is busy.
_LOADING_S = 300.0
#: How soon it is seen that nothing is to be waited for any more.
_PAUSE_S = 0.2
#: When this process has not looked for so long, it was stopped itself, or had other things to do.
_AWAY_S = 5.0
#: After a silence of how long a node is asked whether it is there.
_ASK_AFTER_S = 1.0
#: How long a node may take to end at once, and the kernel to end the tasks of one that was killed.
_ENDS_S = 10.0


class LocalNode:
    """A running `cluster.node`.

    The node has a session of its own, so that Ctrl-C on the terminal reaches only the process that started it, which
    then drains it in order. When this process ends, in whatever way, the node and its tasks end too.

    A node that was killed, or that hangs, is started again, with all its tasks, as often as its plan allows restarts.

    Args:
        hold: descriptors that are open in the node and in its tasks for as long as any of them lives.
        fork_servers: where it is forked from, if they have loaded what its plan needs; else it is a new process.
    """

    def __init__(
        self,
        plan_file: Path,
        log: Path,
        environment: dict[str, str],
        hold: Sequence[int] = (),
        fork_servers: ForkServers | None = None,
    ):
        self._plan_file, self._log, self._environment, self._hold = plan_file.absolute(), log, environment, hold
        self._fork_servers = fork_servers or ForkServers()
        self._plan = Plan.read(plan_file)
        self._process: subprocess.Popen[bytes] | ForkedNode
        self._restarts = 0
        self._ending = False  # to stop, or to end
        self._start()

    def _start(self) -> None:
        """Start the node. `_alive` ends when nothing of it lives any more: it and its tasks hold the other end."""
        self._alive, others = os.pipe()
        hold = (others, *self._hold)
        with self._log.open("ab") as errors:
            kind = ({**self._environment, **self._plan.environment}, self._plan.preload)
            self._process = self._fork_servers.fork(*kind, self._plan_file, errors.fileno(), hold) or start_child(
                python("cluster.node", str(self._plan_file), str(os.getpid())),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                cwd=self._plan_file.parent,  # what lies in the user's folder is not for the tasks
                start_new_session=True,
                pass_fds=hold,
                bufsize=0,
            )
        os.close(others)

    @property
    def pid(self) -> int:
        return self._process.pid

    def events(self, tick_s: float | None = None) -> Iterator[dict[str, Any] | None]:
        """What happens, as it happens, until the node has ended; None each time `tick_s` pass without an event.

        A node that was killed cannot say that it ended: then that is said for it.
        """
        done: set[int] = set()  # faults, by their numbers
        while True:
            ended = False
            for event in self._events_of_process(tick_s):
                if event is not None:
                    ended = event["event"] == "node_ended"
                    if event["event"] == "fault":
                        done.add(event["number"])
                yield event
            code = self._process.wait()
            if ended:
                return
            again = code < 0 and not self._ending and self._restarts < self._plan.max_restarts
            if again:
                in_s = self._plan.backoff_s * 2**self._restarts
                self._restarts += 1
                tasks = [task.name for task in self._plan.tasks]
                yield _event("recovering", task=NODE, restart=self._restarts, starting=tasks, in_s=in_s)
                yield from self._pause(in_s, tick_s)
                again = not self._ending
            if not again:
                outcome = "stopped" if self._ending else "failed"
                yield _event("node_ended", outcome=outcome, exit_code=code)
                return
            self._let_go()
            faults = tuple(one for one in self._plan.faults if one.per_minute or one.number not in done)
            self._plan_file.write_text(replace(self._plan, faults=faults).to_json(), encoding="utf-8")
            self._start()
            if self._ending:  # meanwhile: this one has not heard of it
                self.kill()

    def _pause(self, seconds: float, tick_s: float | None) -> Iterator[None]:
        """Wait, unless it is to end; None each `tick_s`."""
        until_s = time.monotonic() + seconds
        while not self._ending and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, tick_s or _PAUSE_S))
            if tick_s is not None:
                yield None

    def _events_of_process(self, tick_s: float | None) -> Iterator[dict[str, Any] | None]:
        """What the node says, until it has ended. One that does not answer is killed."""
        output, rest = self._process.stdout, b""
        assert output is not None
        limit_s = max(_LOADING_S, self._plan.hang_s)
        asked_s: float | None = None
        heard_s = ticked_s = looked_s = time.monotonic()
        while True:
            if time.monotonic() - looked_s > _AWAY_S and asked_s is not None:
                asked_s = time.monotonic()  # this process was stopped, perhaps with the node
            looked_s = time.monotonic()
            left_s = None if tick_s is None else max(0.0, tick_s - (time.monotonic() - ticked_s))
            if wait([output.fileno()], min(_ASK_AFTER_S, _ASK_AFTER_S if left_s is None else left_s)):
                chunk = os.read(output.fileno(), 65536)
                if not chunk:
                    return
                asked_s, heard_s = None, time.monotonic()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if not line.startswith(b"{"):  # Python's start-up files may print, too
                        continue
                    event = json.loads(line)
                    if event["event"] == "task_started":
                        limit_s = max(_NODE_HANG_S, self._plan.hang_s)
                    if event["event"] != PONG:
                        yield event
                        ticked_s = time.monotonic()
                continue
            now_s = time.monotonic()
            if self._plan.hang_s and asked_s is None and now_s - heard_s >= _ASK_AFTER_S:
                asked_s = now_s
                self._say(b"ping\n")
            elif asked_s is not None and now_s - asked_s > limit_s:
                yield _event(
                    "hung", task=NODE, for_s=now_s - heard_s, limit_s=limit_s, silent=True, doing="supervising"
                )
                self._process.kill()
                asked_s = None
            if tick_s is not None and now_s - ticked_s >= tick_s:
                yield None
                ticked_s = time.monotonic()

    def stop(self) -> None:
        """Drain: the leader ends its work, then the others end. Returns at once; harmless when repeated or too late."""
        self._ending = True
        self._say(b"stop\n")
        self._process.terminate()  # says the same, and is heard while it loads what is preloaded

    def kill(self) -> None:
        """End everything at once. Returns at once; harmless when repeated or too late."""
        self._ending = True
        self._say(b"kill\n")
        self._process.terminate()
        if self._stopped():  # it cannot obey
            self._process.kill()

    def close(self) -> None:
        """End what may still run and wait for it."""
        self.kill()
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        """Wait for the end of what the node started, which the kernel ends with it, and close what leads there."""
        if not self._process.stdin.closed:  # type: ignore[union-attr]
            wait([self._alive], _ENDS_S)
            os.close(self._alive)
            for pipe in (self._process.stdin, self._process.stdout):
                pipe.close()  # type: ignore[union-attr]

    def _stopped(self) -> bool:
        try:
            return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return False

    def _say(self, command: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command)
        except (BrokenPipeError, ValueError):
            pass  # the node has ended, or was closed: there is nothing left to tell


def _event(name: str, **details: Any) -> dict[str, Any]:
    return {"time_unix_s": clock.time_unix_s(), "event": name, **details}

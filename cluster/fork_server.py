"""The process that nodes are forked from: `python -m cluster.fork_server CHANNEL PARENT MODULE...`.

It loads the modules, then takes requests for nodes from the socket CHANNEL: the file of a plan, and with it the
descriptors of a link, of the node's input, output and errors, and those that it is to hold. Over the link it sends the
node's pid and, once that has ended, its exit code. Until the link is closed the pid is no other process's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import NoReturn

from cluster import node
from cluster.forked import LOADED
from cluster.lifeline import end_with_parent

#: Descriptors that come with a request, at the most.
_DESCRIPTORS = 16


def main(channel: socket.socket, parent: int, modules: Sequence[str]) -> NoReturn:
    """Load `modules`, then fork the nodes that the process `parent` asks for, until it is gone."""
    end_with_parent(parent)
    with suppress(Exception):  # a node tries again, and says what is wrong in its log
        node.load(modules)
    ended, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pids: dict[socket.socket, int] = {}  # of nodes, by their links
    channel.send(LOADED)
    while True:
        ready = wait([channel, ended, *pids])
        if ended in ready:
            ended.recv(4096)
            for link, pid in pids.items():
                _tell_end(link, pid)
        for link in [each for each in pids if each in ready]:  # it is closed
            pid = pids.pop(link)
            link.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        if channel in ready:
            request, descriptors, *_ = socket.recv_fds(channel, 65536, _DESCRIPTORS)
            if not request:
                os._exit(0)
            link, others = socket.socket(fileno=descriptors[0]), descriptors[1:]
            server = os.getpid()
            pid = os.fork()
            if not pid:
                for each in (channel, ended, wakeup, link, *pids):
                    each.close()
                _become_node(Path(json.loads(request)), others[:3], server)
            for descriptor in others:
                os.close(descriptor)
            pids[link] = pid
            link.send(str(pid).encode())


def _tell_end(link: socket.socket, pid: int) -> None:
    """Send a node's exit code, if it has ended. It stays a zombie until its link is closed."""
    end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if end:
        code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        with suppress(OSError):
            link.send(str(code).encode())


def _become_node(plan_file: Path, standard: Sequence[int], parent: int) -> NoReturn:
    """Be a node, in the process that was forked for it, with `standard` as its input, output and errors."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.setsid()
        os.chdir(plan_file.parent)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    node.run(lambda: node.main(str(plan_file), parent))


if __name__ == "__main__":
    node.prepare()
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), sys.argv[3:])

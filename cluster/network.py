"""Disturbs the network of single tasks, in the private network of a host that runs a whole cluster.

The kernel does it: packets are dropped by rules of `iptables`, and delayed by the queueing discipline `netem`, which
`tc` sets up. All tasks share the network's loopback, so a task's packets are known by the ports of its connections.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import psutil

from cluster.isolation import enter_private_network

#: Each kind of disturbance, and the program that does it.
PROGRAMS = {"partition": "iptables", "loss": "iptables", "delay": "tc"}

_LOOPBACK = "lo"
#: The band of the loopback interface that delays; without a filter packets go to the first three.
_BAND = 4
_PATHS = ("/usr/sbin", "/sbin")


class Disturbance:
    """What is done to the packets of one task, from `begin` to `end`, in the network of this process.

    Args:
        kind: a key of `PROGRAMS`. `partition` drops every packet, `loss` the `share` of them, 0-1, and `delay` holds
            each back for `delay_s` seconds, those that come and those that go.
    """

    def __init__(self, kind: str, share: float = 0.0, delay_s: float = 0.0):
        self._kind, self._share, self._delay_s = kind, share, delay_s
        self._ports: set[int] = set()

    def begin(self) -> None:
        """Prepare the network.

        Raises:
            OSError: the system does not allow it; the message says why.
        """
        if self._kind == "delay":
            bands = ["bands", str(_BAND), "priomap", *"1222120011111111"]
            _run("tc", "qdisc", "add", "dev", _LOOPBACK, "root", "handle", "1:", "prio", *bands)
            held_back = ["netem", "delay", f"{self._delay_s * 1000:.3f}ms", "limit", "100000"]
            _run("tc", "qdisc", "add", "dev", _LOOPBACK, "parent", f"1:{_BAND}", "handle", "40:", *held_back)

    def affect(self, ports: set[int]) -> None:
        """Also disturb what comes from or goes to these TCP ports.

        Raises:
            OSError: the system does not allow it.
        """
        for port in sorted(ports - self._ports):
            for side in ("sport", "dport"):
                if self._kind == "delay":
                    match = ["match", "ip", side, str(port), "0xffff", "flowid", f"1:{_BAND}"]
                    _run("tc", "filter", "add", "dev", _LOOPBACK, "parent", "1:", "protocol", "ip", "u32", *match)
                else:
                    _run("iptables", "-w", "-A", *self._rule(side, port))
            self._ports.add(port)

    def end(self) -> None:
        """Let everything pass again."""
        if self._kind == "delay":
            _run("tc", "qdisc", "del", "dev", _LOOPBACK, "root")
            return
        for port in sorted(self._ports):
            for side in ("sport", "dport"):
                _run("iptables", "-w", "-D", *self._rule(side, port))
        self._ports.clear()

    def _rule(self, side: str, port: int) -> list[str]:
        some = ["-m", "statistic", "--mode", "random", "--probability", f"{self._share:.6f}"]
        chosen = some if self._kind == "loss" else []
        return ["INPUT", "-i", _LOOPBACK, "-p", "tcp", f"--{side}", str(port), *chosen, "-j", "DROP"]


def ports_of(pid: int) -> set[int]:
    """The TCP ports that process `pid` uses: those on which it listens, and its own end's of its connections."""
    try:
        return {one.laddr.port for one in psutil.Process(pid).net_connections("tcp") if one.laddr}
    except psutil.Error:
        return set()


def why_not(kind: str) -> str | None:
    """Why a kind of disturbance is not possible on this system; None if it is. Tries it in a network of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if not enter_private_network():
                raise OSError("the system allows no private network")
            disturbance = Disturbance(kind, share=0.5, delay_s=0.01)
            disturbance.begin()
            disturbance.affect({1})
            disturbance.end()
        except OSError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        why = answer.read().decode()
    os.waitpid(child, 0)
    return why or None


def _run(program: str, *arguments: str) -> None:
    path = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_PATHS)))
    if path is None:
        raise OSError(f"there is no program {program}")
    ended = subprocess.run([path, *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise OSError(f"{program} says: {(ended.stderr or ended.stdout).strip().splitlines()[-1]}")

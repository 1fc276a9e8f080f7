"""Watches a command and all processes that it starts: which train, what CPU they use, what goes between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from facesim.audit import FOLDER
from facesim.audit.verdict import Rank
from facesim.util.errors import InputError, reason

#: What stands for the pid of a process that is none of the command's, such as a rank on another host.
ELSEWHERE = 0

#: Where launchers say which rank a process is: torchrun, Open MPI, MPICH, PMIx, Slurm.
_RANK_VARIABLES = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
#: Tasks of TF_CONFIG that train; a parameter server is a process like others.
_TRAINING_ROLES = {"chief", "master", "worker"}
#: How an address of IPv4 begins at an end of a connection that takes both kinds.
_V4_IN_V6 = "::ffff:"


@dataclass
class Process:
    """A process that was seen. `rank` as its launcher says, None if it does not. `received_bytes` by the sender's pid,
    or by `ELSEWHERE`; `most_at_a_time_bytes` between two looks at it.
    """

    pid: int
    command: str
    rank: str | None
    cpu_s: float = 0.0
    memory_bytes: int = 0
    uses_gpu: bool = False
    received_bytes: dict[int, float] = field(default_factory=dict)
    most_at_a_time_bytes: float = 0.0


@dataclass(frozen=True)
class Watched:
    """What was seen of a command. counted: whether bytes between processes could be counted."""

    exit_code: int
    seconds: float
    processes: Sequence[Process]
    reports: Mapping[int, Sequence[dict[str, Any]]]
    counted: bool

    def ranks(self) -> list[Rank]:
        """The training processes: those that say which rank they are, or that reported a step."""
        groups: dict[str, list[Process]] = {}
        for process in self.processes:
            name = process.rank or (f"process {process.pid}" if process.pid in self.reports else None)
            if name is not None:
                groups.setdefault(name, []).append(process)
        return [self._rank(name, group) for name, group in sorted(groups.items(), key=lambda one: _place(one[0]))]

    def _rank(self, name: str, group: Sequence[Process]) -> Rank:
        pids = {process.pid for process in group}
        received = sum(
            count for process in group for sender, count in process.received_bytes.items() if sender not in pids
        )
        reports = [report for pid in sorted(pids) for report in self.reports.get(pid, ())]
        steps = [report for report in reports if "step" in report]
        last = reports[-1] if reports else {}
        known = bool(steps) and all("hashed" in report for report in steps)
        parameter_bytes = [report["parameter_bytes"] for report in reports if "parameter_bytes" in report]
        return Rank(
            name=name,
            cpu_s=sum(process.cpu_s for process in group),
            received_bytes=received if self.counted else None,
            most_at_a_time_bytes=max(process.most_at_a_time_bytes for process in group),
            uses_gpu=any(process.uses_gpu for process in group),
            steps=len(steps) if reports else None,
            examples=sum(report["step"] for report in steps),
            first_pass=frozenset(name for report in steps for name in report.get("first", ())) if known else None,
            repeated=sum(report.get("repeated", 0) for report in steps),
            hashed=any(report.get("hashed") for report in steps),
            parameters_sha256=last.get("parameters_sha256"),
            parameter_bytes=max(parameter_bytes, default=None),
        )


def watch(command: Sequence[str], folder: Path, sampling_s: float = 0.2) -> Watched:
    """Run a command to its end, in the environment and the folder of this process; reports of processes go to
    `folder`.

    Raises:
        InputError: there is no such command.
    """
    # As it was when this process began: facesim's own has no settings for other programs.
    environment = {**psutil.Process().environ(), FOLDER: str(folder.resolve())}
    begin = time.monotonic()
    try:
        started = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise InputError(f"cannot run {command[0]}: {reason(error)}; give a command as in a shell, after --") from None
    watcher = _Watcher(started.pid)
    while True:
        try:
            watcher.sample()
            code = started.wait(sampling_s)
            break
        except (subprocess.TimeoutExpired, KeyboardInterrupt):  # of which the command's processes hear, too
            continue
    reports = {int(file.stem): list(_lines(file)) for file in sorted(folder.glob("*.jsonl"))}
    return Watched(code, time.monotonic() - begin, list(watcher.processes.values()), reports, watcher.counts)


class _Watcher:
    def __init__(self, root: int):
        self._root = psutil.Process(root)
        self.processes: dict[int, Process] = {}
        self._alive: dict[int, psutil.Process] = {}
        self._owner: dict[int, int] = {}  # socket -> pid
        self._received: dict[int, tuple[int, int, float]] = {}  # socket -> receiver, sender, bytes
        self.counts = sys.platform == "linux"
        if self.counts:
            from facesim.metrics.collectors.sockets import Connections

            self._connections = Connections()

    def sample(self) -> None:
        """Look at every process, and at every connection, once."""
        try:
            family = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            family = []
        for process in [*family, *self._alive.values()]:
            try:
                self._look(process)
            except psutil.Error:
                self._alive.pop(process.pid, None)
        if self.counts:
            self._count()

    def _look(self, process: psutil.Process) -> None:
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                self._alive.pop(process.pid, None)
                return
            known = self.processes.get(process.pid)
            if known is None or process.pid not in self._alive or known.rank is None:
                command = " ".join(process.cmdline())
                if known is None:
                    known = self.processes[process.pid] = Process(process.pid, command, None)
                # A process that was just forked has the command and environment of the one that forked it.
                known.command, known.rank = command, rank_of(process.environ())
            self._alive[process.pid] = process
            spent = process.cpu_times()
            known.cpu_s = spent.user + spent.system
            known.memory_bytes = max(known.memory_bytes, process.memory_info().rss)
            known.uses_gpu = known.uses_gpu or _has_gpu(process.pid)

    def _count(self) -> None:
        from facesim.metrics.collectors.sockets import sockets_of

        connections = list(self._connections)
        if any(connection.inode not in self._owner for connection in connections):
            self._owner |= {inode: pid for pid in self._alive for inode in sockets_of(pid)}
        ends = {(_plain(connection.local), _plain(connection.remote)): connection.inode for connection in connections}
        for connection in connections:
            receiver = self._owner.get(connection.inode)
            sender = self._owner.get(ends.get((_plain(connection.remote), _plain(connection.local)), -1), ELSEWHERE)
            if receiver is not None and receiver != sender:
                self._received[connection.inode] = (receiver, sender, connection.received_bytes)
        before = {pid: sum(process.received_bytes.values()) for pid, process in self.processes.items()}
        for process in self.processes.values():
            process.received_bytes = {}
        for receiver, sender, count in self._received.values():
            by_sender = self.processes[receiver].received_bytes
            by_sender[sender] = by_sender.get(sender, 0.0) + count
        for pid, process in self.processes.items():
            now = sum(process.received_bytes.values()) - before[pid]
            process.most_at_a_time_bytes = max(process.most_at_a_time_bytes, now)


def rank_of(environment: Mapping[str, str]) -> str | None:
    """What a process' environment says of its rank: `rank 1`, `worker-0`; None if nothing, or if it does not train."""
    for name in _RANK_VARIABLES:
        if environment.get(name, "").isdigit():
            return f"rank {environment[name]}"
    try:
        task = json.loads(environment.get("TF_CONFIG", "{}")).get("task", {})
        return f"{task['type']}-{task['index']}" if task.get("type") in _TRAINING_ROLES else None
    except (ValueError, AttributeError, KeyError, TypeError):
        return None


def _has_gpu(pid: int) -> bool:
    """Whether a process has a GPU of NVIDIA's open."""
    try:
        return any(os.readlink(entry.path).startswith("/dev/nvidia") for entry in os.scandir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def _plain(end: tuple[str, int]) -> tuple[str, int]:
    return end[0].removeprefix(_V4_IN_V6), end[1]


def _place(name: str) -> tuple[str, int]:
    """Where a rank stands among others: rank 2 before rank 10."""
    head, _, number = name.replace("-", " ").rpartition(" ")
    return head, int(number)


def _lines(file: Path) -> list[dict[str, Any]]:
    """The reports of a process; the last line may be torn."""
    reports = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            reports.append(json.loads(line))
        except ValueError:
            continue
    return reports

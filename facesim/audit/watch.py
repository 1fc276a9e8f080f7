"""Watches a command and all processes that it starts: which train, what CPU they use, what goes between them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from cluster.failure import name_of_signal
from facesim.audit import FOLDER, linux
from facesim.audit.place import Place, place_of
from facesim.audit.verdict import LEAST_BYTES, LEAST_CPU_S, Rank
from facesim.metrics.collectors import NotHere
from facesim.metrics.collectors.nvml import Gpus
from facesim.util.errors import InputError, reason

if TYPE_CHECKING:
    from facesim.metrics.collectors.sockets import Connections, End

#: What stands for the pid of a process that is none of the command's, such as a rank on another host.
ELSEWHERE = 0

#: Between two comparisons of the memory that processes have.
_MEMORY_S = 1.0
#: Seconds between two searches among all processes of the machine.
_SEARCH_S = 1.0
#: For so long processes may end by themselves after Ctrl-C; for so long again when they were asked.
_GRACE_S = 10.0
#: Looks at a process that are kept; of more, every other one of the earlier ones.
_MOST_LOOKS = 4096
#: How an address of IPv4 begins at an end of a connection that takes both kinds.
_V4_IN_V6 = "::ffff:"


@dataclass
class Process:
    """A process that was seen, or that reported. `rank`, of `world` in all, as its launcher or it says, None if neither
    does. `coordinates`: it may be a chief that does not train, as with parameter servers. `looked_at`: it did not end
    before that. `gpu_s`: seconds in which its kernels ran, of all GPUs. `received_bytes` by the sender's pid, or by
    `ELSEWHERE`; `most_at_a_time_bytes` between two looks at it. `shares_memory`: with another rank.
    """

    pid: int
    command: str
    rank: str | None
    world: int = 1
    coordinates: bool = False
    looked_at: bool = True
    cpu_s: float = 0.0
    memory_bytes: int = 0
    uses_gpu: bool = False
    gpu_s: float = 0.0
    gpu_memory_bytes: float = 0.0
    shares_memory: bool = False
    received_bytes: dict[int, float] = field(default_factory=dict)
    most_at_a_time_bytes: float = 0.0


@dataclass(frozen=True)
class Watched:
    """What was seen of a command. interrupted: whether it was asked to end. counted: whether bytes between processes
    could be counted. missed: whether some of their connections came and went between two looks. looks: (clock_s, bytes
    received until then) by pid, in order; `clock_s` is of the machine's monotonic clock, in reports, too.
    """

    exit_code: int
    interrupted: bool
    seconds: float
    processes: Sequence[Process]
    reports: Mapping[int, Sequence[dict[str, Any]]]
    counted: bool
    looks: Mapping[int, Sequence[tuple[float, float]]] = field(default_factory=dict)
    missed: bool = False

    @property
    def failure(self) -> str | None:
        """Why the command did not come to its end, in words; None where it did."""
        if self.interrupted:
            return "The command was interrupted"
        if self.exit_code < 0:
            return f"The command was killed by {name_of_signal(-self.exit_code)}"
        return f"The command failed with exit code {self.exit_code}" if self.exit_code else None

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
        reports = sorted((one for pid in pids for one in self.reports.get(pid, ())), key=lambda one: one["clock_s"])
        steps = [report for report in reports if "step" in report]
        last = reports[-1] if reports else {}
        stepped = [pid for pid in pids if any("step" in report for report in self.reports.get(pid, ()))]
        busy = [process for process in group if process.cpu_s >= LEAST_CPU_S]
        known = bool(steps) and all("hashed" in report for report in steps)
        # One that was started again divides what it trains on anew: what it passed over before is another division.
        newest = max(stepped, key=lambda pid: max(one["clock_s"] for one in self.reports[pid]), default=None)
        passes = [report.get("first", ()) for report in self.reports.get(newest, ())] if newest is not None else []
        parameter_bytes = [report["parameter_bytes"] for report in reports if "parameter_bytes" in report]
        return Rank(
            name=name,
            numbered=any(process.rank for process in group),
            looked_at=any(process.looked_at for process in group),
            cpu_s=sum(process.cpu_s for process in group),
            received_bytes=received if self.counted else None,
            most_at_a_time_bytes=max(process.most_at_a_time_bytes for process in group),
            received_while_training_bytes=self._received_in(pids, [report["clock_s"] for report in steps]),
            uses_gpu=any(process.uses_gpu for process in group),
            gpu_s=sum(process.gpu_s for process in group),
            gpu_memory_bytes=sum(process.gpu_memory_bytes for process in group),
            shares_memory=any(process.shares_memory for process in group),
            connects_briefly=self.missed,
            steps=len(steps) or None,
            examples=sum(report["step"] for report in steps),
            first_pass=frozenset(name for names in passes for name in names) if known else None,
            repeated=sum(report.get("repeated", 0) for report in steps),
            hashed=any(report.get("hashed") for report in steps),
            parameters_sha256=last.get("parameters_sha256"),
            parameter_bytes=max(parameter_bytes, default=None),
            holds_part=any("holds_part" in report for report in reports),
            world=max(process.world for process in group),
            processes=len(stepped or busy) or 1,
            coordinates=any(process.coordinates for process in group),
        )

    def _received_in(self, pids: Set[int], moments_s: Sequence[float]) -> float | None:
        """Bytes that processes received from the first of some moments to the last; None where none was looked at twice
        in between.
        """
        begin, end = min(moments_s, default=0.0), max(moments_s, default=0.0)
        inside = [[count for when, count in self.looks.get(pid, ()) if begin <= when <= end] for pid in pids]
        received = [counts[-1] - counts[0] for counts in inside if len(counts) > 1]
        return sum(received) if received else None


def watch(command: Sequence[str], folder: Path, sampling_s: float = 0.2) -> Watched:
    """Run a command to its end, in the environment and the folder of this process; reports of processes go to
    `folder`. Ranks that it leaves behind are waited for.

    Asked to end, by Ctrl-C, which the command's processes hear themselves, or by SIGTERM or SIGHUP, it ends them all,
    and so it does where watching them fails.

    Raises:
        InputError: there is no such command.
    """
    # As it was when this process began: facesim's own has no settings for other programs.
    reports_to = str(folder.resolve())
    environment = {**psutil.Process().environ(), FOLDER: reports_to}
    watcher = _Watcher(reports_to)  # before the command, of which it would miss the beginning
    begin = time.monotonic()
    with _asked_to_end() as asked:
        started = _start(command, environment)
        watcher.root = psutil.Process(started.pid)
        try:
            _follow(watcher, started, asked, sampling_s)
        except BaseException:  # it would go on, and nobody would look after it
            watcher.end_unwatched()
            raise
    reports = {int(file.stem): list(_lines(file)) for file in sorted(folder.glob("*.jsonl"))}
    for pid, said in reports.items():
        watcher.heard(pid, said)
    processes = list(watcher.processes.values())
    seconds = time.monotonic() - begin
    return Watched(
        started.returncode, bool(asked), seconds, processes, reports, watcher.counts, watcher.looks, watcher.missed
    )


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, env=environment)
    except OSError as error:
        raise InputError(f"cannot run {command[0]}: {reason(error)}; give a command as in a shell, after --") from None


def _follow(watcher: _Watcher, started: subprocess.Popen[bytes], asked: Sequence[float], sampling_s: float) -> None:
    """Watch a command that was started to its end, and what it leaves behind; end them when `asked`."""
    while True:
        has_ended = started.poll() is not None
        watcher.sample()
        if has_ended and not watcher.lives(ranks_only=not asked):
            break
        if asked:
            watcher.end_all(time.monotonic() - asked[0], again=len(asked) > 1)
        if has_ended:
            time.sleep(sampling_s)
        else:
            with suppress(subprocess.TimeoutExpired):
                started.wait(sampling_s)


@contextmanager
def _asked_to_end() -> Iterator[list[float]]:
    """When this process was asked to end: of SIGTERM and SIGHUP its children have not heard, so they are not waited
    for.
    """
    asked: list[float] = []
    waits_s = {signal.SIGINT: 0.0, signal.SIGTERM: _GRACE_S, signal.SIGHUP: _GRACE_S}
    before = {
        number: signal.signal(number, lambda number, _: asked.append(time.monotonic() - waits_s[number]))
        for number in waits_s
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Watcher:
    """Looks at `root`, a process, and all that it starts, which report to `folder`."""

    root: psutil.Process

    def __init__(self, folder: str):
        self._folder = folder
        self.processes: dict[int, Process] = {}
        self.looks: dict[int, list[tuple[float, float]]] = {}
        self._alive: dict[int, psutil.Process] = {}
        self._signalled: set[tuple[int, int]] = set()
        self._sampled_s = self._mapped_s = self._searched_s = time.monotonic()
        self._owner: dict[int, int] = {}  # socket -> pid
        self._received: dict[int, tuple[int, int, float]] = {}  # socket -> receiver, sender, bytes
        self._ports: set[int] = set()  # at which the command's processes take connections
        self._known: set[tuple[End, End]] = set()  # the ends of connections that are counted, or were there before
        self.missed = False
        self._connections: Connections | None = None
        if sys.platform == "linux":
            from facesim.metrics.collectors.sockets import Connections

            with suppress(Exception):  # whatever the library raises where a container forbids it
                connections = Connections()
                self._known |= {_plain_ends(each) for each in connections.closed()}
                self._connections = connections
        try:
            self._gpus: Gpus | None = Gpus()
        except NotHere:
            self._gpus = None

    @property
    def counts(self) -> bool:
        """Whether bytes between processes could be counted until now."""
        return self._connections is not None

    def sample(self) -> None:
        """Look at every process, and at every connection, once."""
        for process in {*self._family(), *self._alive.values()}:
            try:
                self._look(process)
            except psutil.Error:
                self._alive.pop(process.pid, None)
        now = time.monotonic()
        if self._gpus:
            self._look_at_gpus(self._gpus, now - self._sampled_s)
        self._sampled_s = now
        if now - self._mapped_s > _MEMORY_S:
            self._mapped_s = now
            self._compare_memory()
        if self._connections is not None:
            self._count(self._connections)

    def heard(self, pid: int, reports: Sequence[dict[str, Any]]) -> None:
        """Take what a process says of itself for what was not seen of it."""
        about = next((one["process"] for one in reports if "process" in one), {})
        known = self.processes.setdefault(pid, Process(pid, about.get("command", ""), None, looked_at=False))
        if known.rank is None:
            known.rank, known.world, known.coordinates = Place(*about.get("place", [None]))

    def _family(self) -> list[psutil.Process]:
        """All that the command has started. What outlives the process that started it is found by its environment, for
        which all processes are looked at now and then.
        """
        family: list[psutil.Process] = []
        if self.root.is_running():
            with suppress(psutil.Error):
                family = [self.root, *self.root.children(recursive=True)]
        now = time.monotonic()
        if family and now - self._searched_s < _SEARCH_S:
            return family
        self._searched_s = now
        known = {process.pid for process in family}
        return family + [one for one in psutil.process_iter() if one.pid not in known and self._is_audited(one)]

    def _is_audited(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(FOLDER) == self._folder
        except psutil.Error:  # another user's, or it has ended
            return False

    def lives(self, ranks_only: bool) -> bool:
        """Whether a process that was seen has not ended, or one that says which rank it is."""
        return any(not ranks_only or self.processes[pid].rank for pid in self._alive)

    def end_all(self, asked_s_ago: float, again: bool) -> None:
        """End what has not ended by itself, each process asked once, and killed when that did not help."""
        if asked_s_ago > _GRACE_S or again:
            number = signal.SIGKILL if again or asked_s_ago > 2 * _GRACE_S else signal.SIGTERM
            for pid, process in self._alive.items():
                if (pid, number) not in self._signalled:
                    self._signalled.add((pid, number))
                    with suppress(psutil.Error):
                        process.send_signal(number)

    def end_unwatched(self) -> None:
        """End all that is known of the command, without another look: asked first, killed when that did not help."""
        left = [self.root, *self._alive.values()]
        with suppress(psutil.Error):
            left += self.root.children(recursive=True)
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for process in left:
                with suppress(psutil.Error):
                    end(process)
            _, left = psutil.wait_procs(left, timeout=_GRACE_S)

    def _look_at_gpus(self, gpus: Gpus, seconds: float) -> None:
        memory, percent = gpus.memory_by_process(), gpus.percent_by_process()
        for pid in self._alive:
            process = self.processes[pid]
            process.uses_gpu = process.uses_gpu or pid in memory
            process.gpu_memory_bytes = max(process.gpu_memory_bytes, memory.get(pid, 0.0))
            process.gpu_s += percent.get(pid, 0.0) / 100 * seconds

    def _compare_memory(self) -> None:
        """Find ranks that can write to the same memory: MPI, for one, exchanges through it on one machine."""
        holders: dict[tuple[str, str], set[int]] = {}
        for pid in self._alive:
            for piece in linux.shared_memory(pid, LEAST_BYTES):
                holders.setdefault(piece, set()).add(pid)
        for pids in holders.values():
            ranks = {self.processes[pid].rank for pid in pids} - {None}
            if len(ranks or pids) > 1:
                for pid in pids:
                    self.processes[pid].shares_memory = True

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
                known.command = command
                known.rank, known.world, known.coordinates = place_of(process.environ())
            self._alive[process.pid] = process
            spent = process.cpu_times()
            known.cpu_s = spent.user + spent.system
            known.memory_bytes = max(known.memory_bytes, process.memory_info().rss)
            known.uses_gpu = known.uses_gpu or linux.has_gpu(process.pid)

    def _count(self, asked: Connections) -> None:
        from facesim.metrics.collectors.sockets import sockets_of

        try:
            connections, listening, closed = list(asked), dict(asked.listening()), list(asked.closed())
        except Exception:  # as where they are first asked about: what was counted until then is not all
            self._connections = None
            return
        if any(inode not in self._owner for inode in (*listening, *(each.inode for each in connections))):
            self._owner |= {inode: pid for pid in self._alive for inode in sockets_of(pid)}
        ends = {_plain_ends((connection.local, connection.remote)): connection.inode for connection in connections}
        self._ports |= {port for inode, port in listening.items() if inode in self._owner}
        self._known |= {*ends, *((remote, local) for local, remote in ends)}
        unseen = {_plain_ends(each) for each in closed} - self._known
        self.missed |= any(port in self._ports for each in unseen for _, port in each)
        for connection in connections:
            receiver = self._owner.get(connection.inode)
            sender = self._owner.get(ends.get(_plain_ends((connection.remote, connection.local)), -1), ELSEWHERE)
            if receiver is not None and receiver != sender:
                self._received[connection.inode] = (receiver, sender, connection.received_bytes)
        before = {pid: sum(process.received_bytes.values()) for pid, process in self.processes.items()}
        for process in self.processes.values():
            process.received_bytes = {}
        for receiver, sender, count in self._received.values():
            by_sender = self.processes[receiver].received_bytes
            by_sender[sender] = by_sender.get(sender, 0.0) + count
        for pid, process in self.processes.items():
            now = sum(process.received_bytes.values())
            process.most_at_a_time_bytes = max(process.most_at_a_time_bytes, now - before[pid])
            if pid in self._alive:
                looks = self.looks.setdefault(pid, [])
                looks.append((time.monotonic(), now))
                if len(looks) > _MOST_LOOKS:
                    del looks[1 : _MOST_LOOKS // 2 : 2]


def _plain_ends(ends: tuple[End, End]) -> tuple[End, End]:
    here, there = ((address.removeprefix(_V4_IN_V6), port) for address, port in ends)
    return here, there


def _place(name: str) -> tuple[str, int]:
    """Where a rank stands among others: rank 2 before rank 10."""
    head, _, number = name.replace("-", " ").rpartition(" ")
    return head, int(number)


def _lines(file: Path) -> list[dict[str, Any]]:
    """The reports of a process; the last line may be torn."""
    reports = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict) and "clock_s" in report:  # else it is another facesim's, whose words may differ
            reports.append(report)
    return reports

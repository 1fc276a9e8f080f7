"""What one host has to run, as plain data: it can be printed, stored, sent to another host, and run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster.faults import Fault


@dataclass(frozen=True)
class Task:
    """One process. `target` is `module:function`, called with `arguments` and, for a monitor, the pids of the tasks.

    A task that `serves` does so until it is ended; any other ends by itself when its work is done. One that is
    `replaceable` may fail and be started again while the others go on; when any other fails, all are started again.
    `host` is the host that it plays a part of, and `port` where it listens, for scripted faults.
    """

    role: str
    index: int
    target: str
    arguments: tuple[Any, ...]
    log: str
    serves: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    replaceable: bool = False
    host: str = "algo-1"
    port: int | None = None

    @property
    def name(self) -> str:
        return f"{self.role}-{self.index}"


@dataclass(frozen=True)
class Plan:
    """The tasks of one host.

    The host's work is done when every task that does not serve has ended well; then those that serve are ended.
    `leader` is the task that is told when the work is to stop early. `monitor` is a process beside them that is given
    every task's pid; nothing depends on it. `preload` names modules that are imported once, before the tasks are
    forked, so that they share the time and the memory of it.

    Tasks that fail are started again, at most `max_restarts` times in all, `backoff_s` after the first failure and
    twice as long after each next. `faults` are done to the tasks on purpose.

    A task that hangs, without progress for longer than `hang_s` seconds and for many of its own steps, is named and
    treated as one that died; 0: never. So is the node itself, by the process that started it.
    """

    tasks: tuple[Task, ...]
    leader: str
    monitor: Task | None = None
    preload: tuple[str, ...] = ()
    private_network: bool = True
    grace_s: float = 8.0
    max_restarts: int = 0
    backoff_s: float = 0.5
    hang_s: float = 0.0
    faults: tuple[Fault, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, path: Path) -> Plan:
        content = json.loads(path.read_text())
        monitor = content.pop("monitor")
        return cls(
            tasks=tuple(_task(task) for task in content.pop("tasks")),
            monitor=_task(monitor) if monitor else None,
            preload=tuple(content.pop("preload")),
            faults=tuple(_fault(fault) for fault in content.pop("faults")),
            **content,
        )


def _fault(content: dict[str, Any]) -> Fault:
    return Fault(**{**content, "targets": tuple(content["targets"]), "elsewhere": tuple(content["elsewhere"])})


def _task(content: dict[str, Any]) -> Task:
    return Task(**{**content, "arguments": tuple(content["arguments"])})

"""What one host has to run, as plain data: it can be printed, stored, sent to another host, and run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One process. `target` is `module:function`, called with `arguments` and, for a monitor, the pids of the tasks.

    A task that `serves` does so until it is ended; any other ends by itself when its work is done.
    """

    role: str
    index: int
    target: str
    arguments: tuple[Any, ...]
    log: str
    serves: bool = False
    environment: dict[str, str] = field(default_factory=dict)

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
    """

    tasks: tuple[Task, ...]
    leader: str
    monitor: Task | None = None
    preload: tuple[str, ...] = ()
    private_network: bool = True
    grace_s: float = 8.0

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
            **content,
        )


def _task(content: dict[str, Any]) -> Task:
    return Task(**{**content, "arguments": tuple(content["arguments"])})

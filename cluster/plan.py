"""What one host has to run, as plain data: it can be printed, stored, sent to another host, and run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from cluster.faults import Fault

#: The version of the plans that are written here. It grows when an earlier reader could misunderstand them.
SCHEMA_VERSION = 1

_Known = TypeVar("_Known")


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
    `leader` is the task that is notified when the work is to stop early. `monitor` is a process beside them that gets
    every task's pid; nothing depends on it. `preload` names modules that are imported once, before the tasks are
    forked, so that they share the time and the memory of it, and `environment` has variables of their environment.

    Tasks that fail are started again, at most `max_restarts` times in all, `backoff_s` after the first failure and
    twice as long after each next. `faults` are done to the tasks on purpose.

    A task that hangs, without progress for longer than `hang_s` seconds and for many of its own steps, is named and
    treated as one that died; 0: never. So is the node itself, by the process that started it.
    """

    tasks: tuple[Task, ...]
    leader: str
    monitor: Task | None = None
    preload: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    private_network: bool = True
    grace_s: float = 8.0
    max_restarts: int = 0
    backoff_s: float = 0.5
    hang_s: float = 0.0
    faults: tuple[Fault, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan that a file holds: what is not known here is left out, what is missing has its default.

        Raises:
            ValueError: it is no plan, or one of a later version.
        """
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds no plan")
        version = content.get("schema_version", SCHEMA_VERSION)
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise ValueError(
                f"{path} is a plan of version {version}, and {SCHEMA_VERSION} is the latest that is read here; use "
                "what wrote it"
            )
        try:
            return _known(cls, content)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is no plan that can be run: {error}") from None


#: How fields are made that JSON has in another form.
_MADE: dict[str, Any] = {
    "tasks": lambda tasks: tuple(_known(Task, task) for task in tasks),
    "monitor": lambda task: _known(Task, task) if task else None,
    "faults": lambda faults: tuple(_known(Fault, fault) for fault in faults),
    **dict.fromkeys(("preload", "arguments", "targets", "elsewhere"), tuple),
}


def _known(kind: type[_Known], content: dict[str, Any]) -> _Known:
    """A `kind` of the fields that it has."""
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _MADE.get(name, lambda it: it)(value) for name, value in content.items() if name in names})

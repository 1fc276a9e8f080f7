"""What a user writes to have a run disturbed on purpose: a TOML file of faults, or a seeded random mode.

```toml
[[fault]]
kind = "kill"          # kill, freeze, slow, interrupt, fill, refuse, partition, loss, delay
target = "worker-1"    # a task; for interrupt a host, algo-1; fill needs none
at_step = 50           # or at_s = 3.0, or per_minute = 2

[random]
seed = 7
per_minute = 6
```
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pydantic
from pydantic import ConfigDict, Field, model_validator

from facesim.spec.base import Frozen
from facesim.util.errors import InputError
from facesim.util.files import read_toml

if TYPE_CHECKING:
    from cluster.faults import Fault as Script
    from facesim.spec.backends import BackendSpec

#: Kinds that the random mode draws from, all tasks being possible targets.
_RANDOM_KINDS = ("kill", "freeze", "slow")


class Fault(Frozen):
    """One fault, as `cluster.faults.Fault` has it. No `targets`: any task."""

    kind: Literal["kill", "freeze", "slow", "interrupt", "fill", "refuse", "partition", "loss", "delay"]
    targets: tuple[str, ...] = ()
    at_s: float | None = Field(None, ge=0)
    at_step: int | None = Field(None, ge=0)
    per_minute: float | None = Field(None, gt=0)
    for_s: float = Field(1.0, gt=0)
    share: float = Field(0.25, gt=0, lt=1)
    notice_s: float = Field(0.0, ge=0)
    delay_s: float = Field(0.1, gt=0, le=60)
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _one_target(cls, given: dict[str, Any]) -> dict[str, Any]:
        if isinstance(given, dict) and isinstance(given.get("target"), str):
            return {**{key: value for key, value in given.items() if key != "target"}, "targets": (given["target"],)}
        return given

    @model_validator(mode="after")
    def _one_time(self) -> Fault:
        if sum(value is not None for value in (self.at_s, self.at_step, self.per_minute)) != 1:
            raise ValueError("needs exactly one of at_s, at_step and per_minute")
        return self

    @property
    def once(self) -> bool:
        """Whether it comes once: where it came, it does not come again when its run is continued."""
        return self.per_minute is None

    def script(self, run_directory: Path) -> Script:
        """What the cluster is to act out in a run."""
        from cluster.faults import Fault as Script

        fields = self.model_dump()
        if self.kind == "fill":
            fields["targets"] = (str(run_directory),)
        return Script(**fields)


def read_faults(source: str) -> list[dict[str, Any]]:
    """The faults that `--faults` names, unchecked: a TOML file, or `random`, `random:SEED` or `random:SEED:PER_MINUTE`.

    Raises:
        InputError: it cannot be read.
    """
    if source.split(":", 1)[0] == "random" and not os.path.exists(source):
        return _random(_random_mode(source), source)
    content = read_toml(os.path.expanduser(source), "--faults")
    unknown = sorted(content.keys() - {"fault", "random"})
    if unknown:
        raise InputError(f"--faults {source}: unknown {', '.join(unknown)}; allowed are [[fault]] and [random]")
    if not isinstance(faults := content.get("fault", []), list):
        raise InputError(f"--faults {source}: fault is {faults!r}; write [[fault]] above each fault")
    return [*faults, *(_random(content["random"], source) if "random" in content else [])]


def _random_mode(source: str) -> dict[str, Any]:
    try:
        numbers = [float(part) for part in source.split(":")[1:]]
        seed, per_minute = (numbers + [0.0, 6.0][len(numbers) :])[:2]
        if len(numbers) > 2 or seed < 0 or not seed.is_integer():
            raise ValueError
    except ValueError:
        raise InputError(
            f"--faults {source!r} is not allowed: it must be a TOML file or random:SEED:PER_MINUTE"
        ) from None
    return {"seed": int(seed), "per_minute": per_minute}


class _Random(Frozen):
    """The random mode; what else it is given, each of its faults has."""

    model_config = ConfigDict(extra="allow")

    kinds: tuple[str, ...] = Field(_RANDOM_KINDS, min_length=1)
    per_minute: float = 6.0
    seed: int = 0


def _random(given: Any, source: str) -> list[dict[str, Any]]:
    """A fault of each kind, at their share of the rate, each with a seed of its own."""
    try:
        mode = _Random.model_validate(given)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, ("random", *problem["loc"])))
        raise InputError(f"--faults {source}: {field}: {problem['msg']}, not {problem['input']!r}") from None
    count = len(mode.kinds)
    return [
        {**(mode.model_extra or {}), "kind": kind, "per_minute": mode.per_minute / count, "seed": place}
        for place, kind in enumerate(mode.kinds, mode.seed * count)
    ]


class Targets(NamedTuple):
    """What faults can strike in a job."""

    tasks: list[str]
    hosts: list[str]

    def of(self, kind: str) -> list[str]:
        from cluster.faults import TARGET

        return self.hosts if TARGET.get(kind) == "host" else self.tasks


def make_faults(given: Sequence[dict[str, Any]], targets: Targets) -> tuple[Fault, ...]:
    """Checked faults for a job, with every target named.

    Raises:
        InputError: one has a value that is not allowed, or names a task or host that the job does not have.
    """
    return tuple(_make(position, one, targets) for position, one in enumerate(given, 1))


def _make(position: int, given: dict[str, Any], targets: Targets) -> Fault:
    try:
        fault = Fault.model_validate(given)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "it"
        why = problem["msg"].removeprefix("Value error, ")
        raise InputError(f"--faults: fault {position}: {field} {why}, not {problem['input']!r}") from None
    if fault.kind == "fill":
        return fault
    there = targets.of(fault.kind)
    for target in fault.targets:
        if target not in there:
            raise InputError(f"--faults: fault {position}: there is no {target!r}; this job has {', '.join(there)}")
    return fault.model_copy(update={"targets": fault.targets or tuple(there)})


def kept_faults(faults: Sequence[Fault], before: Targets, now: Targets) -> tuple[Fault, ...]:
    """The faults of a job that goes on with other tasks and hosts. One that could strike each of those before, as where
    nobody named any, can strike each of those now.

    Raises:
        InputError: one strikes a task or host that is not there any more.
    """
    return tuple(_kept(fault, before.of(fault.kind), now.of(fault.kind)) for fault in faults)


def _kept(fault: Fault, before: list[str], now: list[str]) -> Fault:
    if set(fault.targets) == set(before):
        return fault.model_copy(update={"targets": tuple(now)})
    if gone := [target for target in fault.targets if target not in now]:
        raise InputError(
            f"--faults: the run has a fault ({fault.kind}) for {', '.join(gone)}, which it would not have any more, "
            f"only {', '.join(now)}; give --faults for the tasks that the run will have, or keep the number of workers",
            field="faults",
        )
    return fault


def check_network(faults: tuple[Fault, ...], backend: BackendSpec) -> None:
    """Refuse to disturb a network where that cannot be done.

    Raises:
        InputError: a fault disturbs the network of a task, and `backend` or this system does not allow it.
    """
    if not faults:
        return
    from cluster.network import PROGRAMS, why_not

    for kind in dict.fromkeys(fault.kind for fault in faults if fault.kind in PROGRAMS):
        if not backend.disturbs_networks:
            raise InputError(
                f"--faults: {kind} needs the private network that --backend local gives a cluster; {backend.name} has "
                "none: use --backend local, or leave it out"
            )
        if why := why_not(kind):
            raise InputError(
                f"--faults: {kind} is not possible on this system: {why}; it needs a Linux that allows a private "
                f"network (facesim doctor), and {PROGRAMS[kind]} in it; leave it out, or use another kind"
            )


def check_room(faults: tuple[Fault, ...], output: Path) -> None:
    """Refuse to fill a file system that was hardly made for it.

    Raises:
        InputError: a fault would fill the file system of `output`, and it has much room.
    """
    if not any(fault.kind == "fill" for fault in faults):
        return
    from cluster.faults import MOST_FILLED_BYTES

    there = next(path for path in (output.resolve(), *output.resolve().parents) if os.path.exists(path))
    space = os.statvfs(there)
    free = space.f_bavail * space.f_frsize
    if free > MOST_FILLED_BYTES:
        raise InputError(
            f"--faults: fill would take the {free / 1e9:.0f} GB that are free at {there}; put --output on a file "
            f"system of its own with at most {MOST_FILLED_BYTES / 1e9:.1f} GB, such as a tmpfs"
        )

"""What a job would run on: strategy, hosts, workers, parameter servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facesim.spec.strategies import STRATEGIES, Layout, Strategy
from facesim.util.errors import InputError
from facesim.util.words import count_text

#: More of them are a slip of the finger.
MOST_HOSTS = 10_000


def forecast_strategies() -> list[str]:
    """The strategies that can be forecast: those that declare a formula."""
    return [name for name, kind in STRATEGIES.available() if kind.declared_formula()]


def check_strategies(names: Iterable[str], framework: str) -> None:
    """Look whether there are formulas for the strategies called so, and a framework can train by them.

    Raises:
        InputError: there is no such strategy, or no formula for it, or the framework cannot.
    """
    known = forecast_strategies()
    for name in names:
        if name not in known:
            message = f"there is no forecast of --strategy {name}: there are formulas for {', '.join(known)}"
            raise InputError(message, field="strategy", value=name, allowed=known)
        try:
            STRATEGIES[name]().check_framework(framework)
        except ValueError as error:
            raise InputError(str(error), field="strategy", value=name) from None


class ClusterShape(BaseModel):
    """What a job would run on. Servers are beside the workers, or on hosts of `ps_instance_type`; with `one_host` all
    tasks share one host, as they do in a local run. Of the `workers`, `other_workers` are on other types than the rest,
    as (type, how many); servers then have hosts of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str = "single"
    instance_type: str = "ml.m5.2xlarge"
    workers: int = Field(1, ge=1, le=MOST_HOSTS)
    other_workers: tuple[tuple[str, Annotated[int, Field(ge=1)]], ...] = ()
    ps: int = Field(1, ge=1, le=MOST_HOSTS)
    ps_instance_type: str | None = None
    backup_workers: int = Field(0, ge=0)
    local_steps: int = Field(8, ge=1)
    spot: bool = False
    one_host: bool = False

    @model_validator(mode="after")
    def _is_possible(self) -> ClusterShape:
        try:
            formula = STRATEGIES[STRATEGIES.check(self.strategy)].declared_formula()
        except InputError as error:
            raise ValueError(str(error)) from None
        if formula is None:
            raise ValueError(
                f"there is no formula for strategy {self.strategy!r}, only for {', '.join(forecast_strategies())}"
            )
        if self.backup_workers >= self.workers:
            raise ValueError(f"backup_workers {self.backup_workers} must be fewer than workers {self.workers}")
        if self.other_workers:
            self._check_other_workers()
        return self

    def _check_other_workers(self) -> None:
        if self.one_host or not (self.served or self.summed):
            raise ValueError(f"other_workers: the replicas of {self.strategy} on one host are all of its type")
        if (count := sum(count for _, count in self.other_workers)) >= self.workers:
            raise ValueError(f"other_workers are {count}; they must be fewer than workers {self.workers}")
        if self.served and self.ps_instance_type is None:
            raise ValueError("other_workers: servers need hosts of their own beside them; give ps_instance_type")

    @property
    def kind(self) -> type[Strategy]:
        return STRATEGIES[self.strategy]

    @property
    def served(self) -> bool:
        """Whether it has parameter servers."""
        return self.kind.layout is Layout.PARAMETER_SERVER

    @property
    def summed(self) -> bool:
        """Whether its workers add up gradients, or average parameters, without a server."""
        return self.kind.layout is Layout.PEERS and self.kind.joint

    @property
    def mirrored(self) -> bool:
        """Whether its replicas share one process."""
        return self.kind.layout is Layout.SINGLE_PROCESS and self.kind.replicated

    @property
    def replicas(self) -> int:
        return self.workers if self.kind.replicated else 1

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Hosts that are paid for, as (type, count)."""
        if self.one_host:
            return [(self.instance_type, 1)]
        servers = [(self.ps_instance_type, self.ps)] if self.served and self.ps_instance_type else []
        return [*self.worker_hosts, *servers]

    @property
    def worker_hosts(self) -> list[tuple[str, int]]:
        """Those of the workers; the first has the chief."""
        hosts = 1 if self.kind.layout is Layout.SINGLE_PROCESS else self.workers
        return [(self.instance_type, hosts - sum(count for _, count in self.other_workers)), *self.other_workers]

    def __str__(self) -> str:
        servers = f", {self.ps} ps" if self.served else ""
        server_hosts = f" on {self.ps_instance_type}" if self.served and self.ps_instance_type else ""
        workers = f", {count_text(self.workers, 'worker')}" if self.replicas > 1 or self.served else ""
        workers += f" ({self.backup_workers} backup)" if self.backup_workers else ""
        fields = ClusterShape.model_fields
        if self.kind.averaging and self.local_steps != fields["local_steps"].default:
            workers += f", {count_text(self.local_steps, 'local step')}"
        where = f"one {self.instance_type}" if self.one_host else self.instance_type
        if self.other_workers:
            where = " and ".join(f"{count} {name}" for name, count in self.worker_hosts)
        return f"{self.strategy}{workers}{servers}{server_hosts} on {where}{', spot' if self.spot else ''}"

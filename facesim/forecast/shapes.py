"""What a job would run on: strategy, hosts, workers, parameter servers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from facesim.training import STRATEGIES


class ClusterShape(BaseModel):
    """What a job would run on. Servers are beside the workers, or on hosts of `ps_instance_type`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strategy: str = "single"
    instance_type: str = "ml.m5.2xlarge"
    workers: int = Field(1, ge=1)
    ps: int = Field(1, ge=1)
    ps_instance_type: str | None = None
    backup_workers: int = Field(0, ge=0)
    local_steps: int = Field(8, ge=1)
    spot: bool = False

    @model_validator(mode="after")
    def _is_possible(self) -> ClusterShape:
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy {self.strategy!r} must be one of {', '.join(STRATEGIES)}")
        if self.backup_workers >= self.workers:
            raise ValueError(f"backup_workers {self.backup_workers} must be fewer than workers {self.workers}")
        return self

    @property
    def served(self) -> bool:
        """Whether it has parameter servers."""
        return "ps" in STRATEGIES[self.strategy].options

    @property
    def replicas(self) -> int:
        return self.workers if STRATEGIES[self.strategy].replicated else 1

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Hosts that are paid for, as (type, count)."""
        workers = self.workers if STRATEGIES[self.strategy].distributed else 1
        own = [(self.ps_instance_type, self.ps)] if self.served and self.ps_instance_type else []
        return [(self.instance_type, workers), *own]

    def __str__(self) -> str:
        servers = f", {self.ps} ps" if self.served else ""
        own = f" on {self.ps_instance_type}" if self.served and self.ps_instance_type else ""
        workers = (
            f", {self.workers} worker{'s' if self.workers > 1 else ''}" if self.replicas > 1 or self.served else ""
        )
        return f"{self.strategy}{workers}{servers}{own} on {self.instance_type}{', spot' if self.spot else ''}"

"""How replicas train: one module a strategy, and what all of them share (step, optimiser, batches, loop, evaluation).

`STRATEGIES` names them without importing TensorFlow. Adding a strategy is one module with a `train(context)` and one
line.
"""

from dataclasses import dataclass
from enum import Enum


class Layout(str, Enum):
    """What the tasks of a strategy are to each other."""

    #: One process.
    SINGLE_PROCESS = "single process"
    #: A chief that coordinates, workers that compute, parameter servers that hold the parameters.
    PARAMETER_SERVER = "parameter server"
    #: Workers that are all alike; the chief is the first of them and keeps the record.
    PEERS = "peers"


@dataclass(frozen=True)
class Strategy:
    """A strategy, as far as it can be told without TensorFlow.

    An update is `joint` when all workers' gradients make it together. `replaceable_roles` are those of which a task may
    fail and come back while the others go on.
    """

    module: str
    layout: Layout
    options: tuple[str, ...]
    summary: str
    joint: bool = False
    replaceable_roles: tuple[str, ...] = ()

    def tasks(self, workers: int, ps: int) -> dict[str, int]:
        """How many tasks it has of each role, in the order in which they are to be started."""
        if self.layout is Layout.PARAMETER_SERVER:
            return {"ps": ps, "worker": workers, "chief": 1}
        if self.layout is Layout.PEERS:
            return {"worker": workers - 1, "chief": 1}
        return {"chief": 1}

    @property
    def coordinated(self) -> bool:
        """Whether the chief only coordinates what workers and parameter servers do; otherwise it trains as well."""
        return self.layout is Layout.PARAMETER_SERVER

    def replaceable(self, role: str) -> bool:
        """Whether a task of this role may fail and come back while the others go on."""
        return role in self.replaceable_roles

    @property
    def replicated(self) -> bool:
        """Whether it has several replicas, which may or may not train together."""
        return "workers" in self.options

    @property
    def distributed(self) -> bool:
        """Whether it is made for several hosts."""
        return self.layout is not Layout.SINGLE_PROCESS


STRATEGIES: dict[str, Strategy] = {
    "single": Strategy("facesim.training.single", Layout.SINGLE_PROCESS, (), "one process, the yardstick"),
    "mirrored": Strategy(
        "facesim.training.mirrored",
        Layout.SINGLE_PROCESS,
        ("workers",),
        "one process with a replica on each device; every step sums their gradients",
        joint=True,
    ),
    "ps-async": Strategy(
        "facesim.training.ps_async",
        Layout.PARAMETER_SERVER,
        ("workers", "ps", "steps_per_dispatch"),
        "workers pull parameters from parameter servers and push gradients, none waiting for another",
        replaceable_roles=("worker",),
    ),
    "ps-sync": Strategy(
        "facesim.training.ps_sync",
        Layout.PARAMETER_SERVER,
        ("workers", "ps", "backup_workers"),
        "parameter servers again, but each update is made of a gradient from every worker, none stale",
        joint=True,
        replaceable_roles=("worker",),
    ),
    "allreduce": Strategy(
        "facesim.training.allreduce",
        Layout.PEERS,
        ("workers",),
        "every worker holds the parameters; every step sums the workers' gradients",
        joint=True,
    ),
    "local-sgd": Strategy(
        "facesim.training.local_sgd",
        Layout.PEERS,
        ("workers", "local_steps"),
        "every worker trains by itself; every few steps their parameters are averaged",
        joint=True,
    ),
    "independent": Strategy(
        "facesim.training.independent",
        Layout.PEERS,
        ("workers",),
        "every worker trains by itself on everything: the paper's mistake, kept to show what it costs",
        replaceable_roles=("chief", "worker"),
    ),
}


def host_of(strategy: Strategy, role: str, index: int, hosts: int) -> str:
    """The host, algo-1 to algo-`hosts`, whose part a task plays: a worker each; the chief and, one after another, the
    parameter servers beside the workers."""
    if role == "worker" and strategy.layout is Layout.PEERS:
        index += 1  # the chief is the first of them
    return f"algo-{index % hosts + 1}"


#: Options that mean something to some strategies and nothing to the others.
STRATEGY_OPTIONS = {option for strategy in STRATEGIES.values() for option in strategy.options}

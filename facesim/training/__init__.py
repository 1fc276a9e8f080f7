"""How replicas train: one module a strategy, and what all of them share (step, optimiser, batches, loop, evaluation).

`STRATEGIES` names them without importing TensorFlow. Adding a strategy is one module with a `train(context)` and one
line.
"""

from collections.abc import Callable
from typing import NamedTuple


def alone(workers: int, ps: int) -> dict[str, int]:
    """One process."""
    return {"chief": 1}


def served(workers: int, ps: int) -> dict[str, int]:
    """A chief that coordinates, workers that compute, parameter servers that hold the parameters."""
    return {"ps": ps, "worker": workers, "chief": 1}


def peers(workers: int, ps: int) -> dict[str, int]:
    """Workers that are all alike; the chief is the first of them and keeps the record."""
    return {"worker": workers - 1, "chief": 1}


class Strategy(NamedTuple):
    """A strategy, as far as it can be told without TensorFlow.

    `tasks(workers, ps)` is how many tasks it has of each role, in the order in which they are to be started. An update
    is `joint` when all workers' gradients make it together. `replaceable_roles` are those of which a task may fail and
    come back while the others go on.
    """

    module: str
    tasks: Callable[[int, int], dict[str, int]]
    options: tuple[str, ...]
    summary: str
    joint: bool = False
    replaceable_roles: tuple[str, ...] = ()

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
        return self.tasks is not alone


STRATEGIES: dict[str, Strategy] = {
    "single": Strategy("facesim.training.single", alone, (), "one process, the yardstick"),
    "mirrored": Strategy(
        "facesim.training.mirrored",
        alone,
        ("workers",),
        "one process with a replica on each device; every step sums their gradients",
        joint=True,
    ),
    "ps-async": Strategy(
        "facesim.training.ps_async",
        served,
        ("workers", "ps"),
        "workers pull parameters from parameter servers and push gradients, none waiting for another",
        replaceable_roles=("worker",),
    ),
    "ps-sync": Strategy(
        "facesim.training.ps_sync",
        served,
        ("workers", "ps", "backup_workers"),
        "parameter servers again, but each update is made of a gradient from every worker, none stale",
        joint=True,
        replaceable_roles=("worker",),
    ),
    "allreduce": Strategy(
        "facesim.training.allreduce",
        peers,
        ("workers",),
        "every worker holds the parameters; every step sums the workers' gradients",
        joint=True,
    ),
    "local-sgd": Strategy(
        "facesim.training.local_sgd",
        peers,
        ("workers", "local_steps"),
        "every worker trains by itself; every few steps their parameters are averaged",
        joint=True,
    ),
    "independent": Strategy(
        "facesim.training.independent",
        peers,
        ("workers",),
        "every worker trains by itself on everything: the paper's mistake, kept to show what it costs",
        replaceable_roles=("chief", "worker"),
    ),
}


def host_of(strategy: Strategy, role: str, index: int, hosts: int) -> str:
    """The host, algo-1 to algo-`hosts`, whose part a task plays: a worker each; the chief and, one after another, the
    parameter servers beside the workers."""
    if role == "worker" and strategy.tasks is peers:
        index += 1  # the chief is the first of them
    return f"algo-{index % hosts + 1}"


#: Options that mean something to some strategies and nothing to the others.
STRATEGY_OPTIONS = {option for strategy in STRATEGIES.values() for option in strategy.options}

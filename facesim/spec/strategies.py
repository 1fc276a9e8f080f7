"""Strategies: how replicas train together, as far as it can be told without a framework.

A strategy is a class with its own options as fields. What it is made of (its layout, whether an update is joint, which
tasks may be replaced, how many replicas it has) is answered by the class; no caller asks which one it is. What trains
is imported only inside a training task.

A strategy of another package subclasses `Strategy` and is named by an entry point of `facesim.strategies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BeforeValidator, SerializeAsAny

from facesim.spec.base import Frozen, named_part
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.options import OneOf, option
from facesim.util.errors import InputError
from facesim.util.registry import Registry, resolve

if TYPE_CHECKING:
    from facesim.spec.shape import Shape
    from facesim.training.context import Context


class Layout(str, Enum):
    """What the tasks of a strategy are to each other."""

    #: One process.
    SINGLE_PROCESS = "single process"
    #: A chief that coordinates, workers that compute, parameter servers that hold the parameters.
    PARAMETER_SERVER = "parameter server"
    #: Workers that are all alike; the chief is the first of them and keeps the record.
    PEERS = "peers"


class Formula(NamedTuple):
    """By which formula the forecast has the seconds of an update: in words, and the formula's source."""

    words: str
    source: str = ""


class Strategy(Frozen):
    """How replicas train together. Subclasses say what they are in class variables, and have their options as fields.

    Attributes:
        summary: one line for listings.
        layout: what its tasks are to each other.
        replicated: whether it has several replicas, which may or may not train together.
        joint: whether all workers make an update together.
        asynchronous: whether other updates may come between a worker's reading of the parameters and its update.
        averaging: whether workers train by themselves in between, and what is joined is their parameters.
        sampled_heads: whether it trains heads of which an update computes a sample of the identities alone.
        replaceable_roles: roles of which a task may fail and come back while the others go on.
        trainers: by framework, where the function is that a training task calls with its context, `module:function`.
        formula: by which `facesim.forecast` forecasts it; None where it cannot be forecast.
    """

    summary: ClassVar[str]
    layout: ClassVar[Layout]
    replicated: ClassVar[bool] = True
    joint: ClassVar[bool] = False
    asynchronous: ClassVar[bool] = False
    averaging: ClassVar[bool] = False
    sampled_heads: ClassVar[bool] = False
    replaceable_roles: ClassVar[tuple[str, ...]] = ()
    trainers: ClassVar[Mapping[str, str]] = {}
    formula: ClassVar[Formula | None] = None

    name: str

    @property
    def coordinated(self) -> bool:
        """Whether the chief only coordinates what workers and parameter servers do; otherwise it trains as well."""
        return self.layout is Layout.PARAMETER_SERVER

    @property
    def distributed(self) -> bool:
        """Whether it is made for several hosts."""
        return self.layout is not Layout.SINGLE_PROCESS

    @property
    def options(self) -> dict[str, Any]:
        """Its own options and their values."""
        return self.model_dump(exclude={"name"})

    @property
    def steps_at_a_time(self) -> int:
        """Steps of which a worker tells at once; if it dies before, nobody knows how many of them it made."""
        return 1

    def known_at_once(self, steps: int) -> int:
        """Updates of which the results become known together, where so many `steps` have been handed out until then."""
        return 1

    def tasks(self, shape: Shape) -> dict[str, int]:
        """How many tasks it has of each role, in the order in which they are to be started."""
        if self.layout is Layout.PARAMETER_SERVER:
            return {"ps": shape.ps, "worker": shape.workers, "chief": 1}
        if self.layout is Layout.PEERS:
            return {"worker": shape.workers - 1, "chief": 1}
        return {"chief": 1}

    def replicas(self, shape: Shape) -> int:
        """How many replicas of the model compute gradients."""
        return shape.workers if self.replicated else 1

    def joint_workers(self, shape: Shape) -> int:
        """Workers whose gradients make one update together."""
        return shape.workers if self.joint else 1

    @classmethod
    def trains_together(cls) -> bool:
        """Whether its replicas, if it has several, train one model."""
        return cls.joint or cls.asynchronous or not cls.replicated

    @classmethod
    def declared_formula(cls) -> Formula | None:
        """Its `formula`; None for a class that only inherits one, because it trains in another way."""
        declared: Formula | None = vars(cls).get("formula")
        return declared

    def replaceable(self, role: str) -> bool:
        """Whether a task of this role may fail and come back while the others go on."""
        return role in self.replaceable_roles

    def host_of(self, role: str, index: int, hosts: int) -> str:
        """The host, algo-1 to algo-`hosts`, whose part a task plays: a worker each; the chief and, one after another,
        the parameter servers beside the workers.
        """
        if role == "worker" and self.layout is Layout.PEERS:
            index += 1  # the chief is the first of them
        return f"algo-{index % hosts + 1}"

    def check_framework(self, name: str) -> None:
        """Look whether a framework can train by it.

        Raises:
            ValueError: it cannot; the message says what can.
        """
        if name not in self.trainers:
            others = [each for each, strategy in STRATEGIES.available() if name in strategy.trainers]
            raise ValueError(
                f"--strategy {self.name} cannot be trained with --framework {name}: use --framework "
                f"{' or '.join(self.trainers)}, or a strategy that {name} has: {', '.join(others)}"
            )

    def check(self, shape: Shape) -> None:
        """Look whether it can train on a shape.

        Raises:
            ValueError: it cannot.
        """

    def train(self, context: Context) -> None:
        """Train in this process, the chief's or a peer's."""
        resolve(self.trainers[context.job.framework])(context)


def _in_all(module: str) -> dict[str, str]:
    """The trainers of a strategy that every built-in framework has, in a module of this name."""
    return {name: f"facesim.training.{name}.{module}:train" for name in (TENSORFLOW, "torch", "jax")}


class Single(Strategy):
    summary = "one process, the reference"
    layout = Layout.SINGLE_PROCESS
    replicated = False
    sampled_heads = True
    trainers = _in_all("single")
    formula = Formula("an update is one step")

    name: Literal["single"] = "single"


class Mirrored(Strategy):
    summary = "one process with a replica on each device; every step sums their gradients"
    layout = Layout.SINGLE_PROCESS
    joint = True
    sampled_heads = True
    trainers = {TENSORFLOW: "facesim.training.tensorflow.mirrored:train"}
    formula = Formula("all replicas share the host's cores: w C, and 2 (w-1) copies of the parameters")

    name: Literal["mirrored"] = "mirrored"


class PsAsync(Strategy):
    summary = "workers pull parameters from parameter servers and push gradients, none waiting for another"
    layout = Layout.PARAMETER_SERVER
    asynchronous = True
    replaceable_roles = ("worker",)
    sampled_heads = True
    trainers = {TENSORFLOW: "facesim.training.tensorflow.ps_async:train"}
    formula = Formula(
        "T = computing, then pulling and pushing, each stretched by the others at the same processor or link; X = the "
        "sum of 1 / T over the workers, in updates a second, and an update takes 1 / X",
        "mean value analysis of a closed queueing network: Reiser and Lavenberg, JACM 1980; whose tasks share the "
        "processors of hosts: Baskett et al., JACM 1975; Li, Yan, Paolieri, Golubchik, ICPE 2020",
    )

    name: Literal["ps-async"] = "ps-async"
    steps_per_dispatch: int = option(1, "steps handed to a worker at once", "Cluster", resumable=True, ge=1, le=64)

    @property
    def steps_at_a_time(self) -> int:
        return self.steps_per_dispatch

    def known_at_once(self, steps: int) -> int:
        return self.steps_per_dispatch if steps >= self.steps_per_dispatch else 1  # too few are handed out one by one


class PsSync(Strategy):
    summary = "parameter servers again, but each update is made of a gradient from every worker, none stale"
    layout = Layout.PARAMETER_SERVER
    joint = True
    replaceable_roles = ("worker",)
    sampled_heads = True
    trainers = {TENSORFLOW: "facesim.training.tensorflow.ps_sync:train"}
    formula = Formula(
        "T = E[slowest worker] + pulling and pushing by all",
        "order statistic: Chen et al., Revisiting distributed synchronous SGD, 2016; the sum: Peng et al., Optimus, "
        "EuroSys 2018",
    )

    name: Literal["ps-sync"] = "ps-sync"
    backup_workers: int = option(0, "workers that may be late for an update", "Cluster", resumable=True, ge=0)

    def joint_workers(self, shape: Shape) -> int:
        return shape.workers - self.backup_workers

    def check(self, shape: Shape) -> None:
        if self.backup_workers >= shape.workers:
            raise ValueError(f"--backup-workers {self.backup_workers} must be fewer than --workers {shape.workers}")


class AllReduce(Strategy):
    summary = "every worker holds the parameters; every step sums the workers' gradients"
    layout = Layout.PEERS
    joint = True
    sampled_heads = True
    trainers = _in_all("allreduce")
    formula = Formula(
        "T = E/3 + |2E/3, summing|_p, E = the slowest worker's computing: summing may overlap the backward pass",
        "Qiao et al., Pollux, OSDI 2021",
    )

    name: Literal["allreduce"] = "allreduce"


class LocalSgd(Strategy):
    summary = "every worker trains by itself; every few steps their parameters are averaged"
    layout = Layout.PEERS
    joint = True
    averaging = True
    sampled_heads = True
    trainers = _in_all("local_sgd")
    formula = Formula(
        "T = (E[slowest sum of H steps] + averaging) / H",
        "Stich, Local SGD converges fast and communicates little, ICLR 2019",
    )

    name: Literal["local-sgd"] = "local-sgd"
    local_steps: int = option(8, "steps between averagings", "Cluster", ge=1)

    def known_at_once(self, steps: int) -> int:
        return min(steps, self.local_steps)  # fewer at the end of an epoch


class Independent(Strategy):
    summary = "every worker trains by itself on everything: the paper's mistake, kept to show what it costs"
    layout = Layout.PEERS
    replaceable_roles = ("chief", "worker")
    sampled_heads = True
    trainers = {TENSORFLOW: "facesim.training.tensorflow.independent:train"}
    formula = Formula("every worker trains by itself")

    name: Literal["independent"] = "independent"


#: Strategy classes by name.
STRATEGIES: Registry[type[Strategy]] = Registry(
    "strategy",
    "facesim.strategies",
    {
        "single": Single,
        "mirrored": Mirrored,
        "ps-async": PsAsync,
        "ps-sync": PsSync,
        "allreduce": AllReduce,
        "local-sgd": LocalSgd,
        "independent": Independent,
    },
)


def known_strategy(name: str) -> type[Strategy] | None:
    """The class of the strategy called `name`; None where it is not known here, such as a plugin's that is gone."""
    try:
        return STRATEGIES.get(name)
    except InputError:
        return None


def options_without_meaning(name: str) -> set[str]:
    """Options of strategies, and fields of a shape, that mean nothing to the strategy called `name`."""
    kind = STRATEGIES[name]
    every = {field for _, strategy in STRATEGIES.available() for field in strategy.model_fields} - {"name"}
    servers, hosts = kind.layout is Layout.PARAMETER_SERVER, kind.layout is not Layout.SINGLE_PROCESS
    shared = {"workers": kind.replicated, "workers_per_host": hosts, "ps": servers, "ps_instance_type": servers}
    return (every - set(kind.model_fields)) | {field for field, used in shared.items() if not used}


def _strategy_of(given: Any) -> Any:
    """A strategy from its name, or from its fields as JSON has them."""
    return named_part(given, Strategy, STRATEGIES, "single")


#: A field that holds any strategy: given as one, by its name, or by its fields.
AnyStrategy = Annotated[
    SerializeAsAny[Strategy], BeforeValidator(_strategy_of), OneOf("facesim.spec.strategies:STRATEGIES")
]

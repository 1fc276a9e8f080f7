"""A job: `Experiment` x strategy x `Shape`, and where it runs. Frozen, validated on the way in, JSON in and out.

Everything inside facesim may rely on a `Job` being valid: `make_job` is the one place where bad values are reported
to the user.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Any

import pydantic
from pydantic import model_validator

from facesim.spec.backends import BACKENDS, AnyBackend, Local
from facesim.spec.base import Frozen
from facesim.spec.experiment import Experiment
from facesim.spec.faults import Fault, Targets, kept_faults, make_faults, read_faults
from facesim.spec.frameworks import FRAMEWORKS, TENSORFLOW
from facesim.spec.options import NameIn, Option, fields, flag, option
from facesim.spec.recovery import Recovery
from facesim.spec.remote import remote
from facesim.spec.shape import Shape
from facesim.spec.spot import Spot
from facesim.spec.strategies import STRATEGIES, AnyStrategy, Single
from facesim.util.errors import InputError
from facesim.util.registry import Registry, resolve
from facesim.util.words import count_text

#: Of options that have more values with TensorFlow, those that every framework has.
_EVERYWHERE = {"optimizer": ("adam",), "precision": ("float32", "bfloat16")}


class Job(Frozen):
    """One thing to run: an experiment, trained by a strategy, on a shape, by a backend.

    With `spot` its hosts are spot capacity, which may be taken away. `max_run_s` bounds the seconds for which it has
    its hosts, `max_wait_s` those from submission to end, waiting for capacity included.
    """

    experiment: Experiment = Experiment()
    strategy: AnyStrategy = option(Single(), "how replicas train together", "Training", common=True, shown="single")
    framework: Annotated[str, NameIn("facesim.spec.frameworks:FRAMEWORKS")] = option(
        "tensorflow", "what computes: tensorflow, or torch or jax where facesim-cluster[torch] or [jax] is installed",
        "Training", common=True,
    )  # fmt: skip
    shape: Shape = Shape()
    recovery: Recovery = Recovery()
    backend: AnyBackend = option(Local(), "where to run", "Cluster", common=True, shown="local")
    sampling_s: float = option(1.0, "seconds between resource samples", "Output", ge=0.05, le=60)
    spot: Spot | None = None
    max_run_s: float | None = option(
        None,
        "seconds for which a run may have its hosts",
        "Cost and spot",
        shown="no limit; at AWS a day",
        name="max_run",
        gt=0,
    )
    max_wait_s: float | None = option(
        None,
        "the same, with the waits for spot capacity",
        "Cost and spot",
        shown="no limit; at AWS twice --max-run",
        name="max_wait",
        gt=0,
    )
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_an_older_version(cls, given: Any) -> Any:
        return _updated(given) if isinstance(given, dict) and isinstance(given.get("strategy"), str) else given

    @model_validator(mode="after")
    def _can_be_run(self) -> Job:
        if self.max_wait_s is not None and self.spot is None:
            raise ValueError("--max-wait is for spot capacity: give --spot, too, or --max-run alone")
        if self.max_wait_s is not None and self.max_run_s is not None and self.max_wait_s < self.max_run_s:
            raise ValueError(
                f"--max-wait {self.max_wait_s:g} must be at least --max-run {self.max_run_s:g}: it counts running, too"
            )
        address = remote(self.experiment.data)
        if address and address.scheme not in self.backend.reads:
            raise ValueError(
                f"--data {self.experiment.data} is read by hosts at AWS, with --backend sagemaker; for --backend "
                f"{self.backend.name} copy it to this machine (aws s3 cp --recursive), and give that folder"
            )
        self.strategy.check_framework(self.framework)
        for name, everywhere in _EVERYWHERE.items() if self.framework != TENSORFLOW else ():
            if (value := getattr(self.experiment, name)) not in everywhere:
                raise ValueError(
                    f"--{name} {value} is for --framework {TENSORFLOW}; {self.framework} has {' and '.join(everywhere)}"
                )
        installed = self.backend.frameworks
        if installed is not None and self.framework not in installed:
            raise ValueError(
                f"there is no image with --framework {self.framework} for --backend {self.backend.name}, only with "
                f"{', '.join(installed)}: use one of these, or --backend local"
            )
        self.strategy.check(self.shape)
        return self

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks of its cluster, such as worker-1."""
        counts = self.strategy.tasks(self.shape)
        return [f"{role}-{index}" for role, count in counts.items() for index in range(count)]

    @property
    def replicas(self) -> int:
        """How many replicas of the model compute gradients."""
        return self.strategy.replicas(self.shape)

    @property
    def joint_workers(self) -> int:
        """Workers whose gradients make one update together."""
        return self.strategy.joint_workers(self.shape)

    @property
    def update_batch(self) -> int:
        """Examples in one update: `batch`, or `batch` for each of the workers that make it when the rate is scaled."""
        return self.experiment.batch * (1 if self.experiment.scale_lr == "none" else self.joint_workers)

    @property
    def learning_rate(self) -> float:
        """The rate that belongs to `update_batch` examples.

        `linear` multiplies it by the workers that make an update (Goyal et al., 2017), `sqrt` by the root of their
        number (Krizhevsky, 2014; the rule for Adam in Malladi et al., 2022).
        """
        factor = {"none": 1.0, "linear": self.joint_workers, "sqrt": self.joint_workers**0.5}
        return self.experiment.learning_rate * factor[self.experiment.scale_lr]

    @property
    def models(self) -> int:
        """How many models are trained, each with checkpoints of its own."""
        return 1 if self.strategy.trains_together() else self.replicas

    @property
    def hosts(self) -> int:
        """Hosts of workers, with one each or several. The chief is on one of them, and so are parameter servers without
        hosts of their own.
        """
        return math.ceil(self.shape.workers / self.shape.workers_per_host) if self.strategy.distributed else 1

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Instances that the job is billed for, as (type, count): the workers', and parameter servers' of their own."""
        ps_type = self.shape.ps_instance_type if self.strategy.coordinated else None
        return [(self.shape.instance_type, self.hosts), *([(ps_type, self.shape.ps)] if ps_type else [])]


#: The parts of a job that have options of their own, with what they can be.
PARTS: Mapping[str, Registry[Any]] = {"strategy": STRATEGIES, "backend": BACKENDS}

#: What decides which other options a job has (`Option.part`), with what it can be.
DECIDING: Mapping[str, Registry[Any]] = {**PARTS, "framework": FRAMEWORKS}

#: The same, with what it is where it is left out.
DEFAULTS: Mapping[str, str] = {"strategy": "single", "backend": "local", "framework": TENSORFLOW}

#: Fields that belonged to other parts of a job before strategies and backends had options of their own.
_MOVED = {"steps_per_dispatch": "shape", "backup_workers": "shape", "local_steps": "experiment"}


def _updated(given: Mapping[str, Any]) -> dict[str, Any]:
    """A job as versions up to 0.1 wrote it, in today's form. A strategy or backend that is only named stays so."""
    job = {name: dict(value) if isinstance(value, Mapping) else value for name, value in given.items()}
    values: dict[str, dict[str, Any]] = {
        part: {"name": job[part]}
        for part, registry in PARTS.items()
        if isinstance(job.get(part), str) and job[part] in registry
    }
    for name, part in _MOVED.items():
        value = job[part].pop(name, None) if isinstance(job.get(part), dict) else None
        if value is not None and "strategy" in values and name in STRATEGIES[values["strategy"]["name"]].model_fields:
            values["strategy"][name] = value
    account = job.pop("aws", None) or {}
    if account.get("ps_instance_type") and isinstance(job.get("shape"), dict):
        job["shape"]["ps_instance_type"] = account["ps_instance_type"]
    if "backend" in values:
        known = BACKENDS[values["backend"]["name"]].model_fields
        values["backend"] |= {name: value for name, value in account.items() if name in known}
    return job | values


@cache
def options() -> Mapping[str, Option]:
    """Every option of a job by its name, in the order in which the parts of a job define them."""
    parts = [
        *fields(Job),
        *fields(Experiment, ("experiment",)),
        *fields(Shape, ("shape",)),
        *fields(Recovery, ("recovery",)),
        *fields(Spot, ("spot",), prefix="spot_"),
        *(part for name, kind in STRATEGIES.available() for part in fields(kind, ("strategy",), of=name)),
        *(part for name, kind in BACKENDS.available() for part in fields(kind, ("backend",), of=name)),
    ]
    table: dict[str, Option] = {}
    for part in parts:
        known = table.get(part.name)
        table[part.name] = replace(known, of=(*known.of, *part.of)) if known else part
    return table


def schema_of(one: Option) -> dict[str, Any]:
    """The JSON schema of an option's value, as a TOML file has it."""
    parts: dict[str, type[pydantic.BaseModel]] = {
        "experiment": Experiment, "shape": Shape, "recovery": Recovery, "spot": Spot,
    }  # fmt: skip
    part = PARTS[one.part][one.of[0]] if one.of and one.part in PARTS else None
    model = part or parts.get(one.path[0], Job)
    known = model.model_json_schema()["properties"][one.path[-1]]
    limits = {**known, **next((kind for kind in known.get("anyOf", []) if kind.get("type") != "null"), {})}
    for name in ("anyOf", "title", "additionalProperties", "$ref", "allOf"):
        limits.pop(name, None)
    if one.several:
        limits |= {"type": "string"}
        limits.pop("items", None)
    if one.choices and "enum" not in limits:
        limits |= {"type": "string"} if one.open else {"type": "string", "enum": one.choices()}
    default = limits.pop("default", None)
    plain = isinstance(default, (bool, int, float, str))
    return {"description": one.help, **{k: v for k, v in limits.items() if k != "description"}} | (
        {"default": default} if plain else {}
    )


def make_job(*, faults: Sequence[dict[str, Any]] | str | None = (), **given: Any) -> Job:
    """Make a job from flat options (`epochs=5, workers=2, strategy="ps-async"`); what is left out, or None, is the
    default. `faults` are as `facesim.spec.faults.read_faults` takes or returns them. `spot=True`, or any option of
    spot capacity unless `spot=False`, asks for spot capacity.

    Raises:
        InputError: an option is unknown, means nothing to the job's strategy or backend, or its value is not allowed;
            the message names all that are wrong.
    """
    spot = given.pop("spot", None)
    nested, wrong = _nested({name: value for name, value in given.items() if value is not None})
    if not isinstance(spot, bool | None):
        message = f"{flag('spot')} {spot!r} is not allowed: true or false"
        wrong.append(InputError(message, field="spot", value=spot, allowed=[True, False]))
    if spot is False or not (spot or nested["spot"]):
        nested["spot"] = None
    for part, registry in PARTS.items():
        given_part = nested[part]
        try:
            nested[part] = registry[registry.check(given_part["name"])].model_validate(given_part)
        except pydantic.ValidationError as error:
            wrong += [_tell({**problem, "loc": (part, *problem["loc"])}) for problem in error.errors()]
            nested[part] = registry[given_part["name"]]()
        except ValueError as error:
            message = f"{flag(part)} {given_part['name']!r} is not allowed: {error}"
            wrong.append(InputError(message, field=part, value=given_part["name"], allowed=list(registry)))
            del nested[part]
    try:
        job = Job.model_validate(nested)
    except pydantic.ValidationError as error:
        wrong += [_tell(problem) for problem in error.errors()]
    if wrong:
        raise InputError.of(wrong)
    # Reads the files that it names: better told now. By name, for what capacity does lies on a floor above.
    resolve("facesim.billing.market:market")(job.spot, job.hosts, job.experiment.seed)
    if not faults:
        return job
    read = read_faults(faults) if isinstance(faults, str) else faults
    return job.model_copy(update={"faults": make_faults(read, _targets(job))})


def _targets(job: Job) -> Targets:
    return Targets(job.tasks, [f"algo-{number}" for number in range(1, job.hosts + 1)])


def _nested(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[InputError]]:
    """Flat options as a job nests them, and what is wrong with them."""
    table = options()
    wrong: list[InputError] = []
    parts = {part: str(given.get(part, default)) for part, default in DEFAULTS.items()}
    nested: dict[str, Any] = {
        "experiment": {}, "shape": {}, "recovery": {}, "spot": {},
        "strategy": {"name": parts["strategy"]}, "backend": {"name": parts["backend"]},
    }  # fmt: skip
    for name, value in given.items():
        if name not in table:
            close = difflib.get_close_matches(name, [*table, "spot"], n=1)
            remedy = f"did you mean {flag(close[0])}?" if close else None
            shown = flag(name) if name.isidentifier() else repr(name)
            message = f"unknown option {shown}" + (f"; {remedy}" if remedy else "")
            wrong.append(InputError(message, field=name, value=value, allowed=[*table, "spot"], remedy=remedy))
        elif isinstance(value, bool) and table[name].kind in (int, float):  # else True would be 1
            message = f"{flag(name)} {value!r} is not allowed: a number"
            wrong.append(InputError(message, field=name, value=value, allowed="a number"))
        elif name in ("strategy", "backend"):
            continue
        elif not table[name].is_of(parts):
            part = table[name].part
            if parts[part] in DECIDING[part]:
                wrong.append(means_nothing(table[name], value, part, parts[part]))
        else:
            *path, last = table[name].path
            (nested[path[0]] if path else nested)[last] = value
    return nested, wrong


def means_nothing(unused: Option, value: Any, part: str, name: str) -> InputError:
    """An option has a value, and a job's strategy, backend or framework (`part`), called `name`, does not have it."""
    return InputError(
        f"{unused.flag} {value!r} means nothing to {flag(part)} {name}: it is an option of {' and '.join(unused.of)}; "
        "leave it out",
        field=unused.name,
        value=value,
        allowed=f"with {part} {' or '.join(unused.of)}",
        remedy="leave it out",
    )


def flat(job: Job) -> dict[str, Any]:
    """The job's options as `make_job` takes them, faults apart."""
    fields = job.model_dump()
    values: dict[str, Any] = {
        "strategy": job.strategy.name, "backend": job.backend.name, "framework": job.framework,
    }  # fmt: skip
    parts = dict(values)
    for name, one in options().items():
        if name not in parts and one.is_of(parts):
            values[name] = _at(fields, one.path)
    return values


#: Options of a backend that change nothing about a run: what it is called by, and what it may cost.
BESIDE_THE_RUN = frozenset({"tags", "max_cost", "on_interrupt"})


def job_sha256(job: Job) -> str:
    """The identity of a job: equal for jobs that would be the same run. What is in its data is not part of it."""
    fields = job.model_dump(mode="json")
    fields["backend"] = {name: value for name, value in fields["backend"].items() if name not in BESIDE_THE_RUN}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def changed_job(job: Job, changes: dict[str, Any]) -> Job:
    """The same experiment by the same strategy with other options, as `make_job` takes them: other workers, say. It
    keeps its faults unless they are changed.

    Raises:
        InputError: a change would make it another experiment, is not allowed, or leaves a fault without its target.
    """
    current = flat(job)
    named = {name: value for name in ("strategy", "backend") if (value := changes.get(name)) is not None}
    _check_same(current, named)  # first: the options of another strategy would mean nothing here
    asked, table = {part: changes.get(part) or current[part] for part in DEFAULTS}, options()
    kept = {name: value for name, value in current.items() if table[name].is_of(asked)}
    other = make_job(**{**kept, **changes})
    parts = ("experiment", "strategy")
    fixed = {name for name, one in options().items() if one.path[0] in parts and not one.about.resumable}
    _check_same(current, {name: value for name, value in flat(other).items() if name in fixed & current.keys()})
    _check_updates(job, other)
    if "faults" in changes:
        return other
    return other.model_copy(update={"faults": kept_faults(job.faults, _targets(job), _targets(other))})


def _check_same(current: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    for name, value in changed.items():
        if current[name] != value:
            raise InputError(
                f"the experiment of a run cannot be changed: it has {flag(name)} {current[name]}, not {value}; "
                "leave that out, or start a new run",
                field=name,
                value=value,
                allowed=[current[name]],
                remedy="leave that out, or start a new run",
            )


def _check_updates(job: Job, other: Job) -> None:
    """See that updates stay what they are: checkpoints count them, and schedules and rates go by them."""
    if (job.update_batch, job.learning_rate) != (other.update_batch, other.learning_rate):
        raise InputError(
            f"with --scale-lr {job.experiment.scale_lr} an update by {count_text(job.joint_workers, 'worker')} is of "
            f"{count_text(job.update_batch, 'example')}, and one by {other.joint_workers} would be of "
            f"{other.update_batch}: continue with as many workers as make an update now, or start a new run",
            field="workers",
            value=other.shape.workers,
            allowed=[job.shape.workers],
        )


def _at(nested: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        nested = nested and nested[name]  # a part that is None has no fields
    return nested


#: Parts of a job that are checked as a whole, too.
_PARTS = ("experiment", "shape", "spot", "strategy", "backend", "recovery")


def _tell(problem: Any) -> InputError:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"] or problem["loc"][-1] in _PARTS:  # of several fields: the message names them
        return InputError(message)
    message = message.removeprefix("Input should be ")
    place = tuple(problem["loc"])
    fitting = [one for one in options().values() if one.path == place[: len(one.path)]]
    name = max(fitting, key=lambda one: len(one.path)).name if fitting else str(place[-1])
    text = f"{flag(name)} {problem['input']!r} is not allowed: {message}"
    return InputError(text, field=name, value=problem["input"], allowed=message)

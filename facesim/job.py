"""What is to be run: `Experiment` x strategy x `Shape` = `Job`. Frozen, validated on the way in, JSON in and out.

Everything inside facesim may rely on a `Job` being valid: `make_job` is the one place where bad values are told to the
user.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from facesim.aws.settings import Aws
from facesim.billing.catalogue import instance
from facesim.billing.market import Spot, market
from facesim.errors import InputError
from facesim.faults import Fault, make_faults
from facesim.models import HEADS, MODELS
from facesim.recipes import RECIPES
from facesim.subset import Subset
from facesim.training import STRATEGIES

#: The shortest time after which a task may be taken for hung.
MIN_HANG_S = 2.0


def _one_of(allowed: dict[str, Any]) -> AfterValidator:
    def check(value: str) -> str:
        if value not in allowed:
            close = difflib.get_close_matches(value, allowed, n=1)
            raise ValueError(f"must be one of {', '.join(allowed)}" + (f"; did you mean {close[0]}?" if close else ""))
        return value

    return AfterValidator(check)


def _known_instance(name: str) -> str:
    try:
        return instance(name).name
    except InputError as error:
        raise ValueError(str(error)) from None


def _subset(text: str) -> str | None:
    """A subset in its one spelling; None where it is everything."""
    try:
        subset = Subset.parse(text)
    except InputError as error:
        raise ValueError(str(error)) from None
    return None if subset == (None, None) else str(subset)


def _none_or_some_seconds(hang_s: float) -> float:
    if 0 < hang_s < MIN_HANG_S:
        raise ValueError(f"must be 0, for never, or at least {MIN_HANG_S:g} s: a busy machine may not answer sooner")
    return hang_s


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Experiment(_Frozen):
    """What is trained: data, model, optimiser settings, budget and seed.

    `batch` is the number of examples in one update of the parameters, whatever the strategy: a comparison at the same
    `batch` and `epochs` compares the same number of updates from the same number of examples. With `scale_lr` it is
    what each worker computes at a time: see `Job.update_batch`.

    `subset` (`identities=20,images=5`) uses a part of the data, chosen by `seed` before anything is held out.

    `image_feature` and `label_feature` are what TFRecord files call them, where these are not the usual names.

    `recipe` gives the defaults of the fields that are left out, where it has one. `margin` is that of a margin head: a
    cosine for cosface, radians for arcface. `warmup` is the share of all updates in which a cosine schedule rises;
    `weight_decay` is AdamW's, 0 makes it Adam; `clip_norm` bounds the norm of the whole gradient. With `mirror_test` a
    model is tested on each image and its mirror image, averaged.

    `pretrained`, a run directory or a .keras file, is what training starts from, but for the head.
    """

    recipe: Annotated[str, _one_of(RECIPES)] = "paper"
    data: str = "rendered"
    subset: Annotated[str, AfterValidator(_subset)] | None = None
    model: Annotated[str, _one_of(MODELS)] = "paper-cnn"
    head: Annotated[str, _one_of(HEADS)] = "softmax"
    pretrained: str | None = None
    margin: float = Field(0.2, ge=0, le=1)
    margin_scale: float = Field(30.0, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    image_size: int = Field(64, ge=32, le=512)
    channels: Literal[1, 3] = 3
    held_out: float = Field(0.2, gt=0, lt=1)
    max_bad_files: float = Field(0.05, ge=0, le=1)
    min_images: int | None = Field(None, ge=2)
    image_feature: str | None = None
    label_feature: str | None = None
    epochs: int = Field(50, ge=1)
    batch: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, lt=1)
    clip_norm: float | None = Field(None, gt=0)
    augment: bool = False
    mirror_test: bool = False
    scale_lr: Literal["none", "linear", "sqrt"] = "none"
    warmup_epochs: int = Field(5, ge=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    cache: Literal["memory", "disk", "none"] = "memory"
    local_steps: int = Field(8, ge=1)
    evaluate_every: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _with_recipe(cls, given: dict[str, Any]) -> dict[str, Any]:
        recipe = RECIPES.get(given.get("recipe", "paper"))
        return {**recipe.settings, **given} if recipe else given

    @model_validator(mode="after")
    def _keeps_a_subset(self) -> Experiment:
        if self.subset and self.cache == "none":
            raise ValueError("--subset keeps the images that it chooses: use --cache disk or memory with it, not none")
        return self


class Shape(_Frozen):
    """The machines: how many workers and parameter servers, of which instance type, with how many threads each.

    `steps_per_dispatch` is how many steps a parameter-server worker is handed at a time.
    """

    workers: int = Field(2, ge=1, le=64)
    ps: int = Field(1, ge=1, le=64)
    backup_workers: int = Field(0, ge=0)
    steps_per_dispatch: int = Field(1, ge=1, le=64)
    threads: int | None = Field(None, ge=1)
    instance_type: Annotated[str, AfterValidator(_known_instance)] = "ml.m5.2xlarge"

    @pydantic.model_validator(mode="after")
    def _some_worker_is_waited_for(self) -> Shape:
        if self.backup_workers >= self.workers:
            raise ValueError(f"--backup-workers {self.backup_workers} must be fewer than --workers {self.workers}")
        return self


class Recovery(_Frozen):
    """What a run does against failure: how often it writes checkpoints, how many it keeps, how often it may restart.

    A checkpoint is due when `checkpoint_s` seconds or `checkpoint_steps` updates have passed since the last, 0 for
    never; one is always written when a run is stopped. `checkpoint_dir` holds a folder for each run; left out, they lie
    in the run directory.

    A task, or the node that watches them, hangs when it has made no progress for `hang_s` seconds and for twenty of
    its own steps; start-up, evaluation and checkpoints may take five minutes. It is then treated as one that died.
    0: a run waits for ever.
    """

    checkpoint_s: float = Field(30.0, ge=0)
    checkpoint_steps: int = Field(0, ge=0)
    checkpoint_keep: int = Field(2, ge=1)
    checkpoint_dir: str | None = None
    max_restarts: int = Field(3, ge=0)
    hang_s: Annotated[float, AfterValidator(_none_or_some_seconds)] = Field(60.0, ge=0)


class Job(_Frozen):
    """One thing to run: an experiment, trained by a strategy, on a shape, by a backend.

    With `spot` its hosts are spot capacity, which may be taken away. `max_run_s` bounds the seconds for which it has
    its hosts, `max_wait_s` those from submission to end, waiting for capacity included.
    """

    experiment: Experiment = Experiment()
    strategy: Annotated[str, _one_of(STRATEGIES)] = "single"
    shape: Shape = Shape()
    recovery: Recovery = Recovery()
    backend: str = "local"
    aws: Aws = Aws()
    sampling_s: float = Field(1.0, ge=0.05, le=60)
    spot: Spot | None = None
    max_run_s: float | None = Field(None, gt=0)
    max_wait_s: float | None = Field(None, gt=0)
    faults: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _waits_for_spot_capacity_only(self) -> Job:
        if self.max_wait_s is not None and self.spot is None:
            raise ValueError("--max-wait is for spot capacity: give --spot, too, or --max-run alone")
        if self.max_wait_s is not None and self.max_run_s is not None and self.max_wait_s < self.max_run_s:
            raise ValueError(
                f"--max-wait {self.max_wait_s:g} must be at least --max-run {self.max_run_s:g}: it counts running, too"
            )
        return self

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks of its cluster, such as worker-1."""
        counts = STRATEGIES[self.strategy].tasks(self.shape.workers, self.shape.ps)
        return [f"{role}-{index}" for role, count in counts.items() for index in range(count)]

    @property
    def replicas(self) -> int:
        """How many replicas of the model compute gradients."""
        return self.shape.workers if STRATEGIES[self.strategy].replicated else 1

    @property
    def joint_workers(self) -> int:
        """Workers whose gradients make one update together."""
        together = self.shape.workers - self.shape.backup_workers if self.strategy == "ps-sync" else self.shape.workers
        return together if STRATEGIES[self.strategy].joint else 1

    @property
    def steps_at_a_time(self) -> int:
        """Steps of which a worker tells at once; if it dies before, nobody knows how many of them it made."""
        return self.shape.steps_per_dispatch if "steps_per_dispatch" in STRATEGIES[self.strategy].options else 1

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
    def hosts(self) -> int:
        """Hosts of workers, one each. The chief is on one of them, and parameter servers without hosts of their own."""
        return self.shape.workers if STRATEGIES[self.strategy].distributed else 1

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Instances that the job is billed for, as (type, count): the workers', and parameter servers' of their own."""
        own = self.aws.ps_instance_type if "ps" in STRATEGIES[self.strategy].options else None
        return [(self.shape.instance_type, self.hosts), *([(own, self.shape.ps)] if own else [])]


#: Where each option of the command line, and each key of a configuration file, goes in a Job.
_PLACES: dict[str, tuple[str, ...]] = (
    {name: ("experiment", name) for name in Experiment.model_fields}
    | {name: ("shape", name) for name in Shape.model_fields}
    | {name: ("aws", name) for name in Aws.model_fields}
    | {name: ("recovery", name) for name in Recovery.model_fields}
    | {f"spot_{name}": ("spot", name) for name in Spot.model_fields}
    | {"max_run": ("max_run_s",), "max_wait": ("max_wait_s",)}
    | {name: (name,) for name in ("strategy", "backend", "sampling_s")}
)


def make_job(*, faults: Sequence[dict[str, Any]] = (), **options: Any) -> Job:
    """Make a job from flat options (`epochs=5, workers=2, strategy="ps-async"`); what is left out, or None, is the
    default. `faults` are as `facesim.faults.read_faults` returns them. `spot=True`, or any option of
    spot capacity unless `spot=False`, asks for spot capacity.

    Raises:
        InputError: an option is unknown or its value is not allowed; the message names all that are wrong.
    """
    spot = options.pop("spot", None)
    nested: dict[str, Any] = {"experiment": {}, "shape": {}, "recovery": {}, "aws": {}, "spot": {}}
    for name, value in options.items():
        if name not in _PLACES:
            close = difflib.get_close_matches(name, _PLACES, n=1)
            raise InputError(f"unknown option {flag(name)}" + (f"; did you mean {flag(close[0])}?" if close else ""))
        if value is not None:
            *path, last = _PLACES[name]
            (nested[path[0]] if path else nested)[last] = value
    if spot is False or not (spot or nested["spot"]):
        nested["spot"] = None
    try:
        job = Job.model_validate(nested)
    except pydantic.ValidationError as error:
        raise InputError("; ".join(_tell(problem) for problem in error.errors())) from None
    market(job.spot, job.hosts, job.experiment.seed)  # reads the files that it names: better told now
    hosts = [f"algo-{number}" for number in range(1, job.hosts + 1)]
    return job.model_copy(update={"faults": make_faults(faults, job.tasks, hosts)}) if faults else job


def changed_job(job: Job, changes: dict[str, Any]) -> Job:
    """The same experiment by the same strategy with other options, as `make_job` takes them: other workers, say.

    Raises:
        InputError: a change would make it another experiment, or is not allowed.
    """
    kept = job.model_dump(exclude={"faults"})
    flat = {name: _at(kept, path) for name, path in _PLACES.items()}
    other = make_job(**{**flat, **changes})
    fixed = [name for name, path in _PLACES.items() if path[0] in ("experiment", "strategy", "backend")]
    for name in fixed:
        mine, theirs = flat[name], _at(other.model_dump(), _PLACES[name])
        if mine != theirs:
            raise InputError(
                f"a run goes on as the experiment that it is: it has {flag(name)} {mine}, not {theirs}; "
                "leave that out, or start a new run"
            )
    return other


def _at(nested: dict[str, Any], path: tuple[str, ...]) -> Any:
    for name in path:
        nested = nested and nested[name]  # a part that is None has no fields
    return nested


def flag(name: str) -> str:
    """The command line's spelling of an option: `learning_rate` -> `--learning-rate`."""
    return "--" + name.replace("_", "-")


#: Parts of a job that are checked as a whole, too.
_PARTS = ("experiment", "shape", "spot", "aws")


def _tell(problem: Any) -> str:
    if not problem["loc"] or problem["loc"][-1] in _PARTS:  # of several fields: the message names them
        return problem["msg"].removeprefix("Value error, ")
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    option = next((name for name, place in _PLACES.items() if place == problem["loc"]), str(problem["loc"][-1]))
    return f"{flag(option)} {problem['input']!r} is not allowed: {message}"

"""What was measured on one machine, and is forecast from: frozen, validated, JSON in and out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from facesim.forecast import placement
from facesim.spec.experiment import Precision
from facesim.spec.frameworks import TENSORFLOW
from facesim.spec.strategies import PsAsync
from facesim.util.errors import InputError
from facesim.util.files import read_text, why_unread, write_text

#: 2: workers may send parameter servers the factors of a gradient.
SCHEMA_VERSION = 2

#: Numbers above these, in whatever unit, were not measured.
_MOST = 1e12

#: Asynchronous workers that share the machine's cores while it is profiled.
WORKERS = 4


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _can_be(cls, value: Any) -> Any:
        several = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        if any(isinstance(each, (int, float)) and abs(each) > _MOST for each in several):
            raise ValueError(f"is above {_MOST:g}, which nothing that is measured can be")
        return value


class Machine(_Frozen):
    """The machine that was profiled. The kernels stand for it in the catalogue: sustained float32 GFLOP/s of a matrix
    product and of a convolution, with as many threads as training had.
    """

    processor: str = ""
    cores: int = Field(ge=1)
    sgemm_gflops: float = Field(ge=1e-3)
    convolution_gflops: float | None = Field(None, gt=0)

    @property
    def core_flops_per_s(self) -> float:
        """Of a matrix product on one core."""
        return 1e9 * self.sgemm_gflops / self.cores


class Compute(_Frozen):
    """Computing one step at a batch of one worker. `cv` is the spread of its steps over their mean; `repeats_s` are
    means of a step in fresh processes.
    """

    batch: int = Field(ge=1)
    step_s: float = Field(gt=0)
    forward_s: float | None = Field(None, ge=0)
    backward_s: float | None = Field(None, ge=0)
    cv: float = Field(0.0, ge=0)
    repeats_s: tuple[Annotated[float, Field(gt=0)], ...] = ()


class Variable(_Frozen):
    """A variable of the model in the order of creation; `server` is where it lay, if there were servers.

    Workers are sent `sent_bytes` of it, and send `pushed_bytes` of its gradient; None: as many. Of one whose gradient
    is a product of two matrices, which servers can make, these have so many `factor_rows` for each example of a step; 0
    where it is none.
    """

    name: str
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    held_bytes: int = Field(ge=0)
    sent_bytes: int = Field(ge=0)
    pushed_bytes: int | None = Field(None, ge=0)
    trainable: bool = True
    server: int | None = Field(None, ge=0)
    factor_rows: float = Field(0.0, ge=0)

    def placed(self, batch: float) -> placement.Variable:
        """As it is placed, in steps of `batch` examples."""
        rows = batch * self.factor_rows
        return placement.Variable(self.shape, self.held_bytes, self.sent_bytes, self.trainable, rows, self.pushed_bytes)


class Server(_Frozen):
    """What one update costs a server: seconds for itself, a message and a byte of its parameters, both ways together,
    beside the products that it makes. Each of several servers has the seconds of an update for itself.

    `saturation_s` is its service of a whole update as the saturation test gave it, with one server: seconds of a core
    an update when workers compute nothing. It wins over the others, which then only say how it divides over servers.
    `saturated_updates_per_s` is the rate at which updates came then. `overlap` and `latency` are the p and m of
    `laws.ps_async_step_s`.
    """

    update_s: float = Field(0.0, ge=0)
    message_s: float = Field(ge=0)
    byte_s: float = Field(ge=0)
    saturation_s: float | None = Field(None, gt=0)
    saturated_updates_per_s: float | None = Field(None, gt=0)
    overlap: float = Field(1.0, ge=1)
    latency: float = Field(1.0, ge=1)


class Ring(_Frozen):
    """Summing over processes of this machine, by a ring or what its framework has: `alpha_s` a round, `byte_s` a byte
    sent: copies and additions, no link.
    `overlap` is the p of `laws.allreduce_step_s`: 1 where sums begin when the backward pass has ended.
    """

    alpha_s: float = Field(ge=0)
    byte_s: float = Field(ge=0)
    overlap: float = Field(1.0, ge=1)


class FixedTimes(_Frozen):
    """Seconds that do not depend on how long training is: `start_s` until the model is built, of which `load_s` is the
    loading of the framework, `first_step_s` of tracing, `evaluation_s` of one evaluation and `evaluation_image_s` of an
    image of it, `checkpoint_s` of writing one, `save_s` of writing the model, `upload_s` of what comes last: the
    accuracy on the training images, and the model.
    """

    start_s: float = Field(0.0, ge=0)
    load_s: float = Field(0.0, ge=0)
    first_step_s: float = Field(0.0, ge=0)
    evaluation_s: float = Field(0.0, ge=0)
    evaluation_image_s: float = Field(0.0, ge=0)
    checkpoint_s: float = Field(0.0, ge=0)
    save_s: float = Field(0.0, ge=0)
    upload_s: float = Field(0.0, ge=0)

    def to_first_step_s(self, loaded: bool) -> float:
        """From launch until the first step is done; `loaded`: the framework was loaded before, as for runs of one
        machine.
        """
        return self.start_s + self.first_step_s - (self.load_s if loaded else 0.0)


class Profile(_Frozen):
    """What was measured of an experiment on one machine.

    `compute` is of whole steps of one process, of which `optimizer_s` is what servers do where there are any.
    `dispatch_s` is what it takes the chief of a cluster to have a worker begin a step and to hear that it has ended.
    `in_step_share` is the share of a worker's time, 0-1, between reading parameters and applying its update, when
    several workers share this machine's cores: the rest is waiting to be given the next step.
    `parts_s` are the parts of a parameter-server step by name, one worker alone.
    `cpu_s_per_update` are CPU-seconds of each role for an update when `WORKERS` share the cores; `worker_cpu_s` of a
    worker's update that has them to itself, None: as many. `disturbed`: something else used the machine, so that
    the figures are less sure. `drain_steps` is what a pause cost `WORKERS` that share the cores, in steps;
    None: as the formula says. `server`, and what else is of parameter servers, is left out where the `framework` has
    none. `options` are those of the experiment, beside the model, that speed depends on, and `identities` how many it
    tells apart: empty and None in profiles that do not say it.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    created: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    machine: Machine
    model: str
    precision: Precision = "float32"
    batch: int = Field(ge=1)
    examples: int = Field(ge=1)
    identities: int | None = Field(None, ge=1)
    options: dict[str, bool | int | float | str | None] = Field(default_factory=dict)
    framework: str = TENSORFLOW
    compute: tuple[Compute, ...] = Field(min_length=1)
    optimizer_s: float = Field(0.0, ge=0)
    dispatch_s: float = Field(0.0, ge=0)
    in_step_share: float | None = Field(None, gt=0, le=1)
    variables: tuple[Variable, ...] = Field(min_length=1)
    server: Server | None = None
    ring: Ring
    fixed: FixedTimes = FixedTimes()
    cpu_s_per_update: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    worker_cpu_s: float | None = Field(None, ge=0)
    drain_steps: float | None = Field(None, ge=0)
    parts_s: dict[str, float] = Field(default_factory=dict)
    measured_s: float | None = Field(None, ge=0)
    disturbed: bool = False
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Profile:
        batches = [each.batch for each in self.compute]
        if batches != sorted(set(batches)):
            raise ValueError(f"compute must be in the order of batches, each once, not {batches}")
        if not any(each.trainable for each in self.variables):
            raise ValueError("variables: none of them is trained")
        if self.server is None and self.framework in PsAsync.trainers:
            raise ValueError(f"server is missing, which is measured of {self.framework}")
        return self

    @property
    def experiment(self) -> dict[str, bool | int | float | str | None]:
        """All options of the experiment that are known of it."""
        named = {"model": self.model, "batch": self.batch, "precision": self.precision, "framework": self.framework}
        return {**self.options, **named}

    @property
    def batches(self) -> tuple[int, int]:
        """The smallest and the largest batch whose step was measured."""
        return self.compute[0].batch, self.compute[-1].batch

    @property
    def served(self) -> Server:
        """What updates cost a server.

        Raises:
            InputError: the framework has no parameter servers.
        """
        if self.server is None:
            raise InputError(f"the profile is of {self.framework}, which has no parameter servers")
        return self.server

    @property
    def cv(self) -> float:
        """The spread of a step over its mean: the median over batches."""
        return float(np.median([each.cv for each in self.compute]))

    @property
    def repeats_cv(self) -> float:
        """How much a step differs from one process to the next, over its mean; 0 where it was not repeated."""
        return max((_cv(each.repeats_s) for each in self.compute), default=0.0)

    @property
    def undivided_worker_cpu_s(self) -> float:
        """CPU-seconds of a worker's update on a host that it shares with no other worker; 0 if they are not known."""
        return self.cpu_s_per_update.get("worker", 0.0) if self.worker_cpu_s is None else self.worker_cpu_s

    @property
    def param_bytes(self) -> int:
        """What one worker pulls for a step."""
        return sum(each.sent_bytes for each in self.variables if each.trainable)

    @property
    def gradient_bytes(self) -> float:
        """What a worker's gradients take."""
        return self.summed(0.0).push_bytes

    @property
    def trained_bytes(self) -> int:
        """What the parameters take: what workers exchange that average them."""
        return sum(each.held_bytes for each in self.variables if each.trainable)

    def step_s(self, batch: np.ndarray) -> np.ndarray:
        """Seconds of computing at a worker's batch, on the machine of the profile: straight lines between what was
        measured; beyond it the first and the last line go on.
        """
        batch = np.asarray(batch, dtype=float)
        batches = np.array([each.batch for each in self.compute], dtype=float)
        steps = np.array([each.step_s for each in self.compute])
        if len(batches) == 1:
            return steps[0] * batch / batches[0]
        line = np.clip(np.searchsorted(batches, batch) - 1, 0, len(batches) - 2)
        slope = (steps[line + 1] - steps[line]) / (batches[line + 1] - batches[line])
        # Never less than the share of the smallest step that the batch is of it.
        return np.maximum(steps[line] + slope * (batch - batches[line]), steps[0] * np.minimum(batch / batches[0], 1))

    def loads(self, servers: int, batch: float | None = None) -> tuple[placement.ServerLoad, ...]:
        """What an update asks of each of `servers`, as facesim places variables, from a worker's step of `batch`
        examples (the profile's, if left out).
        """
        placed = [each.placed(self.batch if batch is None else batch) for each in self.variables]
        # The norm of all gradients is limited before they are sent, one by one then.
        return placement.balanced(placed, servers, packs_pushes=not self.options.get("clip_norm"))

    def summed(self, batch: float) -> placement.ServerLoad:
        """What each of several replicas sums with the others for an update of `batch` examples of all: what it pushes,
        and the operations to multiply the factors of all of them.
        """
        return placement.total(placement.balanced([each.placed(batch) for each in self.variables if each.trainable], 1))

    def service_s(self, servers: int, batch: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of a core of this machine that an update takes of each server, to pull and to push: (servers,)."""
        parts_s = [self.modelled_s(load) for load in self.loads(servers, batch)]
        pull_s, push_s = self.saturation_factor * np.array(parts_s).T
        return pull_s, push_s

    def modelled_s(self, load: placement.ServerLoad) -> tuple[float, float]:
        """Seconds of a core that a load takes of a server, to pull and to push, as its constants alone say."""
        server = self.served
        half_s = server.update_s / 2 if load.push_messages else 0.0  # nothing is asked of a server that holds nothing
        pull_s = half_s + server.message_s * load.pull_messages + server.byte_s / 2 * load.pull_bytes
        push_s = half_s + server.message_s * load.push_messages + server.byte_s / 2 * load.push_bytes
        return pull_s, push_s + load.push_flops / self.machine.core_flops_per_s

    @property
    def saturation_factor(self) -> float:
        """By what the saturation test corrects the server's constants."""
        (load,) = self.loads(1)
        modelled_s, measured_s = sum(self.modelled_s(load)), self.served.saturation_s
        return measured_s / modelled_s if measured_s is not None and modelled_s else 1.0

    def cpu_s_of_service(self, batch: float | None = None) -> float:
        """CPU-seconds of a server in a cluster for each second of its service, which is that of a saturated one."""
        return self.cpu_s_per_update.get("ps", 0.0) / max(float(np.sum(self.service_s(1, batch))), 1e-15)

    def servers_cpu_s(self, servers: int, batch: float | None = None) -> float:
        """CPU-seconds of so many servers together for an update of a cluster: more than one needs, for the work of an
        update beside its messages is done by each.
        """
        return self.cpu_s_of_service(batch) * float(np.sum(self.service_s(servers, batch)))

    def save(self, file: Path) -> None:
        write_text(file, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Profile:
        """The profile in a file.

        Raises:
            InputError: it is missing, damaged, or of another version.
        """
        again = "make one with facesim profile"
        try:
            return cls.model_validate_json(read_text(file))
        except OSError as error:
            raise InputError(f"the profile {file} cannot be read: {why_unread(error)}; {again}") from None
        except UnicodeDecodeError:
            raise InputError(f"the profile {file} cannot be read: it is not text; {again}") from None
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"]) or "the file"
            raise InputError(f"the profile {file} cannot be used: {field}: {first['msg']}; {again}") from None


def _cv(values: tuple[float, ...]) -> float:
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)) / mean

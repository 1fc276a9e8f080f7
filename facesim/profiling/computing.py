"""What one process alone shows, whatever the framework: its step at several batches, and what surrounds training."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from facesim.profiling import fits
from facesim.profiling.stages import leave
from facesim.profiling.timing import median_s, timed
from facesim.runs.directory import Run
from facesim.training.checkpoint_manager import CheckpointManager
from facesim.training.context import Context, open_context
from facesim.training.loop import save_network
from facesim.training.protocols import Replicas, StepResult
from facesim.training.train_state import TrainState

#: For how long a step, and a part of it, is repeated.
_STEPS_S, _PARTS_S = 2.5, 0.8
#: How often what overlaps is measured.
_OVERLAPS = 3
#: Images that one is evaluated from.
_EVALUATED = 256

#: Something to call that waits until it is done.
Part = Callable[[], object]


class Link:
    """In the place of a sum over the network, a link of `bytes_per_s`: it takes as long as sending, and does not work.
    `sums` were made since this was last set to 0.
    """

    def __init__(self) -> None:
        self.bytes_per_s, self.sums = math.inf, 0

    def send(self, count: int) -> None:
        """Take as long as so many bytes do."""
        self.sums += 1
        time.sleep(count / self.bytes_per_s)


class Summed(NamedTuple):
    """A step whose sums go over a link, and the bytes that these are."""

    step: Part
    link: Link
    sum_bytes: int


class Measurable(Protocol):
    """What a framework provides so that its training can be measured; made from a task's context."""

    #: A replica that trains alone.
    replica: Replicas

    #: Bytes of each trained variable as it is sent, and of its gradient.
    sent_bytes: Sequence[int]
    pushed_bytes: Sequence[int]

    def parts(self, indices: np.ndarray) -> tuple[Part, Part]:
        """The forward pass of some examples in training; the forward and the backward pass."""

    def optimizer(self) -> Part:
        """Applying gradients that are there."""

    def summed(self, indices: np.ndarray) -> Summed | None:
        """A step of `allreduce`; None where its sums begin when the backward pass has ended."""


def measure(
    run_directory: str,
    threads: int,
    data_directory: str,
    checkpoint_directory: str,
    batches: list[int],
    whole: bool,
    *,
    prepare: Callable[[Path, int, int], None],
    make: Callable[[Context], Measurable],
    load_s: float,
    kernels: Callable[[], dict[str, float]] | None = None,
) -> None:
    """A chief that measures in place of training: a step at each of `batches`, and the `kernels` if they can be in this
    process; the rest only if it is to measure the `whole`. `prepare` sets the framework up: it gets the folder that the
    task works in, the number of its replica and how many `threads` compute. The framework was loaded in `load_s`.
    """
    run = Run(Path(run_directory))
    prepare(run.task_directory("chief-0"), 0, threads)
    context = open_context(run, Path(data_directory), Path(checkpoint_directory), "chief", 0, 0)
    with context.recorder.timed("build_s"):
        measured = make(context)
    replica = measured.replica
    begin = time.perf_counter()
    (first,) = replica.train([examples(context, batches[-1])])
    figures: dict[str, Any] = {"first_step_s": time.perf_counter() - begin}
    figures["steps_s"] = [_steps(context, replica, batch) for batch in batches]
    if kernels:
        figures["kernels"] = kernels()
    if whole:
        figures |= {"parts_s": [_parts(measured, examples(context, batch)) for batch in batches]}
        figures |= {"optimizer_s": median_s(measured.optimizer(), _PARTS_S), "variables": [*_variables(measured)]}
        figures |= {"ring_overlap": _overlap(measured.summed(examples(context, context.experiment.batch)))}
        figures |= _surroundings(context, replica, first)
        figures |= {"examples": len(context.train_indices), "held_out": len(context.held_out_indices)}
    figures["load_s"] = load_s
    figures["start_s"] = context.recorder.phases["startup_s"] + context.recorder.phases["build_s"]
    leave(run, figures)


def examples(context: Context, batch: int) -> np.ndarray:
    """The indices of a batch, of which some come again where there are too few."""
    return np.resize(context.train_indices, batch)


def _steps(context: Context, replica: Replicas, batch: int) -> list[float]:
    indices = examples(context, batch)

    def step() -> None:
        (_,) = replica.train([indices])

    for _ in range(3):
        step()
    return timed(step, _STEPS_S, least=8)


def _parts(measured: Measurable, indices: np.ndarray) -> dict[str, float]:
    """Seconds of the forward pass, and of the forward and the backward pass, of a batch."""
    forward, both = measured.parts(indices)
    return {"forward_s": median_s(forward, _PARTS_S), "both_s": median_s(both, _PARTS_S)}


def _overlap(summed: Summed | None) -> float:
    """How sums over a network overlap with the backward pass: the p of `laws.allreduce_step_s`, from a real step whose
    sums take as long as the two thirds of it that are its backward pass. The median of a few measurements.
    """
    if summed is None:
        return 1.0
    step, link, sum_bytes = summed
    step()
    step()  # buckets may be made anew after the first
    link.sums = 0
    step()
    if link.sums == 1:
        return 1.0  # all is summed at once, when the last gradient is there

    def once() -> float:
        link.bytes_per_s = math.inf
        step_s = median_s(step, _PARTS_S)
        exchange_s = step_s * 2 / 3
        link.bytes_per_s = sum_bytes / exchange_s
        return fits.overlap(median_s(step, _PARTS_S), step_s, 0.0, exchange_s)

    return statistics.median(once() for _ in range(_OVERLAPS))


def _variables(measured: Measurable) -> Iterator[dict[str, Any]]:
    """The model's variables in order, as `facesim.forecast.profile_data.Variable`; all lie on the one server."""
    model = measured.replica.model
    trained = zip(model.trainable_variables, measured.sent_bytes, measured.pushed_bytes, strict=True)
    sent = {id(variable): {"sent_bytes": pulled, "pushed_bytes": pushed} for variable, pulled, pushed in trained}
    for variable in model.variables:
        size, each = int(np.prod(variable.shape)), np.dtype(variable.dtype).itemsize
        yield {
            "name": variable.path,
            "shape": list(variable.shape),
            "held_bytes": size * each,
            **sent.get(id(variable), {"sent_bytes": size * each}),
            "trainable": id(variable) in sent,
            "server": 0,
        }


def _surroundings(context: Context, replica: Replicas, first: StepResult) -> dict[str, float]:
    """Seconds of what surrounds training: evaluating an image, a checkpoint, writing the model."""
    indices, evaluate = examples(context, _EVALUATED), replica.evaluator(context.experiment.mirror_test)

    def evaluating() -> None:
        evaluate(context.data.images, context.data.labels, indices)

    first_s = timed(evaluating, 0.0, least=1)[0]
    evaluation_s = median_s(evaluating, _PARTS_S, warm_up=0)
    state, checkpoints = TrainState(), CheckpointManager(context, replica, writes=True)
    state.add(first)
    checkpoint_s = median_s(lambda: checkpoints.save(state), _PARTS_S, warm_up=1)
    save_s = median_s(lambda: save_network(replica, context.run.model_file), _PARTS_S, warm_up=1)
    return {
        "first_evaluation_s": max(0.0, first_s - evaluation_s),
        "evaluation_image_s": evaluation_s / len(indices),
        "checkpoint_s": checkpoint_s,
        "save_s": save_s,
    }

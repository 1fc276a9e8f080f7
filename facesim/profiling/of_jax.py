"""What of JAX' training is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from facesim.training.jax import preload  # isort: skip  Keras on JAX, before anything imports Keras
import jax
import jax.numpy as jnp
import numpy as np

from facesim.profiling import computing, summing
from facesim.profiling.computing import Part
from facesim.runs.directory import Run
from facesim.training.context import Context
from facesim.training.jax import task
from facesim.training.jax.connecting import Workers
from facesim.training.jax.single import Alone


def measure_sums(run_directory: str, threads: int, *_: Any) -> None:
    """One of several workers that sum in place of training."""
    run, rank = Run(Path(run_directory)), summing.rank()
    task.prepare(run.task_directory(f"worker-{rank}"), rank, threads)
    summing.measure(run, rank, _groups(Workers(rank)))


def _groups(workers: Workers) -> Iterator[tuple[int, summing.Group]]:
    for count in summing.PEERS:
        if workers.rank < count:
            yield count, _Summed(workers.summing(count))


class _Summed:
    """Sums as `allreduce` does."""

    def __init__(self, summed: Callable[[jax.Array], jax.Array]):
        self._summed = summed

    def take(self, array: np.ndarray) -> jax.Array:
        return jnp.asarray(array)[None]

    def sum(self, row: jax.Array) -> jax.Array:
        return self._summed(row).block_until_ready()


class _Measured:
    """As `facesim.profiling.computing.Measurable` has it."""

    def __init__(self, context: Context):
        self.replica = Alone(context)
        self.sent_bytes = self.pushed_bytes = [
            4 * math.prod(each.shape) for each in self.replica.model.trainable_variables
        ]

    def parts(self, indices: np.ndarray) -> tuple[Part, Part]:
        replica, state = self.replica, self.replica.state
        some = jax.device_put(replica.some(indices))
        forward, both = jax.jit(replica.forward), jax.jit(replica.gradients)
        return (
            lambda: jax.block_until_ready(forward(state.parameters, state.others, *some)),
            lambda: jax.block_until_ready(both(state, *some)),
        )

    def optimizer(self) -> Part:
        state = self.replica.state
        gradients, applied = [jnp.full_like(each, 1e-12) for each in state.parameters], jax.jit(self.replica.applied)
        return lambda: jax.block_until_ready(applied(state, state.others, gradients))

    def summed(self, indices: np.ndarray) -> None:
        """Sums begin when all of the compiled step has ended."""


#: A chief that measures in place of training.
measure = partial(computing.measure, prepare=task.prepare, make=_Measured, load_s=preload.LOADING_S)

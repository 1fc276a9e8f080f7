"""`allreduce`: every worker is a process that holds the parameters; each step sums their gradients over the network.

All workers receive the same sum, so their parameters stay equal, and an update is what one process would have made of
the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from facesim.training.context import Context
from facesim.training.jax.connecting import Workers, joined
from facesim.training.jax.network import Arrays, JaxReplicas, State
from facesim.training.jax.parts import as_one, is_statistic, parted
from facesim.training.keras.network import vary_dropout
from facesim.training.keras.updates import joint_updates
from facesim.training.loop import train_joined
from facesim.training.protocols import StepResult


def train(context: Context) -> None:
    train_joined(context, joined, Replicated)


class Replicated(JaxReplicas):
    """This process' replica, one of several."""

    steps_per_exchange = 1

    def __init__(self, context: Context, workers: Workers):
        super().__init__(context)
        vary_dropout(self.model, context.replica)
        self.take_state()
        self.exchange_bytes, self._workers = self.parameter_bytes, workers
        self.sum_of_all = workers.sum_of_all

        def compute(state: State, images: jax.Array, labels: jax.Array, share: jax.Array) -> tuple[jax.Array, Arrays]:
            gradients, others, sums = self.gradients(state, images, labels, share)
            rows = jnp.zeros((workers.count, 3)).at[workers.rank].set(sums)
            seen = [each * share for each in others if is_statistic(each)]
            return as_one([*gradients, *seen, rows]), others

        def apply(state: State, total: jax.Array, others: Arrays) -> tuple[State, jax.Array]:
            statistics = [each for each in others if is_statistic(each)]
            *sums, rows = parted(total, [*state.parameters, *statistics, jnp.zeros((workers.count, 3))])
            means = iter(sums[len(state.parameters) :])
            others = [next(means) if is_statistic(each) else each for each in others]
            return self.applied(state, others, sums[: len(state.parameters)]), rows

        self._compute, self._apply = jax.jit(compute), jax.jit(apply, donate_argnums=0)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        workers, ahead = self._workers, bool(self.devices)
        return joint_updates(
            batches,
            int(self.state.updates),
            self._update,
            lambda rows: rows.tolist(),
            workers.rank,
            workers.count,
            ahead=ahead,
        )

    def _update(self, indices: np.ndarray, share: float) -> jax.Array:
        row, others = self._compute(self.state, *self.some(indices), np.float32(share))
        state, rows = self._apply(self.state, self._workers.sum(row), others)
        self.set_state(state)
        return rows

"""`local-sgd`: every worker trains its own copy for some steps, then all copies are averaged (Stich, 2019).

A step's batch is divided among the workers as for `allreduce`, but each applies its own gradient to its own parameters
at once. The optimiser's moments stay each worker's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from facesim.training.context import Context
from facesim.training.jax.connecting import Workers, joined
from facesim.training.jax.network import JaxReplicas, State
from facesim.training.jax.parts import as_one, is_statistic, parted
from facesim.training.keras.network import vary_dropout
from facesim.training.keras.updates import Row, averaged_updates
from facesim.training.loop import train_joined
from facesim.training.protocols import StepResult


def train(context: Context) -> None:
    train_joined(context, joined, Copies)


class Copies(JaxReplicas):
    """This process' copy, one of several."""

    def __init__(self, context: Context, workers: Workers):
        super().__init__(context)
        vary_dropout(self.model, context.replica)
        self.take_state()
        self.steps_per_exchange, self.exchange_bytes = context.job.strategy.local_steps, self.parameter_bytes
        self._workers, self.sum_of_all = workers, workers.sum_of_all

        def local_update(
            state: State, images: jax.Array, labels: jax.Array, counts: jax.Array
        ) -> tuple[State, jax.Array]:
            gradients, others, sums = self.gradients(state, images, labels, counts)
            return self.applied(state, others, gradients), sums

        def join(state: State, found: list[jax.Array]) -> jax.Array:
            rows = jnp.zeros((len(found), workers.count, 3)).at[:, workers.rank].set(jnp.stack(found))
            return as_one([*state.parameters, *filter(is_statistic, state.others), rows])

        def average(state: State, total: jax.Array) -> tuple[State, jax.Array]:
            held = [*state.parameters, *filter(is_statistic, state.others)]
            steps = (len(total) - sum(each.size for each in held)) // (3 * workers.count)
            *sums, rows = parted(total, [*held, jnp.zeros((steps, workers.count, 3))])
            means = iter([each / workers.count for each in sums])
            parameters = [next(means) for _ in state.parameters]
            others = [next(means) if is_statistic(each) else each for each in state.others]
            return state._replace(parameters=parameters, others=others), rows

        self._local_update = self.compiled(local_update)
        self._join, self._average = jax.jit(join), jax.jit(average)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        workers, steps = self._workers, self.steps_per_exchange
        return averaged_updates(
            batches, int(self.state.updates), self._update, self._averaged, steps, workers.rank, workers.count
        )

    def _update(self, indices: np.ndarray, counted: float) -> jax.Array:
        state, found = self._local_update(self.state, *self.some(indices), np.float32(counted))
        self.set_state(state)
        return found

    def _averaged(self, found: list[jax.Array]) -> list[list[Row]]:
        """Average the copies; what everybody found since the last time, step by step."""
        state, rows = self._average(self.state, self._workers.sum(self._join(self.state, found)))
        self.set_state(state)
        return rows.tolist()

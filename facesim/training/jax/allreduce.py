"""`allreduce`: every worker is a process that holds the parameters; each step sums their gradients over the network.

All workers receive the same sum, so their parameters stay equal, and an update is what one process would have made of
the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from facesim.training.batches import slice_of_batch
from facesim.training.context import Context
from facesim.training.jax.connecting import Workers, lost_peers
from facesim.training.jax.network import Arrays, JaxReplicas, State
from facesim.training.jax.parts import is_statistic, joined, parted
from facesim.training.keras.network import vary_dropout
from facesim.training.loop import fit
from facesim.training.protocols import StepResult


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        workers = Workers(context.replica)
    with context.recorder.timed("build_s"):
        replicas = Replicated(context, workers)
    with lost_peers():
        fit(context, replicas)


class Replicated(JaxReplicas):
    """This process' replica, one of several."""

    steps_per_exchange = 1

    def __init__(self, context: Context, workers: Workers):
        super().__init__(context)
        vary_dropout(self.model, context.replica)
        self.take_state()
        self.exchange_bytes, self._workers = self.parameter_bytes, workers

        def compute(state: State, images: jax.Array, labels: jax.Array, share: jax.Array) -> tuple[jax.Array, Arrays]:
            gradients, others, sums = self.gradients(state, images, labels, share)
            rows = jnp.zeros((workers.count, 3)).at[workers.rank].set(sums)
            seen = [each * share for each in others if is_statistic(each)]
            return joined([*gradients, *seen, rows]), others

        def apply(state: State, total: jax.Array, others: Arrays) -> tuple[State, jax.Array]:
            statistics = [each for each in others if is_statistic(each)]
            *sums, rows = parted(total, [*state.parameters, *statistics, jnp.zeros((workers.count, 3))])
            means = iter(sums[len(state.parameters) :])
            others = [next(means) if is_statistic(each) else each for each in others]
            return self.applied(state, others, sums[: len(state.parameters)]), rows

        self._compute, self._apply = jax.jit(compute), jax.jit(apply, donate_argnums=0)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        number, workers = int(self.state.updates), self._workers
        for batch in batches:
            indices, share = slice_of_batch(batch, workers.rank, workers.count)
            row, others = self._compute(self.state, *self.some(indices), np.float32(share))
            state, rows = self._apply(self.state, workers.sum(row), others)
            self.set_state(state)
            for worker, (loss, correct, examples) in enumerate(rows.tolist()):
                yield StepResult(loss, int(correct), int(examples), worker, number, number)
            number += 1

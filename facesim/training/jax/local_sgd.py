"""`local-sgd`: every worker trains its own copy for some steps, then all copies are averaged (Stich, 2019).

A step's batch is divided among the workers as for `allreduce`, but each applies its own gradient to its own parameters
at once. The optimiser's moments stay each worker's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from facesim.training.batches import slice_of_batch
from facesim.training.context import Context
from facesim.training.jax.connecting import Workers, lost_peers
from facesim.training.jax.network import JaxReplicas, State
from facesim.training.jax.parts import is_statistic, joined, parted
from facesim.training.keras.network import vary_dropout
from facesim.training.loop import fit
from facesim.training.protocols import StepResult


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        workers = Workers(context.replica)
    with context.recorder.timed("build_s"):
        replicas = _Copies(context, workers)
    with lost_peers():
        fit(context, replicas)


class _Copies(JaxReplicas):
    def __init__(self, context: Context, workers: Workers):
        super().__init__(context)
        vary_dropout(self.model, context.replica)
        self.take_state()
        self.steps_per_exchange, self.exchange_bytes = context.job.strategy.local_steps, self.parameter_bytes
        self._workers = workers

        def local_update(
            state: State, images: jax.Array, labels: jax.Array, counts: jax.Array
        ) -> tuple[State, jax.Array]:
            gradients, others, sums = self.gradients(state, images, labels, counts)
            return self.applied(state, others, gradients), sums

        def join(state: State, done: list[jax.Array]) -> jax.Array:
            rows = jnp.zeros((workers.count, len(done), 3)).at[workers.rank].set(jnp.stack(done))
            return joined([*state.parameters, *filter(is_statistic, state.others), rows])

        def average(state: State, total: jax.Array) -> tuple[State, jax.Array]:
            held = [*state.parameters, *filter(is_statistic, state.others)]
            steps = (len(total) - sum(each.size for each in held)) // (3 * workers.count)
            *sums, rows = parted(total, [*held, jnp.zeros((workers.count, steps, 3))])
            means = iter([each / workers.count for each in sums])
            parameters = [next(means) for _ in state.parameters]
            others = [next(means) if is_statistic(each) else each for each in state.others]
            return state._replace(parameters=parameters, others=others), rows

        self._local_update = self.compiled(local_update)
        self._join, self._average = jax.jit(join), jax.jit(average)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        workers = self._workers
        done: list[jax.Array] = []
        for batch in batches:
            indices, share = slice_of_batch(batch, workers.rank, workers.count)
            state, sums = self._local_update(self.state, *self.some(indices), np.float32(share > 0))
            self.set_state(state)
            done.append(sums)
            if len(done) == self.steps_per_exchange:
                yield from self._exchange(done)
        if done:  # an epoch's end: what is evaluated is the average, and every epoch's results are complete
            yield from self._exchange(done)

    def _exchange(self, done: list[jax.Array]) -> Iterator[StepResult]:
        """Average the copies; what everybody did since the last time, step by step."""
        first = int(self.state.updates) - len(done)
        state, rows = self._average(self.state, self._workers.sum(self._join(self.state, done)))
        self.set_state(state)
        done.clear()
        for worker, steps in enumerate(rows.tolist()):
            for number, (loss, correct, examples) in enumerate(steps, first):
                yield StepResult(loss, int(correct), int(examples), worker, number, number)

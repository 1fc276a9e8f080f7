"""`single`: one process trains. What every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jax
import numpy as np

from facesim.training.context import Context
from facesim.training.jax.network import JaxReplicas, State
from facesim.training.loop import fit
from facesim.training.protocols import StepResult


def train(context: Context) -> None:
    with context.recorder.timed("build_s"):
        replica = Alone(context)
    fit(context, replica)


class Alone(JaxReplicas):
    """One replica that talks to nobody."""

    def __init__(self, context: Context):
        super().__init__(context)

        def update(state: State, images: jax.Array, labels: jax.Array) -> tuple[State, jax.Array]:
            gradients, others, sums = self.gradients(state, images, labels)
            return self.applied(state, others, gradients), sums

        self._update = self.compiled(update)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        number = int(self.state.updates)
        for batch in batches:
            state, sums = self._update(self.state, *self.some(batch))
            self.set_state(state)
            loss, correct, examples = sums.tolist()
            yield StepResult(loss, int(correct), int(examples), 0, number, number)
            number += 1

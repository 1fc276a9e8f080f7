"""`single`: one process trains. What every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jax
import numpy as np

from facesim.training.context import Context
from facesim.training.jax.network import JaxReplicas, State
from facesim.training.keras.updates import joint_updates
from facesim.training.loop import train_alone
from facesim.training.protocols import StepResult


def train(context: Context) -> None:
    train_alone(context, Alone)


class Alone(JaxReplicas):
    """One replica that talks to nobody."""

    def __init__(self, context: Context):
        super().__init__(context)

        def update(state: State, images: jax.Array, labels: jax.Array) -> tuple[State, jax.Array]:
            gradients, others, found = self.gradients(state, images, labels)
            return self.applied(state, others, gradients), found

        self._compiled_update = self.compiled(update)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        ahead = bool(self.devices)
        return joint_updates(
            batches, int(self.state.updates), self._update, lambda found: [found.tolist()], ahead=ahead
        )

    def _update(self, indices: np.ndarray, share: float) -> jax.Array:
        state, found = self._compiled_update(self.state, *self.some(indices))
        self.set_state(state)
        return found

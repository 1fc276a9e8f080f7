"""`single`: one process trains. What every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from facesim.training.context import Context
from facesim.training.keras.updates import Row, joint_updates
from facesim.training.loop import train_alone
from facesim.training.protocols import StepResult
from facesim.training.torch.network import TorchReplicas


def train(context: Context) -> None:
    train_alone(context, Alone)


class Alone(TorchReplicas):
    """One replica that talks to nobody."""

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        return joint_updates(batches, self.adam.updates, self._update)

    def _update(self, indices: np.ndarray, share: float) -> list[Row]:
        found = self.backward(self.model, indices)
        self.adam.apply()
        return [found.tolist()]

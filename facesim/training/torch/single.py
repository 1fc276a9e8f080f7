"""`single`: one process trains. What every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from facesim.training.context import Context
from facesim.training.keras.updates import joint_updates
from facesim.training.loop import train_alone
from facesim.training.protocols import StepResult
from facesim.training.torch.network import TorchReplicas


def train(context: Context) -> None:
    train_alone(context, Alone)


class Alone(TorchReplicas):
    """One replica that talks to nobody."""

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        ahead = bool(self.devices)
        return joint_updates(batches, self.adam.updates, self._update, lambda found: [found.tolist()], ahead=ahead)

    def _update(self, indices: np.ndarray, share: float) -> torch.Tensor:
        found = self.backward(self.model, indices)
        self.adam.apply()
        return found

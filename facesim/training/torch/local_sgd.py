"""`local-sgd`: every worker trains its own copy for some steps, then all copies are averaged (Stich, 2019).

A step's batch is divided among the workers as for `allreduce`, but each applies its own gradient to its own parameters
at once. The optimiser's moments stay each worker's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from facesim.training.context import Context
from facesim.training.keras.network import averaged_variables, vary_dropout
from facesim.training.keras.updates import Row, averaged_updates
from facesim.training.loop import train_joined
from facesim.training.protocols import StepResult
from facesim.training.torch.connecting import Workers, joined
from facesim.training.torch.network import TorchReplicas


def train(context: Context) -> None:
    train_joined(context, joined, Copies)


class Copies(TorchReplicas):
    """This process' copy, one of several."""

    def __init__(self, context: Context, workers: Workers):
        super().__init__(context)
        self.steps_per_exchange, self.exchange_bytes = context.job.strategy.local_steps, self.parameter_bytes
        self._workers, self.sum_of_all = workers, workers.sum_of_all
        vary_dropout(self.model, context.replica)
        variables = [*self.model.trainable_variables, *averaged_variables(self.model)]
        self._averaged = [variable.value for variable in variables]

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        workers, steps = self._workers, self.steps_per_exchange
        return averaged_updates(
            batches, self.adam.updates, self._update, self._average, steps, workers.rank, workers.count
        )

    def _update(self, indices: np.ndarray, counted: float) -> torch.Tensor:
        found = self.backward(self.model, indices, counted)
        self.adam.apply()
        return found

    @torch.no_grad()
    def _average(self, found: list[torch.Tensor]) -> list[list[Row]]:
        """Average the copies; what everybody found since the last time, step by step."""
        count = self._workers.count
        rows = torch.zeros(len(found), count, 3, dtype=torch.float64, device=found[0].device)
        rows[:, self._workers.rank] = torch.stack(found)
        sent = torch.cat([each.flatten() for each in self._averaged])
        self._workers.sum([sent, rows])
        means = (sent / count).split([each.numel() for each in self._averaged])
        for variable, mean in zip(self._averaged, means, strict=True):
            variable.copy_(mean.view_as(variable))
        return rows.tolist()

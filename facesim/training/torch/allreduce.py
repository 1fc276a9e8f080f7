"""`allreduce`: every worker is a process that holds the parameters; each step sums their gradients over the network.

DistributedDataParallel (Li et al., 2020) sends gradients in buckets while the backward pass goes on. All workers
receive the same sum, so their parameters stay equal, and an update is what one process would have made of the whole
batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from facesim.training.context import Context
from facesim.training.keras.network import averaged_variables, vary_dropout
from facesim.training.keras.updates import joint_updates
from facesim.training.loop import train_joined
from facesim.training.protocols import StepResult
from facesim.training.torch.connecting import Workers, joined
from facesim.training.torch.network import TorchReplicas


def train(context: Context) -> None:
    train_joined(context, joined, Replicated)


def summing_gradients(model: torch.nn.Module) -> DistributedDataParallel:
    """A network whose backward pass leaves the mean of all workers' gradients."""
    return DistributedDataParallel(model, gradient_as_bucket_view=True)


class Replicated(TorchReplicas):
    """This process' replica, one of several."""

    steps_per_exchange = 1

    def __init__(self, context: Context, workers: Workers):
        super().__init__(context)
        self.exchange_bytes, self._workers = self.parameter_bytes, workers
        self.sum_of_all = workers.sum_of_all
        alone = workers.count == 1
        self._network = self.model if alone else summing_gradients(self.model)
        self._statistics = [variable.value for variable in averaged_variables(self.model)]
        vary_dropout(self.model, context.replica)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        workers, ahead = self._workers, bool(self.devices)
        return joint_updates(
            batches,
            self.adam.updates,
            self._update,
            lambda rows: rows.tolist(),
            workers.rank,
            workers.count,
            ahead=ahead,
        )

    def _update(self, indices: np.ndarray, share: float) -> torch.Tensor:
        # DistributedDataParallel divides by the number of workers.
        found = self.backward(self._network, indices, share * self._workers.count)
        rows = self._exchange(found, share)
        self.adam.apply()
        return rows

    @torch.no_grad()
    def _exchange(self, found: torch.Tensor, share: float) -> torch.Tensor:
        """What everybody found, (workers, 3); the moving statistics, of which each has seen its slice, become the mean.

        Both travel together: one more message would have to be waited for.
        """
        rows = torch.zeros(self._workers.count, len(found), dtype=torch.float64, device=found.device)
        rows[self._workers.rank] = found
        sent = torch.cat([rows.flatten(), *(each.flatten().double() * share for each in self._statistics)])
        self._workers.sum([sent])
        rows, *means = sent.split([rows.numel(), *(each.numel() for each in self._statistics)])
        for statistic, mean in zip(self._statistics, means, strict=True):
            statistic.copy_(mean.view_as(statistic))
        return rows.view(self._workers.count, -1)

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

from facesim.training.batches import slice_of_batch
from facesim.training.context import Context
from facesim.training.keras.network import averaged_variables, vary_dropout
from facesim.training.loop import fit
from facesim.training.protocols import StepResult
from facesim.training.torch.connecting import connect, lost_peers, summed
from facesim.training.torch.network import TorchReplicas


def train(context: Context) -> None:
    with context.recorder.timed("connect_s"):
        count = connect(context.replica)
    with context.recorder.timed("build_s"):
        replicas = Replicated(context, count)
    with lost_peers():
        fit(context, replicas)


class Replicated(TorchReplicas):
    """This process' replica, one of `count`."""

    steps_per_exchange = 1

    def __init__(self, context: Context, count: int):
        super().__init__(context)
        self.exchange_bytes, self._count = self.parameter_bytes, count
        self._forward = DistributedDataParallel(self.model, gradient_as_bucket_view=True) if count > 1 else self.model
        self._statistics = [variable.value for variable in averaged_variables(self.model)]
        vary_dropout(self.model, context.replica)

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch in batches:
            read = self.adam.begin()
            indices, share = slice_of_batch(batch, self._number, self._count)
            # DistributedDataParallel divides by the number of workers.
            sums = self.backward(self._forward, indices, share * self._count)
            rows = self._exchange(torch.stack(sums), share)
            version = self.adam.apply()
            for worker, (loss, correct, examples) in enumerate(rows.tolist()):
                yield StepResult(loss, int(correct), int(examples), worker, read, version)

    @torch.no_grad()
    def _exchange(self, sums: torch.Tensor, share: float) -> torch.Tensor:
        """What everybody found, a row each; the moving statistics, of which each has seen its slice, become the mean.

        Both travel together: one more message would have to be waited for.
        """
        rows = torch.zeros(self._count, len(sums), dtype=torch.float64, device=sums.device)
        rows[self._number] = sums
        sent = torch.cat([rows.flatten(), *(each.flatten().double() * share for each in self._statistics)])
        if work := summed(sent, self._count):
            work.wait()
        rows, *means = sent.split([rows.numel(), *(each.numel() for each in self._statistics)])
        for statistic, mean in zip(self._statistics, means, strict=True):
            statistic.copy_(mean.view_as(statistic))
        return rows.view(self._count, -1)

"""`local-sgd`: every worker trains its own copy for some steps, then all copies are averaged (Stich, 2019).

A step's batch is divided among the workers as for `allreduce`, but each applies its own gradient to its own parameters
at once. The optimiser's moments stay each worker's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

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
        replicas = _Copies(context, count)
    with lost_peers():
        fit(context, replicas)


class _Copies(TorchReplicas):
    def __init__(self, context: Context, count: int):
        super().__init__(context)
        self.steps_per_exchange, self.exchange_bytes = context.job.strategy.local_steps, self.parameter_bytes
        self._count = count
        vary_dropout(self.model, context.replica)
        variables = [*self.model.trainable_variables, *averaged_variables(self.model)]
        self._averaged = [variable.value for variable in variables]

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        done: list[tuple[int, int]] = []
        sums: list[torch.Tensor] = []
        for batch in batches:
            read = self.adam.begin()
            indices, share = slice_of_batch(batch, self._number, self._count)
            sums.append(torch.stack(self.backward(self.model, indices, float(share > 0))))
            done.append((read, self.adam.apply()))
            if len(done) == self.steps_per_exchange:
                yield from self._exchange(done, sums)
        if done:  # an epoch's end: what is evaluated is the average, and every epoch's results are complete
            yield from self._exchange(done, sums)

    @torch.no_grad()
    def _exchange(self, done: list[tuple[int, int]], sums: list[torch.Tensor]) -> Iterator[StepResult]:
        """Average the copies; what everybody did since the last time, step by step."""
        rows = torch.zeros(self._count, len(sums), 3, dtype=torch.float64, device=sums[0].device)
        rows[self._number] = torch.stack(sums)
        sent = torch.cat([each.flatten() for each in self._averaged])
        for work in [summed(sent, self._count), summed(rows, self._count)]:
            if work:
                work.wait()
        means = (sent / self._count).split([each.numel() for each in self._averaged])
        for variable, mean in zip(self._averaged, means, strict=True):
            variable.copy_(mean.view_as(variable))
        results = [
            StepResult(loss, int(correct), int(examples), worker, *done[step])
            for worker, steps in enumerate(rows.tolist())
            for step, (loss, correct, examples) in enumerate(steps)
        ]
        done.clear()
        sums.clear()
        yield from results

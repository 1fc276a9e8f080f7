"""`single`: one process trains. What every other strategy is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from facesim.training.context import Context
from facesim.training.loop import fit
from facesim.training.protocols import StepResult
from facesim.training.torch.network import TorchReplicas


def train(context: Context) -> None:
    with context.recorder.timed("build_s"):
        replica = Alone(context)
    fit(context, replica)


class Alone(TorchReplicas):
    """One replica that talks to nobody."""

    def train(self, batches: Iterable[np.ndarray]) -> Iterator[StepResult]:
        for batch in batches:
            read = self.adam.begin()
            sums = self.backward(self.model, batch)
            version = self.adam.apply()
            yield StepResult(float(sums.loss), int(sums.correct), int(sums.examples), 0, read, version)

"""What of PyTorch's training is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from facesim.training.torch import preload  # isort: skip  Keras on PyTorch, before anything imports Keras
import numpy as np
import torch
from torch import distributed

from facesim.profiling import computing, summing
from facesim.profiling.computing import Link, Part, Summed
from facesim.runs.directory import Run
from facesim.training import task as training_task
from facesim.training.context import Context
from facesim.training.torch import task
from facesim.training.torch.allreduce import summing_gradients
from facesim.training.torch.connecting import Workers
from facesim.training.torch.single import Alone


def measure_sums(run_directory: str, threads: int, *_: Any) -> None:
    """One of several workers that sum in place of training."""
    run, rank = Run(Path(run_directory)), summing.rank()
    task.prepare(run.task_directory(f"worker-{rank}"), rank, threads)
    summing.measure(run, rank, _groups(Workers(rank)))
    training_task.end(0)  # at once: threads of PyTorch may abort a process whose peers have ended before it


def _groups(workers: Workers) -> Iterator[tuple[int, summing.Group]]:
    for count in summing.PEERS:
        group = distributed.new_group(range(count))  # all workers call this
        if workers.rank < count:
            yield count, _Gloo(group)


class _Gloo:
    """Sums as DistributedDataParallel does, in place: they soon are infinite, which takes no longer."""

    def __init__(self, group: distributed.ProcessGroup):
        self._group = group

    def take(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array)

    def sum(self, tensor: torch.Tensor) -> np.ndarray:
        distributed.all_reduce(tensor, group=self._group)
        return tensor.numpy()


class _Measured:
    """As `facesim.profiling.computing.Measurable` has it."""

    def __init__(self, context: Context):
        self.replica = Alone(context)
        self.sent_bytes = self.pushed_bytes = [
            4 * math.prod(each.shape) for each in self.replica.model.trainable_variables
        ]

    def parts(self, indices: np.ndarray) -> tuple[Part, Part]:
        replica = self.replica
        return lambda: replica.forward(replica.model, indices), lambda: replica.backward(replica.model, indices)

    def optimizer(self) -> Part:
        for variable in self.replica.model.trainable_variables:
            variable.value.grad = torch.full_like(variable.value, 1e-12)
        return self.replica.adam.apply

    def summed(self, indices: np.ndarray) -> Summed:
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
        network, link = summing_gradients(self.replica.model), Link()
        sender = ThreadPoolExecutor(1)  # one bucket after another

        def send(_, bucket):  # PyTorch refuses annotations that are texts, as all are here
            sums = torch.futures.Future()

            def sent() -> None:
                link.send(bucket.buffer().nbytes)
                sums.set_result(bucket.buffer())

            sender.submit(sent)
            return sums

        network.register_comm_hook(None, send)

        def step() -> None:
            self.replica.backward(network, indices)
            self.replica.adam.apply()

        return Summed(step, link, self.replica.parameter_bytes)


#: A chief that measures in place of training.
measure = partial(computing.measure, prepare=task.prepare, make=_Measured, load_s=preload.LOADING_S)

"""A training task with PyTorch, as `cluster` starts it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import facesim.training.torch.preload  # noqa: F401  # isort: skip  Keras on PyTorch, before anything imports Keras
import torch

from facesim.training import task
from facesim.training.torch import network  # noqa: F401  loaded once, before tasks are forked


def train(
    run_directory: str, threads: int, data_directory: str, checkpoint_directory: str, pretrained: str | None = None
) -> None:
    """`facesim.training.task.train` on `threads` threads."""

    # A peer that is gone is a ConnectionError (`facesim.training.torch.connecting`).
    prepared = partial(prepare, threads=threads)
    task.train(run_directory, data_directory, checkpoint_directory, pretrained, prepare=prepared, transient=())
    task.end(0)  # at once: threads of PyTorch may abort a process whose peers have ended before it


def prepare(directory: Path, replica: int, threads: int) -> None:
    """Let this process work in a task's folder, on so many threads."""
    os.chdir(directory)
    torch.set_num_threads(threads)

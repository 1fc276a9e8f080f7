"""A training task with JAX, as `cluster` starts it."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

import facesim.training.jax.preload  # noqa: F401  # isort: skip  Keras on JAX, before anything imports Keras

import jax

from facesim.training import task
from facesim.training.jax.connecting import gpus
from facesim.util.folders import cache_folder, make_own_folder


def train(
    run_directory: str, threads: int, data_directory: str, checkpoint_directory: str, pretrained: str | None = None
) -> None:
    """`facesim.training.task.train` on `threads` threads."""

    # A peer that is gone is a ConnectionError (`facesim.training.jax.connecting`).
    prepared = partial(prepare, threads=threads)
    task.train(run_directory, data_directory, checkpoint_directory, pretrained, prepare=prepared, transient=())


def prepare(directory: Path, replica: int, threads: int) -> None:
    """Let this process work in a task's folder, on so many threads."""
    os.chdir(directory)
    os.environ["NPROC"] = str(threads)  # of XLA's pool, which is made when JAX is first used
    if gpus() and not jax.config.jax_compilation_cache_dir:
        # For GPUs XLA takes half a minute to compile a network's step, for it tries kernels out.
        folder = cache_folder() / "compiled"
        with suppress(OSError):  # without the folder it is compiled each time
            make_own_folder(folder)
            jax.config.update("jax_compilation_cache_dir", str(folder))

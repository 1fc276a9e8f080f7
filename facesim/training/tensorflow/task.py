"""The tasks of a run, as `cluster` starts them: the chief runs the strategy, workers and parameter servers serve it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import facesim.training.tensorflow.preload  # noqa: F401  # isort: skip  before TensorFlow imports Keras
import tensorflow as tf

from cluster.failure import in_short
from cluster.task import AGAIN
from facesim.runs.directory import Run
from facesim.training import task
from facesim.training.peers import number_on_host
from facesim.training.tensorflow import network  # noqa: F401  loaded once, before tasks are forked
from facesim.training.tensorflow.connecting import use_gpu
from facesim.training.tensorflow.pipeline import TASK_INDEX_FILE

# A server with one of these hangs; two are enough for it to answer while it computes.
_INTER_OP_THREADS = 2

#: What TensorFlow says when another task, or what it needs of the system, went away.
_TRANSIENT = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)


def train(
    run_directory: str, threads: int, data_directory: str, checkpoint_directory: str, pretrained: str | None = None
) -> None:
    """The chief, or one of several peers: `facesim.training.task.train` on `threads` threads."""

    prepared = partial(prepare, threads=threads)
    task.train(run_directory, data_directory, checkpoint_directory, pretrained, prepare=prepared, transient=_TRANSIENT)


def prepare(directory: Path, replica: int, threads: int) -> None:
    """Let this process work in a task's folder, on so many threads."""
    work_in(directory, replica)
    tf.config.threading.set_intra_op_parallelism_threads(threads)


def serve(run_directory: str, threads: int) -> None:
    """A worker or a parameter server: execute what the chief sends, until this process is ended."""
    run = Run(Path(run_directory))
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    role, index = resolver.task_type, resolver.task_id
    work_in(run.task_directory(f"{role}-{index}"), index)
    use_gpu(number_on_host(resolver.cluster_spec().job_tasks(role), index))
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=_INTER_OP_THREADS
    )
    try:
        server = tf.distribute.Server(
            resolver.cluster_spec(), job_name=role, task_index=index, protocol="grpc", config=config
        )
    except tf.errors.UnknownError as error:  # its port is taken
        task.end(AGAIN, in_short(error))
    server.join()


def work_in(directory: Path, index: int) -> None:
    """Make a task's folder this process's, and tell graphs which worker it is."""
    (directory / TASK_INDEX_FILE).write_text(str(index), encoding="utf-8")
    os.chdir(directory)

"""The tasks of a run, as `cluster` starts them: the chief runs the strategy, workers and parameter servers serve it."""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import facesim.training.lean  # noqa: F401  # isort: skip  before TensorFlow imports Keras
import tensorflow as tf

from cluster.failure import in_short
from cluster.task import AGAIN, failing
from facesim.data.pipeline import TASK_INDEX_FILE
from facesim.disk import is_full, no_room
from facesim.errors import FacesimError
from facesim.runs.directory import Run
from facesim.training.context import open_context

# A server with one of these hangs; two are enough for it to answer while it computes.
_INTER_OP_THREADS = 2


#: What TensorFlow says when another task, or what it needs of the system, went away.
_MAY_COME_BACK = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
    OSError,
)


def train(
    run_directory: str, threads: int, data_directory: str, checkpoint_directory: str, pretrained: str | None = None
) -> None:
    """The chief, or one of several peers: train as the run's job says.

    Ends with `AGAIN` when it was stopped before it was done, or by something that may come back.
    """
    run = Run(Path(run_directory))
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {"type": "chief", "index": 0})
    role, index = task["type"], task["index"]
    replica = 0 if role == "chief" else index + 1
    try:
        _work_in(run.task_directory(f"{role}-{index}"), replica)
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        context = open_context(
            run, Path(data_directory), Path(checkpoint_directory), role, index, replica,
            Path(pretrained) if pretrained else None,
        )  # fmt: skip
        context.job.strategy.train(context)
    except _MAY_COME_BACK as error:
        full = isinstance(error, OSError) and is_full(error)
        if full:
            _end(AGAIN, no_room(run.directory, "make room there, then go on with --resume"))
        with suppress(OSError):
            traceback.print_exc()
        _end(AGAIN, in_short(error))
    except FacesimError as error:
        _end(1, str(error))
    if context.stopping:
        _end(AGAIN)


def _end(code: int, why: str | None = None) -> NoReturn:
    """End this process at once: what is left of a cluster that broke may keep it from ending by itself.

    `why` is told, and is in the log, unless the log's disk is full.
    """
    with suppress(OSError):
        if why:
            print(why, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    if why:
        failing(why)
    os._exit(code)


def serve(run_directory: str, threads: int) -> None:
    """A worker or a parameter server: execute what the chief sends, until this process is ended."""
    run = Run(Path(run_directory))
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    role, index = resolver.task_type, resolver.task_id
    _work_in(run.task_directory(f"{role}-{index}"), index)
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=threads, inter_op_parallelism_threads=_INTER_OP_THREADS
    )
    try:
        server = tf.distribute.Server(
            resolver.cluster_spec(), job_name=role, task_index=index, protocol="grpc", config=config
        )
    except tf.errors.UnknownError as error:  # its port is taken
        _end(AGAIN, in_short(error))
    server.join()


def _work_in(directory: Path, index: int) -> None:
    (directory / TASK_INDEX_FILE).write_text(str(index), encoding="utf-8")
    os.chdir(directory)

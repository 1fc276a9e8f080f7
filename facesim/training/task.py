"""A training task, whatever the framework: from its arguments to its end, with the exit code that `cluster` acts on."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from cluster.failure import in_short
from cluster.task import AGAIN, failing
from facesim.runs.directory import Run
from facesim.training.context import open_context
from facesim.util.disk import is_full, no_room
from facesim.util.errors import FacesimError


def train(
    run_directory: str,
    data_directory: str,
    checkpoint_directory: str,
    pretrained: str | None,
    *,
    prepare: Callable[[Path, int], None],
    transient: tuple[type[Exception], ...],
) -> None:
    """Train as the run's job says, in the chief's or a peer's process.

    `prepare` sets the framework up, before anything uses it: it gets the folder that the task works in, and the number
    of its replica. `transient` are the framework's errors that may not come again when the task is started again.

    Ends with `AGAIN` when it was stopped before it was done, or by something that may not come again.
    """
    run = Run(Path(run_directory))
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {"type": "chief", "index": 0})
    role, index = task["type"], task["index"]
    replica = 0 if role == "chief" else index + 1
    try:
        prepare(run.task_directory(f"{role}-{index}"), replica)
        context = open_context(
            run, Path(data_directory), Path(checkpoint_directory), role, index, replica,
            Path(pretrained) if pretrained else None,
        )  # fmt: skip
        context.job.strategy.train(context)
    except (*transient, OSError) as error:
        if isinstance(error, OSError) and is_full(error):
            end(AGAIN, no_room(run.directory, "make room there, then continue with --resume"))
        with suppress(OSError):
            traceback.print_exc()
        end(AGAIN, in_short(error))
    except FacesimError as error:
        end(1, str(error))
    if context.stopping:
        end(AGAIN)


def end(code: int, why: str | None = None) -> NoReturn:
    """End this process at once: what is left of a cluster that broke may keep it from ending by itself.

    `why` is reported to the supervisor, and is in the log, unless the log's disk is full.
    """
    with suppress(OSError):
        if why:
            print(why, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    if why:
        failing(why)
    os._exit(code)

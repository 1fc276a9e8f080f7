"""What a run does against failure."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator

from facesim.spec.base import Frozen
from facesim.spec.options import option

#: The shortest time after which a task may be taken for hung.
MIN_HANG_S = 2.0


def _never_or_some_seconds(hang_s: float) -> float:
    if 0 < hang_s < MIN_HANG_S:
        raise ValueError(f"must be 0, for never, or at least {MIN_HANG_S:g}: a busy machine may not answer sooner")
    return hang_s


def whole_path(folder: str | None) -> str | None:
    """The path of a folder that is the same one where a run is continued from another place; of an empty name none, by
    which a run that goes on lets go of the folder that it had.
    """
    try:
        return os.path.abspath(os.path.expanduser(folder)) if folder else None
    except OSError:
        raise ValueError("the current folder has been removed: give the whole path") from None


class Recovery(Frozen):
    """What a run does against failure: how often it writes checkpoints, how many it keeps, how often it may restart.

    A checkpoint is due when `checkpoint_s` seconds or `checkpoint_steps` updates have passed since the last, 0 for
    never; one is always written when a run is stopped. `checkpoint_dir` holds a folder for each run.

    A task, or the node that watches them, hangs when it has made no progress for `hang_s` seconds and for twenty of
    its own steps; start-up, evaluation and checkpoints may take five minutes. It is then treated as one that died.
    """

    checkpoint_s: float = option(30.0, "seconds between checkpoints, 0 for none", "Recovery", common=True, ge=0)
    checkpoint_steps: int = option(0, "updates between checkpoints, 0 for none", "Recovery", ge=0)
    checkpoint_keep: int = option(2, "how many of the newest checkpoints are kept", "Recovery", ge=1)
    checkpoint_dir: Annotated[str | None, AfterValidator(whole_path)] = option(
        None,
        "folder for checkpoints on this machine: a folder in it for each run",
        "Recovery",
        shown="in the run directory",
        commas=True,
    )
    max_restarts: int = option(3, "restarts of tasks that fail, in all", "Recovery", ge=0)
    hang_s: Annotated[float, AfterValidator(_never_or_some_seconds)] = option(
        60.0, "seconds without progress after which a task is treated as dead, 0 for never", "Recovery", ge=0
    )

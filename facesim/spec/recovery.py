"""What a run does against failure."""

from __future__ import annotations

from facesim.spec.base import Frozen
from facesim.spec.options import option


class Recovery(Frozen):
    """What a run does against failure: how often it writes checkpoints, how many it keeps, how often it may restart.

    A checkpoint is due when `checkpoint_s` seconds or `checkpoint_steps` updates have passed since the last, 0 for
    never; one is always written when a run is stopped. `checkpoint_dir` holds a folder for each run.
    """

    checkpoint_s: float = option(30.0, "seconds between checkpoints, 0 for none", "Recovery", common=True, ge=0)
    checkpoint_steps: int = option(0, "updates between checkpoints, 0 for none", "Recovery", ge=0)
    checkpoint_keep: int = option(2, "how many of the newest checkpoints are kept", "Recovery", ge=1)
    checkpoint_dir: str | None = option(
        None, "folder for checkpoints, one in it a run", "Recovery", shown="in the run directory"
    )
    max_restarts: int = option(3, "restarts of tasks that fail, in all", "Recovery", ge=0)

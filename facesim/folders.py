"""Where facesim keeps, on this user's account, what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The user's cache folder, or the one that `FACESIM_CACHE` names. It need not exist yet."""
    return Path(os.environ.get("FACESIM_CACHE") or platformdirs.user_cache_path("facesim"))


def state_folder() -> Path:
    """The user's folder for what is kept and cannot be made again, or the one for caches that `FACESIM_CACHE` names. It
    need not exist yet.
    """
    return Path(os.environ.get("FACESIM_CACHE") or platformdirs.user_state_path("facesim"))

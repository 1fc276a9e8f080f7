"""Where a job runs. `BACKENDS` names them; adding one is one module with a `Backend` and one line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from facesim.errors import InputError

if TYPE_CHECKING:
    from facesim.backends.base import Backend

BACKENDS: dict[str, str] = {
    "local": "facesim.backends.local",
    "docker": "facesim.backends.docker",
    "sagemaker": "facesim.backends.sagemaker",
}


def backend(name: str) -> Backend:
    """The backend called `name`, one of `BACKENDS`.

    Raises:
        InputError: there is none of that name.
    """
    if name not in BACKENDS:
        raise InputError(f"there is no backend {name}; allowed are {', '.join(BACKENDS)}")
    return import_module(BACKENDS[name]).BACKEND

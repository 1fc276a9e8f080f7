"""What all parts of a specification are: frozen, and strict about what they are given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from facesim.util.registry import Registry

#: The path of a file or folder on this machine, in which `~` is a home folder, as in a shell.
LocalPath = Annotated[str, AfterValidator(os.path.expanduser)]


class Frozen(BaseModel):
    # Validators are built when first used: help needs none of them, and a command those of few models.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def named_part(given: Any, base: type[Frozen], registry: Registry[Any], default: str) -> Any:
    """A part whose class is found by name: given as one, by its name, or by its fields as JSON has them.

    Raises:
        ValueError: there is no part of this name, its fields are not allowed, or what was given is none of the three.
    """
    if isinstance(given, base):
        return given
    fields = {"name": given} if isinstance(given, str) else given
    if not isinstance(fields, Mapping):
        raise ValueError(f"must be a name or an object with one, not {given!r}")
    return registry[registry.check(fields.get("name", default))].model_validate(dict(fields))

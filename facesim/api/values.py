"""Values as Python's libraries have them, made such as options take."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Set
from typing import Any

from facesim.util.errors import InputError


def options_of(given: Any, name: str) -> dict[str, Any]:
    """Options with their values as `value_of` makes them.

    Raises:
        InputError: `given`, which is called `name`, is no mapping.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{name} is {given!r}; it has to be a dict of options", field=name, value=given)
    return {option: value_of(value) for option, value in given.items()}


def value_of(given: Any) -> Any:
    """A path as a text, a number of NumPy's as Python's, several values of whatever kind as a list. What is none of
    these is left as it is.
    """
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    if hasattr(given, "tolist") and getattr(given, "ndim", 0) < 2:  # NumPy's, pandas' and PyTorch's
        return given.tolist()
    if isinstance(given, Set):  # it has no order, and a study is the same whenever it is written
        return sorted(map(value_of, given), key=repr)
    return [value_of(one) for one in given] if isinstance(given, (list, tuple, range, Iterator)) else given

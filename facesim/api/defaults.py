"""What stands for an argument that was left out."""

from __future__ import annotations

from collections.abc import Iterable

from facesim.study.observers import Observer
from facesim.util.errors import InputError


def observers_or_display(given: Iterable[Observer] | None) -> Iterable[Observer]:
    """The observers that were given; the display on the terminal where they were left out.

    Raises:
        InputError: what was given are none.
    """
    if given is not None:
        listed = list(given) if isinstance(given, Iterable) else given
        if not isinstance(listed, list) or not all(isinstance(one, Observer) for one in listed):
            message = (
                f"observers is {listed!r}; it has to be a list of facesim.Observer, such as [facesim.JsonLines(...)]"
            )
            raise InputError(message, field="observers", value=given)
        return listed
    from rich.console import Console

    from facesim.study.progress import display

    return [display(Console())]

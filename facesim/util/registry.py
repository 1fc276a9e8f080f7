"""What facesim is made of, by name: strategies, backends, models, heads, datasets, collectors, exporters.

Each registry maps a name to a part. A built-in one is the part itself, or a dotted path that is loaded when it is first
asked for, so that listing names costs no import. Other packages add parts through entry points of the registry's group:

    [project.entry-points."facesim.models"]
    my-net = "my_package.my_net:MODEL"

A plugin that cannot be loaded is reported with its name and left out of listings; asking for it by name is an error.
`docs/extending.md` walks through a part of each kind.
"""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar

from facesim.util.errors import InputError

Part = TypeVar("Part")


@functools.cache
def _installed() -> EntryPoints:
    """The entry points of all packages, read once for all registries: each reading opens a file of every package."""
    return entry_points()  # type: ignore[return-value]


class PluginWarning(UserWarning):
    """A plugin was left out, and why."""


class Registry(Mapping[str, Part], Generic[Part]):
    """Parts of one kind by name, the built-in ones first. Iterating gives names and loads nothing."""

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str | Part]):
        """`kind` is what messages call a part; `builtin` maps names to parts, or to where they are (`module:name`)."""
        self.kind, self.group = kind, group
        self._builtin = dict(builtin)
        self._loaded: dict[str, Part] = {}

    @functools.cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        plugins: dict[str, EntryPoint] = {}
        for point in _installed().select(group=self.group):
            if point.name in self._builtin or point.name in plugins:
                _warn(f"the {self.kind} {point.name!r} of {_package(point)} is left out: the name is taken")
            else:
                plugins[point.name] = point
        return plugins

    def __iter__(self) -> Iterator[str]:
        yield from self._builtin
        yield from self._plugins

    def __len__(self) -> int:
        return len(self._builtin) + len(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._plugins

    def __getitem__(self, name: str) -> Part:
        """The part called `name`.

        Raises:
            KeyError: there is none.
            InputError: it is a plugin's, which cannot be loaded.
        """
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def _load(self, name: str) -> Part:
        if name in self._builtin:
            part = self._builtin[name]
            return resolve(part) if isinstance(part, str) else part
        point = self._plugins[name]
        try:
            return point.load()
        except Exception as error:  # whatever another package's import raises
            raise InputError(
                f"the {self.kind} {name!r} of {_package(point)} cannot be loaded: {type(error).__name__}: {error}; "
                f"mend or uninstall {_package(point)}"
            ) from error

    def is_builtin(self, name: str) -> bool:
        """Whether the part called `name` is facesim's own."""
        return name in self._builtin

    def package(self, name: str) -> str | None:
        """The package, with its version, that a plugin's part is of: `my-package 1.2`; None of any other."""
        if (point := self._plugins.get(name)) is None:
            return None
        return f"{point.dist.name} {point.dist.version}" if point.dist else point.value

    def available(self) -> Iterator[tuple[str, Part]]:
        """Every part that can be loaded, with its name; a plugin that cannot is warned of."""
        for name in self:
            try:
                yield name, self[name]
            except InputError as error:
                _warn(str(error))

    def check(self, name: str) -> str:
        """`name`, if there is such a part.

        Raises:
            ValueError: there is none; the message has the allowed names and the closest.
        """
        if name not in self:
            close = difflib.get_close_matches(str(name), list(self), n=1)
            raise ValueError(f"must be one of {', '.join(self)}" + (f"; did you mean {close[0]}?" if close else ""))
        return name


def resolve(path: str) -> Any:
    """What `module:attribute` names."""
    module, attribute = path.split(":")
    return getattr(import_module(module), attribute)


def loaded(given: str | Callable[..., Any]) -> Callable[..., Any]:
    """A function that was given itself, or by where it is (`module:function`)."""
    return resolve(given) if isinstance(given, str) else given


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _warn(text: str) -> None:
    warnings.warn(text, PluginWarning, stacklevel=3)

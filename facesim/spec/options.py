"""Options: fields of the specification that a user sets, each defined once.

A field made by `option` carries its help, its group and how it is shown. From this one definition come the command
line (`facesim.cli.options`), the keys of a TOML file, the flat arguments of `make_job`, the JSON schema and the table
in the documentation.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from facesim.util.errors import InputError
from facesim.util.registry import Registry, resolve

#: Groups in the order in which help shows them.
GROUPS = ("Data", "Model", "Training", "Cluster", "Cost and spot", "Recovery", "AWS", "Kubernetes", "Output")


@dataclass(frozen=True)
class About:
    """How an option is shown: its group, whether it is one of the common ones, what stands for its default where that
    depends on something else, and the name of its value. `name` is the option's where it is not the field's. An option
    of a strategy that is `resumable` may be another when a run goes on. A value may hold `commas`: a list of such
    values is given by repeating the option, any other with commas. `frameworks` are those that heed it, where others do
    not.
    """

    group: str
    common: bool = False
    shown: str | None = None
    metavar: str | None = None
    name: str | None = None
    resumable: bool = False
    commas: bool = False
    frameworks: tuple[str, ...] = ()


def option(
    default: Any,
    help: str,
    group: str,
    *,
    common: bool = False,
    shown: str | None = None,
    metavar: str | None = None,
    name: str | None = None,
    resumable: bool = False,
    commas: bool = False,
    frameworks: tuple[str, ...] = (),
    **limits: Any,
) -> Any:
    """A field that is an option. `limits` are pydantic's, such as `ge=1`."""
    if group not in GROUPS:
        raise ValueError(f"group {group!r} is not one of {', '.join(GROUPS)}")
    about = About(group, common, shown, metavar, name, resumable, commas, frameworks)
    field: FieldInfo = Field(default, description=help, **limits)
    field.metadata.append(about)
    return field


@dataclass(frozen=True)
class OneOf:
    """The value is a name in a registry, which is `path`'s (`module:attribute`) and loaded when a value is checked."""

    path: str

    #: Whether values are allowed that are no names, which the command line then leaves to `__call__`.
    open: ClassVar[bool] = False

    @property
    def registry(self) -> Registry[Any]:
        return resolve(self.path)

    def __call__(self, name: str) -> str:
        return self.registry.check(name)


class NameIn(OneOf):
    """The same of a field that holds the name itself: it is checked."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self, handler(source))


@dataclass(frozen=True)
class Option:
    """One option: its name (`learning_rate`), where its value is in a job, and how it is shown.

    `kind` is the type of one value; `several` says that it takes more than one; `choices` gives the allowed values,
    where these can be listed, which `open` are not all; `of` names the strategies, backends or frameworks that have it,
    where not all have.
    """

    name: str
    path: tuple[str, ...]
    kind: type
    help: str
    about: About
    default: Any
    several: bool = False
    choices: Callable[[], list[str]] | None = None
    open: bool = False
    of: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return flag(self.name)

    @property
    def part(self) -> str:
        """The option whose value says whether a job has this one: strategy, backend or framework."""
        return "framework" if self.about.frameworks else self.path[0]

    def is_of(self, parts: Mapping[str, str]) -> bool:
        """Whether a job of this strategy, backend and framework has it."""
        return not self.of or parts[self.part] in self.of

    @property
    def shown_default(self) -> str:
        """The default as help shows it."""
        if self.about.shown is not None:
            return self.about.shown
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return "none" if self.default in (None, (), {}) else str(self.default)


def flag(name: str) -> str:
    """The command line's spelling of an option: `learning_rate` -> `--learning-rate`."""
    return "--" + name.replace("_", "-")


def without_flags(text: str) -> str:
    """A message with options as Python has them, `learning_rate`, in place of flags, `--learning-rate`. Commands that
    it names stay as a shell takes them.
    """
    command = r"facesim [a-z-]+(?: [a-z-]+)?(?: --[a-z-]+(?: (?!--)[^\s;,]+)?)+"
    option = r"(?<![\w-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)"
    return re.sub(f"{command}|{option}", lambda match: match[1].replace("-", "_") if match[1] else match[0], text)


@contextmanager
def as_in_python() -> Iterator[None]:
    """Within it, errors of wrong input name options as Python has them."""
    try:
        yield
    except InputError as error:
        raise error.spelled(without_flags) from error


def fields(model: type[BaseModel], path: tuple[str, ...] = (), prefix: str = "", of: str = "") -> Iterator[Option]:
    """The options among a model's own fields."""
    for name, field in model.model_fields.items():
        about = next((extra for extra in field.metadata if isinstance(extra, About)), None)
        if about is None:
            continue
        kind, several, choices = _kind(field)
        yield Option(
            name=about.name or prefix + name,
            path=(*path, name),
            kind=kind,
            help=field.description or "",
            about=about,
            default=field.get_default(call_default_factory=True),
            several=several,
            choices=choices,
            open=any(isinstance(extra, OneOf) and extra.open for extra in field.metadata),
            of=about.frameworks or ((of,) if of else ()),
        )


def _kind(field: FieldInfo) -> tuple[type, bool, Callable[[], list[str]] | None]:
    named = next((extra for extra in field.metadata if isinstance(extra, OneOf)), None)
    annotation, choices = field.annotation, (lambda: list(named.registry)) if named else None
    annotation = _without_none(annotation)
    several = False
    while get_origin(annotation) is Annotated:
        annotation = _without_none(get_args(annotation)[0])
    if get_origin(annotation) in (tuple, dict) or (
        isinstance(get_origin(annotation), type) and issubclass(get_origin(annotation), Mapping)
    ):
        several, annotation = True, get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        values = get_args(annotation)
        return type(values[0]), several, (lambda: [str(value) for value in values])
    return annotation if isinstance(annotation, type) else str, several, choices


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0]
    return annotation

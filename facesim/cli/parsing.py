"""How options are read: strictly, and with a guess of what was meant.

`Command` is click's, in which an option that takes one value may be given once; `Choice` is click's, which names the
closest of what is allowed. `Values` reads a list, `1,2,4`.
"""

from __future__ import annotations

import difflib
import functools
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from facesim.cli.output import writing
from facesim.planning import quantities
from facesim.spec.study import OF_THE_FILE
from facesim.util.errors import InputError
from facesim.util.files import read_toml


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing where no allowed word is close to what was given."""
    close = difflib.get_close_matches(given, list(allowed), n=1)
    return f"; did you mean {close[0]}?" if close else ""


class Choice(click.Choice):
    """One of several words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            error.message = error.message.removesuffix(".") + (did_you_mean(str(value), self.choices) or ".")
            raise


class NumberChoice(Choice):
    """One of several whole numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return int(super().convert(str(value), param, ctx))


class OpenChoice(Choice):
    """One of several words, or a file and a function in it, which is looked at where it is used."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and ".py" in value else super().convert(value, param, ctx)


class Choices(Choice):
    """Several of them, with commas between: a tuple."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        words = value.split(",") if isinstance(value, str) else value
        return tuple(super(Choices, self).convert(word.strip(), param, ctx) for word in words)


def flattened(_: click.Context, __: click.Parameter, given: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """What `Choices` gave of an option that may be repeated, none twice."""
    return tuple(dict.fromkeys(word for words in given for word in words))


class FilePath(click.Path):
    """A path. `~` in it is a home folder also where no shell reads it: in a TOML file, and after `--output=`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)


class Number(click.FloatRange):
    """A number within limits; one that is none (nan), or without end, is refused as well."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


class Dollars(click.types.FloatParamType):
    """An amount of money, `$5`; a TOML file may have it as a number."""

    name = "dollars"

    def __init__(self, option: str):
        self._option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return quantities.dollars(str(value), self._option)


def listed(value: Any, kind: click.ParamType, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
    """The values of a type that a list has, or a text with commas between them, or the one that is given."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    return [kind.convert(part.strip() if isinstance(part, str) else part, param, ctx) for part in parts]


class Values(click.ParamType):
    """One value of another type, or several with commas between them: `4` is that value, `1,2,4` is a list.

    Attributes:
        kind: the type of one value.
        items: that of each of several.
    """

    takes_list = True

    def __init__(self, kind: Any):
        self.kind = self.items = click.types.convert_type(kind)
        self.name = self.kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        read = listed(value, self.kind, param, ctx)
        return read[0] if len(read) == 1 else read

    def get_metavar(self, param: click.Parameter, *args: Any, **further: Any) -> str | None:
        return self.kind.get_metavar(param, *args, **further)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        completions = self.kind.shell_complete(ctx, param, last)
        return [CompletionItem(before + comma + item.value, type=item.type, help=item.help) for item in completions]


class Flag(click.types.BoolParamType):
    """Yes or no; a file may have a list of both."""

    takes_list = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, (list, tuple)):
            return [super(Flag, self).convert(one, param, ctx) for one in value]
        return super().convert(value, param, ctx)


def kind_of(option: click.Option) -> click.ParamType:
    """The type of one value of an option."""
    return option.type.kind if isinstance(option.type, Values) else option.type


def default_of(option: click.Option) -> Any:
    """The default of an option; None where it has none, for which click has an object of its own from 8.3 on."""
    return option.to_info_dict()["default"]


def takes_list(option: click.Option) -> bool:
    """Whether an option may have several values: is `multiple`, or of a type that `takes_list`."""
    return option.multiple or getattr(option.type, "takes_list", False)


class _Strict(click.Command):
    """A command whose options may each be given once, but for those that collect values."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            _refuse_what_no_file_is_called(args)
            *_, order = self.make_parser(ctx).parse_args(list(args))
            for option in dict.fromkeys(order):
                if isinstance(option, click.Option) and not option.multiple and order.count(option) > 1:
                    raise click.UsageError(
                        f"Option '{max(option.opts, key=len)}' is given {order.count(option)} times; give it once", ctx
                    )
        with writing():  # help, and the version
            return super().parse_args(ctx, args)


class Command(_Strict):
    """A command."""


def _refuse_what_no_file_is_called(args: Iterable[Any]) -> None:
    for value in args:
        if isinstance(value, str) and "\0" in value:
            raise InputError(f"{value!r} holds a NUL character, which no file or option of facesim's can; leave it out")


command = functools.partial(click.command, cls=Command)


class Group(_Strict, click.Group):
    """A group of such commands."""

    command_class = Command


Group.group_class = Group
group = functools.partial(click.group, cls=Group)

#: What a TOML file calls the types of its values.
_TOML_TYPES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a table",
}


#: Options that say what a command does this time: no file has them.
OF_THE_COMMAND = {"config", "dry_run", "as_json", "help_all", "resumed", "again"}


def read_config(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Let a TOML file, or a JSON file, give the defaults of the command's options; returns its path.

    Raises:
        InputError: it cannot be read, has a key that is no option, or a value that is not of the option's type.
    """
    if path is None or ctx.resilient_parsing:
        return path
    options = {
        option.name: option
        for option in ctx.command.params
        if isinstance(option, click.Option) and option.name not in OF_THE_COMMAND
    }
    settings: dict[str, Any] = {}
    given = param.opts[0] if isinstance(param, click.Option) else "the study"
    for key, value in read_toml(path, given).items():
        name = key.replace("-", "_")
        if name in OF_THE_FILE:
            continue
        if name not in options:
            guess = did_you_mean(name, options)
            raise InputError(f"{given} {path}: unknown {key}{guess or '; allowed are ' + ', '.join(sorted(options))}")
        if name in settings:
            raise InputError(f"{given} {path}: {name} is given twice, with - and with _; give it once")
        settings[name] = _value(options[name], value, f"{given} {path}: {key}")
    ctx.default_map = settings
    return path


def _value(option: click.Option, value: Any, where: str) -> Any:
    """A TOML value as click takes it: of the option's own type, numbers also as text; a list where it may have several.

    Raises:
        InputError: it is of another type; `where` begins the message.
    """
    if value == [] and option.multiple and default_of(option):  # else it would have its default after all
        raise InputError(f"{where} has no values; give one or more, or leave it out")
    if takes_list(option) and isinstance(value, list):
        return [_single(option, each, where) for each in value]
    single = _single(option, value, where)
    return [single] if option.multiple else single


def _single(option: click.Option, value: Any, where: str) -> Any:
    kind = kind_of(option)
    if option.is_flag:
        allowed: tuple[type, ...] = (bool,)
    elif isinstance(kind, (click.types.IntParamType, click.IntRange, NumberChoice)):
        allowed = (int, str)
    elif isinstance(kind, (click.types.FloatParamType, click.FloatRange)):
        allowed = (float, int, str)
    else:
        allowed = (str,)
    if type(value) not in allowed:
        seen = _TOML_TYPES.get(type(value), "a date or time")
        wanted = _TOML_TYPES[allowed[0]] + (", or a list of them" if takes_list(option) else "")
        raise InputError(f"{where} is {seen} ({_short(value)}); it has to be {wanted}")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**63:
        raise InputError(f"{where} is {_short(value)}, which no option can be; give a smaller number")
    _refuse_what_no_file_is_called([value])
    return value


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        text = "a very large number"
    return text if len(text) <= 60 else text[:57] + "..."

"""How options are read: strictly, and with a guess of what was meant.

`Command` is click's, in which an option that takes one value may be given once; `Choice` is click's, which names the
closest of what is allowed.
"""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from facesim.cli.output import writing
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


class Number(click.FloatRange):
    """A number within limits; one that is none (nan), or without end, is refused as well."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


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
OF_THE_COMMAND = {"config", "dry_run", "as_json", "help_all", "resumed"}


def read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Let a TOML file give the defaults of the command's options.

    Raises:
        InputError: it cannot be read, has a key that is no option, or a value that is not of the option's type.
    """
    if path is None or ctx.resilient_parsing:
        return
    options = {
        option.name: option
        for option in ctx.command.params
        if isinstance(option, click.Option) and option.name not in OF_THE_COMMAND
    }
    settings: dict[str, Any] = {}
    for key, value in read_toml(path, "--config").items():
        name = key.replace("-", "_")
        if name not in options:
            guess = did_you_mean(name, options)
            raise InputError(f"--config {path}: unknown {key}{guess or '; allowed are ' + ', '.join(sorted(options))}")
        if name in settings:
            raise InputError(f"--config {path}: {name} is given twice, with - and with _; give it once")
        settings[name] = _value(options[name], value, f"--config {path}: {key}")
    ctx.default_map = settings


def _value(option: click.Option, value: Any, where: str) -> Any:
    """A TOML value as click takes it: of the option's own type, numbers also as text; a list where it may be repeated.

    Raises:
        InputError: it is of another type; `where` begins the message.
    """
    if option.multiple:
        return [_single(option, each, where) for each in (value if isinstance(value, list) else [value])]
    return _single(option, value, where)


def _single(option: click.Option, value: Any, where: str) -> Any:
    if option.is_flag:
        allowed: tuple[type, ...] = (bool,)
    elif isinstance(option.type, (click.types.IntParamType, click.IntRange)):
        allowed = (int, str)
    elif isinstance(option.type, (click.types.FloatParamType, click.FloatRange)):
        allowed = (float, int, str)
    else:
        allowed = (str,)
    if type(value) not in allowed:
        seen = _TOML_TYPES.get(type(value), "a date or time")
        wanted = _TOML_TYPES[allowed[0]] + (", or a list of them" if option.multiple else "")
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

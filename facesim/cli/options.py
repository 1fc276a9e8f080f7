"""Options of the command line, made from the fields of a job (`facesim.spec.job.options`), and how help shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from facesim.cli.completion import data_sets, paths
from facesim.cli.parsing import Choice, Command, Flag, NumberChoice, OpenChoice, Values
from facesim.spec.job import options
from facesim.spec.options import GROUPS, About, Option
from facesim.util.words import count_text

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


#: Options that say how a data set is read and split, for commands that take the data set as an argument.
DATA = ("test", "split", "test_part", "image_size", "held_out", "min_images", "image_feature", "label_feature")

#: Key in a context's `meta`: help shows the options that are not common, too.
_SHOW_ALL = "facesim.show_all"


class GroupedOption(click.Option):
    """An option that help shows in its group, and only with --help-all where it is not a common one."""

    def __init__(self, *args: Any, about: About, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.about = about


class GroupedCommand(Command):
    """A command whose help shows the common options in groups; `--help-all` shows all of them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        hidden = 0
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            about = getattr(param, "about", About("Output", common=True))
            if record is None:
                continue
            if about.common or ctx.meta.get(_SHOW_ALL):
                groups[about.group].append(record)
            else:
                hidden += 1
        for group, records in groups.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)
        if hidden:
            formatter.write_paragraph()
            formatter.write_text(f"{count_text(hidden, 'more option')}: --help-all")


def _show_all(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        ctx.meta[_SHOW_ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


#: What completes a value, by the name of the value.
_COMPLETED = {"FILE": paths, "RUN": paths, "DATA": data_sets}


def command_option(*names: str, group: str = "Output", common: bool = True, **attributes: Any) -> Decorator:
    """An option of a command's own, in a group of its help."""
    return click.option(*names, cls=GroupedOption, about=About(group, common), **attributes)


def help_all() -> Decorator:
    """`--help-all`, for a `GroupedCommand`."""
    return command_option("--help-all", is_flag=True, is_eager=True, expose_value=False, callback=_show_all,
               help="show every option and exit")  # fmt: skip


def job_options(only: Iterable[str] | None = None, without: Iterable[str] = (), lists: bool = False) -> Decorator:
    """Options that describe jobs, in the order of the groups: `only` those named, or all but `without`.

    With `lists` each takes several values, for a job each. What is not given is None: the job's default.
    """
    table = options()
    chosen = [table[name] for name in (table if only is None else only) if name not in set(without)]
    chosen.sort(key=lambda one: GROUPS.index(one.about.group))

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(chosen):
            command = _click_option(one, lists)(command)
        return command

    return decorate


def _click_option(option: Option, lists: bool) -> Decorator:
    names = [f"{option.flag}/--no-{option.flag[2:]}"] if option.kind is bool else [option.flag]
    belongs = f"{', '.join(option.of)}: " if option.of and option.path[0] == "strategy" else ""
    return click.option(
        *names,
        cls=GroupedOption,
        about=option.about,
        type=_type(option, lists),
        multiple=option.several or (lists and option.about.commas),
        default=None,
        callback=_none_if_empty if option.several else one_or_several,
        metavar=option.about.metavar,
        shell_complete=_COMPLETED.get(option.about.metavar or ""),
        help=f"{belongs}{option.help}  [default: {option.shown_default}]",
    )


def _type(option: Option, lists: bool) -> Any:
    """The click type of an option's value; with `lists` of several."""
    if option.kind is bool:
        return Flag() if lists else None
    kind: Any = option.kind
    if option.choices:
        kind = (OpenChoice if option.open else NumberChoice if option.kind is int else Choice)(option.choices())
    return Values(kind) if lists and not option.several and not option.about.commas else kind


def _none_if_empty(_: click.Context, __: click.Parameter, value: Any) -> Any:
    """An option that may be given several times and was not is left out, like any other."""
    return None if value == () else value


def one_or_several(_: click.Context, param: click.Parameter, value: Any) -> Any:
    """What an option was given, as often as it was: one value as such, several in a list, None if it was left out."""
    if not param.multiple or value is None:
        return value
    flat = [each for given in value for each in (given if isinstance(given, list) else [given])]
    return flat if len(flat) > 1 else next(iter(flat), None)

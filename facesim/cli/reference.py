"""The command `options`: every option of a study, as documentation and as the JSON schema of a TOML file."""

from __future__ import annotations

from typing import Any

import click

from facesim.cli.output import echo, echo_json
from facesim.cli.parsing import OF_THE_COMMAND, OpenChoice, Values, command, default_of, kind_of, takes_list
from facesim.spec.job import options, schema_of
from facesim.spec.options import GROUPS

_INTRODUCTION = """\
# Options

Every option of `facesim compare`, and of `facesim run`, whose default strategy is `single` alone. On the command line
it is written as here: `--learning-rate 0.001`. In a TOML file (`--config`) and in Python it has no dashes:
`learning_rate = 0.001`, `facesim.run(learning_rate=0.001)`.

Every option of a job takes a list, which makes a study of all combinations: `--workers 1,2,4 --batch 16,32`, in a file
`workers = [1, 2, 4]`. Texts that may hold commas, such as paths, are repeated: `--data orl --data photos`. What is yes
or no has a list in a file: `augment = [true, false]`.

Made by `facesim options`; `facesim options --json` prints the JSON schema of a TOML file.
"""

_METRICS_INTRODUCTION = """\
# Metrics

Every measurement of every run, local, in containers or at AWS, is a row of one table: {columns}.
The rows are in `metrics/*.jsonl` of a run directory; `facesim.load(RUN).frame` has them as a data frame. Percent are
always 0 to 100 of the whole host. A gauge is a level at an instant, a counter a total since the task began, a duration
the length of something that has ended.

Made by `facesim options --metrics`.
"""


@command("options")
@click.option("--json", "as_json", is_flag=True, help="print the JSON schema of a TOML file for --config")
@click.option("--metrics", is_flag=True, help="list what runs measure in place of the options")
def reference(as_json: bool, metrics: bool) -> None:
    """List every option of a study: its values, default and meaning."""
    from facesim.cli.study import compare

    if metrics:
        from facesim.metrics.schema import METRICS

        if as_json:
            echo_json({name: metric._asdict() for name, metric in METRICS.items()})
        else:
            echo(metrics_markdown().rstrip("\n"))
    elif as_json:
        echo_json(toml_schema(compare))
    else:
        echo(markdown(compare).rstrip("\n"))


def toml_schema(study: click.Command) -> dict[str, Any]:
    """The JSON schema of a TOML file with options of the command `study`."""
    properties = {param.name: _schema(param) for param in _settings(study)}
    dashed = {name.replace("_", "-"): {"$ref": f"#/properties/{name}"} for name in properties if "_" in name}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "facesim study",
        "description": "Options of facesim compare and facesim run, as --config takes them",
        "type": "object",
        "properties": properties | dashed,
        "additionalProperties": False,
    }


def _settings(study: click.Command) -> list[click.Option]:
    """The options that a file can have."""
    given = [param for param in study.params if isinstance(param, click.Option)]
    return [param for param in given if param.name not in OF_THE_COMMAND]


def _schema(param: click.Option) -> dict[str, Any]:
    known = options().get(param.name or "")
    if known:
        schema = schema_of(known)
    else:
        schema = {"description": param.help, **_type(param)}
        if isinstance(default := default_of(param), (bool, int, str)):
            schema["default"] = default
    if not takes_list(param):
        return schema
    about = {key: schema.pop(key) for key in ("description", "default") if key in schema}
    items = schema
    if isinstance(param.type, Values) and param.type.items is not param.type.kind:
        items = _type_of(param.type.items)
    return {**about, "anyOf": [schema, {"type": "array", "items": items}]}


def _type(param: click.Option) -> dict[str, Any]:
    if param.is_flag:
        return {"type": "boolean"}
    return _type_of(kind_of(param))


def _type_of(kind: click.ParamType) -> dict[str, Any]:
    if isinstance(kind, click.IntRange):
        limits = {"minimum": kind.min, "maximum": kind.max}
        return {"type": "integer", **{name: limit for name, limit in limits.items() if limit is not None}}
    if isinstance(kind, click.Choice) and not isinstance(kind, OpenChoice):
        return {"type": "string", "enum": list(kind.choices)}
    return {"type": "string"}


def markdown(study: click.Command) -> str:
    """Every option of the command `study` in tables, one a group."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for param in study.params:
        if isinstance(param, click.Option) and (about := getattr(param, "about", None)):
            groups[about.group].append(_row(param))
    tables = [
        "\n".join([f"## {group}\n", "| option | value | default | meaning |", "|---|---|---|---|", *rows])
        for group, rows in groups.items()
        if rows
    ]
    return "\n\n".join([_INTRODUCTION.rstrip("\n"), *tables]) + "\n"


def metrics_markdown() -> str:
    """Every metric of the schema in a table."""
    from facesim.metrics.schema import METRICS, Sample

    rows = [_line([f"`{name}`", metric.unit, metric.kind, metric.meaning]) for name, metric in METRICS.items()]
    columns = ", ".join(f"`{name}`" for name in Sample._fields)
    introduction = _METRICS_INTRODUCTION.format(columns=columns)
    return "\n".join([introduction, "| metric | unit | kind | meaning |", "|---|---|---|---|", *rows]) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _row(param: click.Option) -> str:
    known = options().get(param.name or "")
    flags = " / ".join(f"`{flag}`" for flag in (*param.opts, *param.secondary_opts))
    meaning, default = (param.help or "").partition("  [default: ")[0], default_of(param)
    if known and default is None:
        shown = known.shown_default
    elif param.is_flag and not param.secondary_opts:
        shown = ""
    else:
        given = default if isinstance(default, (list, tuple)) else [default]
        shown = ", ".join("yes" if value is True else str(value) for value in given if value is not None)
    return _line([flags, _values(param), shown, meaning])


def _values(param: click.Option) -> str:
    if param.is_flag:
        return ""
    kind = kind_of(param)
    if isinstance(kind, click.Choice):
        return ", ".join(kind.choices)
    if param.metavar:
        return param.metavar
    return {"integer range": "whole number", "integer": "whole number", "float": "number"}.get(kind.name, "text")

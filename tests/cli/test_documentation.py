"""What README and documentation tell readers to type is what facesim takes."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

import facesim as package
from facesim.cli import facesim

ROOT = Path(__file__).parents[2]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(text: str) -> Iterator[list[str]]:
    """The words after `facesim` of each command in code, inline or in a block."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *re.findall(r"`(facesim [^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))]:
        words: list[str] = []
        for word in [*shlex.shlex(line, posix=True, punctuation_chars=True), ";"]:
            if set(word) <= set(";&|()<>"):
                if words[:1] == ["facesim"] or words[1:3] == ["-m", "facesim"]:
                    yield words[words.index("facesim") + 1 :]
                words = []
            else:
                words.append(word)


def parse(words: list[str]) -> None:
    """Parse a command. What its values are is not looked at: readers have photographs and runs that tests lack.

    Raises:
        click.UsageError: there is no such command, or it has no such option.
    """
    place: click.Command = facesim
    while isinstance(place, click.Group):
        if words and words[0] in place.commands:
            place, words = place.commands[words[0]], words[1:]
        elif place is facesim and words and words[0].startswith("-") and words != ["--version"]:
            place = place.commands["compare"]
        else:
            break
    place.make_parser(click.Context(place)).parse_args(list(words))
    if isinstance(place, click.Group) and words and not words[0].startswith("-"):
        raise click.UsageError(f"there is no command {words[0]}")


def test_the_page_of_the_paper_shows_what_its_study_found():
    study, paper = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("studies/paper.md", "paper.md"))

    (table,) = re.findall(r"^\|[^\n]* published: .*?(?=\n\n)", study, re.MULTILINE | re.DOTALL)

    assert table in paper


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_is_one_and_has_these_options(page):
    for words in commands(page.read_text(encoding="utf-8")):
        try:
            parse(words)
        except click.UsageError as error:
            pytest.fail(f"facesim {shlex.join(words)}: {error.format_message()}")


def every_command(group: click.Group, names: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from every_command(one, (*names, name))
        else:
            yield " ".join((*names, name)), one


def test_the_commands_that_print_no_json_are_named():
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"These commands have no `--json`: (.*?)\. ", text)

    without = [name for name, one in every_command(facesim) if not any("--json" in param.opts for param in one.params)]

    assert sorted(re.findall(r"`([^`]+)`", listed)) == sorted(without)


def test_the_examples_in_python_name_what_there_is():
    for page in PAGES:
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            tree = ast.parse(block)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("facesim", "cluster"):
                    module = import_module(node.module)
                    assert [one.name for one in node.names if not hasattr(module, one.name)] == [], page
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "facesim":
                    assert node.attr in dir(package), f"{page}: facesim.{node.attr}"

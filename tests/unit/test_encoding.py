"""Text is read and written as UTF-8 whatever the user's locale is, and files of users only if they are files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("facesim", "cluster") for path in (PACKAGES / package).rglob("*.py"))


def _opens_text(call: ast.Call) -> bool:
    """Whether a call opens a text file: of `Path.read_text` and `write_text`, and of `open` in a text mode."""
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in ("read_text", "write_text"):
        ours = isinstance(function.value, ast.Name) and function.value.id == "formatter"  # click's, of help
        return not ours
    if isinstance(function, ast.Name) and function.id == "open":
        mode = call.args[1] if len(call.args) > 1 else ast.Constant("r")
    elif isinstance(function, ast.Attribute) and function.attr == "open":
        mode = call.args[0] if call.args else ast.Constant("")
    else:
        return False
    return isinstance(mode, ast.Constant) and bool(re.fullmatch("[rwaxt+]+", str(mode.value)))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGES).as_posix())
def test_every_text_file_is_opened_with_its_encoding_said(path):
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]

    silent = [
        f"line {call.lineno}"
        for call in calls
        if _opens_text(call) and "encoding" not in {keyword.arg for keyword in call.keywords}
    ]

    assert not silent

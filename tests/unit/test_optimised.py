"""`python -OO` leaves out asserts and docstrings: nothing may depend on either."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: Functions without effects, of which an assert may ask.
PURE = {"isinstance", "len", "all", "any", "callable"}


def sources() -> list[Path]:
    return [path for place in ("facesim", "cluster") for path in sorted((ROOT / place).rglob("*.py"))]


@pytest.mark.parametrize("path", sources(), ids=lambda path: ".".join(path.relative_to(ROOT).with_suffix("").parts))
def test_no_assert_does_anything(path):
    places = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assert):
            for part in ast.walk(node.test):
                does = isinstance(part, (ast.NamedExpr, ast.Await, ast.Yield))
                calls = isinstance(part, ast.Call) and getattr(part.func, "id", None) not in PURE
                if does or calls:
                    places.append(f"line {node.lineno}: {ast.unparse(node)}")

    assert places == []


def test_docstrings_are_for_readers_alone():
    used = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "__doc__" in line
    ]

    assert used == []


def optimised(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-OO", "-m", "facesim", *map(str, arguments)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_command_line_works_without_them(faces, tmp_path):
    planned = optimised("--data", faces, "--image-size", 32, "--dry-run", "--output", tmp_path / "runs")
    refused = optimised("run", "--learning-rate", -1)

    assert planned.returncode == 0, planned.stderr
    runs = json.loads(planned.stdout)["runs"]
    assert [run["job"]["strategy"]["name"] for run in runs] == ["single", "ps-async"]
    assert runs[0]["files"]["result.json"]
    assert (refused.returncode, refused.stderr) == (2, "facesim: --learning-rate -1.0 is not allowed: greater than 0\n")


def test_a_damaged_job_is_refused_without_asserts(tmp_path):
    look = "from facesim.runs.records import JobFields; "
    look += "JobFields.model_validate({'experiment': {'image_size': 'huge'}, 'strategy': 'single', 'shape': {}, "
    look += "'backend': 'local'})"

    ended = subprocess.run([sys.executable, "-OO", "-c", look], capture_output=True, text=True)

    assert "ValidationError" in ended.stderr


@pytest.mark.slow
def test_a_run_completes_without_them(faces, tmp_path):
    quick = ["--model", "compact-cnn", "--image-size", 32, "--epochs", 1, "--batch", 8]

    ended = optimised("run", "--data", faces, *quick, "--output", tmp_path / "runs", "--json")

    assert ended.returncode == 0, ended.stderr
    (result,) = json.loads(ended.stdout)["results"]
    assert result["state"] == "Completed"

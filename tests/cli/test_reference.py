"""What is generated from the table of options: documentation, the schema of a TOML file, what a shell completes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import CliRunner

from facesim.cli import facesim
from facesim.cli.completion import script
from facesim.spec.job import options
from tests.cli.test_documentation import every_command

ROOT = Path(__file__).parents[2]


def shown(*arguments: str) -> str:
    ended = CliRunner().invoke(facesim, arguments)
    assert ended.exit_code == 0, ended.output
    return ended.output


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    content = json.loads(shown("options", "--json"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


@pytest.mark.parametrize(("words", "page"), [(["options"], "options.md"), (["options", "--metrics"], "metrics.md")])
def test_the_documentation_has_options_and_metrics_as_they_are(words, page):
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == shown(*words), (
        f"run: facesim {' '.join(words)} > docs/{page}"
    )


@pytest.mark.parametrize("command", [one for _, one in every_command(facesim)], ids=lambda one: one.name)
def test_help_and_documentation_show_defaults_in_words(command):
    texts = [command.get_help(click.Context(command)), *(getattr(one, "help", "") or "" for one in command.params)]

    assert [text for text in texts if "default: name=" in text or "UNSET" in text] == []


def test_the_documentation_shows_what_is_compared_and_no_default_where_there_is_none():
    rows = {row.split("`")[1]: row.split(" | ") for row in shown("options").splitlines() if row.startswith("| `")}

    assert rows["--strategy"][2] == "single, ps-async"
    assert {rows[flag][2] for flag in ("--faults", "--config", "--json-lines", "--track")} == {""}
    assert (rows["--output"][2], rows["--parallel"][2], rows["--backend"][2]) == ("runs", "1", "local")


def test_every_option_is_in_the_schema(schema):
    properties = schema.schema["properties"]

    assert set(options()) - {"seed"} <= properties.keys()
    assert {"seeds", "spot", "faults", "output", "baselines", "learning-rate"} <= properties.keys()
    assert not {"config", "dry_run", "as_json", "help_all"} & properties.keys()


@pytest.mark.parametrize(
    "content",
    [
        {"epochs": 5, "strategy": ["single", "ps-async"], "seeds": 3, "data": "photos"},
        {"learning-rate": 0.001, "strategy": "single", "spot": True, "spot_rate": 2.0},
        {"backend": "sagemaker", "tags": ["team=faces"], "subnets": "subnet-1", "max_cost": 5},
        {"subset": ["images=5", "all"], "channels": 1, "baselines": False},
    ],
)
def test_a_file_that_facesim_takes_is_right_by_the_schema(schema, content):
    schema.validate(content)


@pytest.mark.parametrize(
    "content",
    [
        {"epochs": 0},
        {"epochs": "many"},
        {"strategy": ["ps-asink"]},
        {"held_out": 1.0},
        {"backend": "sagemkaer"},
        {"epohs": 3},
        {"seeds": 0},
        {"cache": "tape"},
    ],
)
def test_a_file_that_facesim_refuses_is_wrong_by_the_schema(schema, content):
    assert not schema.is_valid(content)


def completed(*words: str, module: bool = False) -> list[str]:
    """What bash completes, by the script, where the last of `words` is being written."""
    # Whether there is a program of this name does not matter: bash only calls the function.
    bin_folder = Path(sys.executable).parent
    command = [sys.executable, "-m", "facesim", *words] if module else [str(bin_folder / "facesim"), *words]
    quoted = " ".join(f"'{word}'" for word in command)
    ask = f'COMP_WORDS=({quoted}); COMP_CWORD={len(command) - 1}; compopt() {{ printf "%s " compopt "$@"; echo; }}'
    run = f'{script("bash")}\n{ask}\n_facesim_completion "{command[0]}"\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
    around = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["bash", "-c", run], capture_output=True, text=True, env=around)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split("\n")


@pytest.mark.parametrize("module", [False, True])
def test_bash_completes_commands_options_and_values(module):
    assert {"compare", "run", "completion"} <= set(completed("", module=module))
    assert completed("ev", module=module)[0] == "evaluate"
    assert "--learning-rate" in completed("--learn", module=module)
    assert {"ps-async", "ps-sync"} <= set(completed("run", "--strategy", "ps", module=module))


def test_bash_completes_files_and_data_sets():
    assert {"rendered", "compopt -o default "} <= set(completed("--data", "r"))
    assert "compopt -o default " in completed("evaluate", "ru")


def test_completing_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    completed("run", "--strategy", "")

    assert list(tmp_path.iterdir()) == []


#: How zsh shows completions, on paper: a word a line.
ZSH_ON_PAPER = """
compdef() { }
_describe() { print -l -- "${(@P)3}" }
compadd() { print -l -- "${(@P)argv[-1]}" }
_path_files() { print -- "path files $@" }
_default() { print -- default }
"""


def completed_by_zsh(*words: str) -> list[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    ask = f"{ZSH_ON_PAPER}\n{script('zsh')}\nwords=({quoted}) CURRENT={len(words)}\n_facesim_completion"
    ended = subprocess.run(["zsh", "-f", "-c", ask], capture_output=True, text=True, env=PYTHONS)
    assert ended.stderr == ""
    return [line.partition(":")[0] for line in ended.stdout.split("\n")]


def completed_by_fish(*words: str) -> list[str]:
    ask = f"{script('fish')}\ncomplete -C '{' '.join(words)}'"
    ended = subprocess.run(["fish", "--no-config", "-c", ask], capture_output=True, text=True, env=PYTHONS)
    assert ended.stderr == ""
    return [line.partition("\t")[0] for line in ended.stdout.split("\n")]


PYTHONS = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("program", [("facesim",), ("python", "-m", "facesim")], ids=" ".join)
@pytest.mark.parametrize("completed_by", [completed_by_zsh, completed_by_fish])
def test_zsh_and_fish_complete_commands_options_and_values(completed_by, program):
    shell = completed_by.__name__.rpartition("_")[2]
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")

    assert "evaluate" in completed_by(*program, "ev")
    assert "--learning-rate" in completed_by(*program, "--learn")
    assert {"ps-async", "ps-sync"} <= set(completed_by(*program, "run", "--strategy", "ps"))
    assert "ps-async" not in completed_by("python", "-m", "other", "run", "--strategy", "ps")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell):
    text = shown("completion", shell)

    assert "_FACESIM_COMPLETE" in text
    assert "%(" not in text


def test_help_shows_commands_in_sections_and_every_one_of_them():
    text = shown("--help")

    assert [line for line in text.splitlines() if line in ("Train and compare:", "Recognise:", "AWS and containers:")]
    assert [name for name in facesim.commands if f"\n  {name} " not in text] == []


def test_help_of_the_study_ends_with_examples():
    assert "Examples:" in [line.strip() for line in shown("compare", "--help").splitlines()[-10:]]

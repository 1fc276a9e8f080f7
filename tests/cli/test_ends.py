"""How a command ends where the world does not take part: no room, no reader, no encoding, no patience, no AWS."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from facesim import cli
from facesim.cli.parsing import command
from tests.conftest import Command, facesim_here

GOLDEN = Path(__file__).parents[1] / "golden" / "ps-async-killed"


def run(*arguments: object, **more: object) -> Command:
    """A command in a process of its own."""
    environment = {**os.environ, **more.pop("env", {})}
    ended = subprocess.run(
        [sys.executable, "-m", "facesim", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=more.pop("stdout", subprocess.PIPE),
        env=environment,
        timeout=100,
        **more,
    )
    return Command(ended.returncode, (ended.stdout or b"").decode("utf-8", "replace"), ended.stderr.decode())


@pytest.fixture
def full():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no device that is always full")
    with open("/dev/full", "wb") as device:
        yield device


@pytest.mark.parametrize("arguments", [["prices"], ["prices", "--json"], ["--help"], ["run", "--help"], ["--version"]])
def test_an_output_that_is_full_is_told_in_one_line(full, arguments):
    command = run(*arguments, stdout=full)

    assert command.code == 1
    assert command.errors == "facesim: cannot write to standard output: No space left on device\n"


@pytest.mark.slow
def test_a_table_for_a_full_output_is_told_in_one_line_and_the_report_is_there(full, tmp_path):
    command = run("report", GOLDEN, "--output", tmp_path / "report.html", stdout=full)

    assert command.errors == "facesim: cannot write to standard output: No space left on device\n"
    assert (tmp_path / "report.html").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["prices"], ["--help"], ["report", GOLDEN]])
def test_a_reader_that_has_gone_ends_a_command_without_a_word(tmp_path, arguments):
    reading, writing = os.pipe()
    os.close(reading)

    command = run(*arguments, stdout=writing, cwd=tmp_path)
    os.close(writing)

    assert (command.code, command.errors) == (1, "")


def test_neither_output_can_be_written(full):
    ended = subprocess.run([sys.executable, "-m", "facesim", "prices"], stdout=full, stderr=full)

    assert ended.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_an_output_of_ascii_alone_gets_a_table_in_ascii(tmp_path, env):
    command = run("report", GOLDEN, "--output", tmp_path / "report.html", env=env)

    assert command.code == 0, command.errors
    assert command.output.isascii()
    assert "held-out accuracy" in command.output
    assert "... 95 % interval" in command.output


#: Sends Ctrl-C, or the SIGNAL, when the module is about to be imported that TROUBLE names.
_INTERRUPTING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["TROUBLE"]:
            os.kill(os.getpid(), getattr(signal, os.environ.get("SIGNAL", "SIGINT")))

sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("click", ["prices"]),
        ("pydantic", ["--dry-run"]),
        ("pandas", ["report", GOLDEN]),
        ("numpy", ["report", GOLDEN]),
        ("tensorflow", ["models"]),
        ("keras", ["models"]),
    ],
)
def test_ctrl_c_during_imports_ends_in_one_line(tmp_path, module, arguments):
    (tmp_path / "sitecustomize.py").write_text(_INTERRUPTING)
    search = os.pathsep.join([str(tmp_path), *sys.path])

    command = run(*arguments, env={"PYTHONPATH": search, "TROUBLE": module}, cwd=tmp_path)

    assert (command.code, command.output) == (130, "")
    assert command.errors.strip() == "facesim: interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_what_ends_a_report_on_runs_says_what_is_kept_and_what_writes_it(tmp_path, signal):
    (tmp_path / "sitecustomize.py").write_text(_INTERRUPTING)
    search, ended = os.pathsep.join([str(tmp_path), *sys.path]), tmp_path / "a run"
    shutil.copytree(GOLDEN, ended)

    command = run("attach", ended, env={"PYTHONPATH": search, "TROUBLE": "facesim.report.html", "SIGNAL": signal})

    writes = f"facesim report '{ended}' --output '{ended / 'report.html'}'"
    assert command.code == 130
    assert f"the runs are kept, their report may not be: {writes}\n" in command.errors
    assert command.errors.endswith("facesim: interrupted\n") and not (ended / "report.html").exists()
    assert run(*shlex.split(writes)[1:]).code == 0 and (ended / "report.html").exists()


@pytest.mark.parametrize("asked", ["bash_source", "zsh_source", "bash_complete", "nonsense", ""])
def test_a_shell_that_asks_what_can_be_completed_starts_nothing(tmp_path, asked):
    env = {"_FACESIM_COMPLETE": asked, "COMP_WORDS": "facesim --strat", "COMP_CWORD": "1"}

    command = run(cwd=tmp_path, env=env)

    assert not list(tmp_path.iterdir())
    assert ("--strategy" in command.output) == (asked == "bash_complete")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["run", "--learning-rate", "1e-3", "--learning-rate", "2e-3"], "--learning-rate"),
        (["--workers", "1", "--workers", "2"], "--workers"),
        (["run", "--augment", "--no-augment"], "--augment"),
        (["run", "--config", "a", "--config", "b"], "--config"),
        (["prices", "--json", "--json"], "--json"),
        (["data", "render", "out", "--seed", "1", "--seed=2"], "--seed"),
        (["report", ".", "--output", "a", "--output", "b"], "--output"),
    ],
)
def test_an_option_that_takes_one_value_is_given_once(arguments, option):
    command = facesim_here(*arguments)

    assert command.code == 2
    assert f"Option '{option}' is given 2 times; give it once" in command.errors


def test_an_option_that_collects_values_is_given_as_often_as_one_likes(tmp_path):
    command = facesim_here("--strategy", "single", "--strategy", "ps-sync", "--data", tmp_path / "none", "--dry-run")

    assert "is given" not in command.errors
    assert "none" in command.errors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epocs = 3", "unknown epocs; did you mean epochs?"),
        ("learning-rat = 3", "unknown learning-rat; did you mean learning_rate?"),
        ("epochs = 1.5", "epochs is a number (1.5); it has to be a whole number"),
        ("epochs = true", "epochs is true or false (True); it has to be a whole number"),
        ("epochs = [[3]]", "epochs is a list ([3]); it has to be a whole number"),
        ("augment = 'yes'", "augment is a text ('yes'); it has to be true or false"),
        ("data = 5", "data is a whole number (5); it has to be a text"),
        ("data = 1979-05-27", "data is a date or time"),
        ("strategy = [1]", "strategy is a whole number (1); it has to be a text, or a list of them"),
        ("strategy = []", "strategy has no values; give one or more, or leave it out"),
        ("strategy = 'ps-asinc'", "did you mean ps-async?"),
        ("learning_rate = 1\nlearning-rate = 2", "learning_rate is given twice"),
        ('data = "a\\u0000b"', "NUL"),
        ("a = " + "[" * 10_000, "nested too deep"),
    ],
)
def test_a_configuration_that_is_wrong_says_where_and_what(tmp_path, content, message):
    file = tmp_path / "study.toml"
    file.write_text(content)

    command = facesim_here("--config", file, "--dry-run")

    assert command.code == 2
    assert message in command.errors


def test_a_configuration_gives_defaults_of_every_type(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        'strategy = "single"\nepochs = 3\nlearning-rate = 1\naugment = true\nsubset = ["images=5", "all"]\ntrack = []\n'
    )

    command = facesim_here("--config", file, "--dry-run", "--epochs", "4", "--data", "rendered")

    jobs = [one["job"]["experiment"] for one in json.loads(command.output)["runs"]]
    assert [(job["epochs"], job["learning_rate"], job["augment"]) for job in jobs] == [(4, 1.0, True)] * 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("study.toml", 'strategy = "single"\ndata = "rendered"\n'),
        ("study.json", '{"strategy": "single", "data": "rendered"}'),
    ],
)
def test_a_configuration_may_begin_with_the_mark_of_an_editor(tmp_path, name, content):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8-sig")

    command = facesim_here("--config", file, "--dry-run")

    assert [one["job"]["strategy"]["name"] for one in json.loads(command.output)["runs"]] == ["single"]


@pytest.mark.parametrize("command", ["plan", "tune"])
@pytest.mark.parametrize("budget", ["5", "5.0", "'$5'", "'5 dollars'"])
def test_a_budget_in_a_file_is_a_number_or_a_text(tmp_path, command, budget):
    file = tmp_path / "options.toml"
    file.write_text(f"budget = {budget}\n")

    context = cli.facesim.commands[command].make_context(command, ["--config", str(file)])

    assert context.params["budget"] == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "moderne"], "did you mean modern?"),
        (["--backend", "dockr"], "did you mean docker?"),
        (["tune", "--budget", "much"], "--budget 'much' is no amount of money"),
        (["run", "--model", "paper-cn"], "did you mean paper-cnn?"),
        (["--learnig-rate", "1"], "Did you mean"),
        (["comparr"], "Did you mean"),
    ],
)
def test_what_is_misspelt_is_guessed(arguments, message):
    command = facesim_here(*arguments)

    assert command.code == 2
    assert message in command.errors


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch):
    """A function that adds a command `broken`, which raises what it is given."""

    def add(error: BaseException) -> None:
        @command()
        def fails() -> None:
            raise error

        monkeypatch.setitem(cli.facesim.commands, "broken", fails)

    return add


def test_what_nothing_foresaw_names_the_command_and_keeps_its_traceback_for_its_user_alone(broken, cache):
    broken(ZeroDivisionError("division by zero"))

    command = facesim_here("broken")

    assert command.code == 1
    sentence, place = command.errors.strip().split("; details are in ")
    assert sentence == "facesim: broken ended unexpectedly: ZeroDivisionError: division by zero"
    file = Path(place.split(",")[0])
    assert file.is_relative_to(cache)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "Traceback" in file.read_text()
    assert "ZeroDivisionError" in file.read_text()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (EOFError("Ran out of input"), 1, "ended before it was complete: Ran out of input"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b"), 1, "No space left on device (/a/b)"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 1, "invalid start byte"),
        (MemoryError(), 1, "more memory than there is"),
        (KeyboardInterrupt(), 130, "facesim: interrupted"),
        (click.Abort(), 130, "facesim: interrupted"),
    ],
)
def test_each_end_has_its_words_and_code(broken, error, code, message):
    broken(error)

    command = facesim_here("broken")

    assert command.code == code
    assert message in command.errors
    assert "Traceback" not in command.errors


def test_an_import_that_an_interrupt_broke_is_an_interrupt(broken):
    error = ImportError("numpy is not installed rightly")
    error.__cause__ = KeyboardInterrupt()
    broken(error)

    assert facesim_here("broken").code == 130


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of an AWS configuration, and credentials that are never sent anywhere."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "config"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "localhost:5055"),
        ("AWS_ENDPOINT_URL", "http://"),
        ("AWS_ENDPOINT_URL", "http://[::1"),
        ("AWS_REGION", "not a region"),
        ("AWS_PROFILE", "nobody"),
        ("AWS_RETRY_MODE", "often"),
        ("AWS_MAX_ATTEMPTS", "many"),
        ("AWS_CA_BUNDLE", "/nowhere/at/all"),
    ],
)
def test_an_aws_variable_that_cannot_be_used_is_told(aws, monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    command = facesim_here("status", "facesim-one")

    assert command.code in (1, 2)
    assert "details are in" not in command.errors


@pytest.mark.parametrize("content", [b"[default\nregion = x", b"\xff\xfe", b"region = us-east-1", b"[profile a]\nx"])
def test_an_aws_configuration_that_is_malformed_is_told(aws, content):
    aws.write_bytes(content)

    command = facesim_here("status", "facesim-one")

    assert command.code == 2
    assert "cannot read AWS' configuration" in command.errors


def test_an_unknown_region_is_told(aws):
    command = facesim_here("policy", "trust", "--region", "mars-1")

    assert command.code == 2
    assert "mars-1" in command.errors


def test_credentials_that_ask_where_nobody_answers_are_no_interrupt(aws, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    aws.write_text(
        "[profile one]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = two\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/me\n"
        "[profile two]\naws_access_key_id = x\naws_secret_access_key = x\n"
    )

    command = run("status", "facesim-one", env={"AWS_PROFILE": "one"}, stdin=subprocess.DEVNULL)

    assert command.code == 2
    assert "MFA" in command.errors
    assert "interrupted" not in command.errors


@pytest.mark.parametrize("words", [("report", "nothing"), ("prices",)])
@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal_shows_colours_but_where_none_are_wanted(words, no_color):
    ours, terminal = os.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": no_color}
    command = [sys.executable, "-m", "facesim", *words]

    process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)

    os.close(terminal)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError as error:  # Linux says so of a terminal that all have left
        assert error.errno == errno.EIO
    os.close(ours)
    process.wait()
    assert shown
    assert (b"\x1b[3" in shown) == (no_color == "")

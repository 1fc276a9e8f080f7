"""Whatever a file holds, and whatever is typed: an exit code and words, never a traceback.

In this process, without TensorFlow: each case takes milliseconds.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import string
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rich.console import Console

from facesim.cli import facesim as group
from facesim.report import compare, print_report, to_json
from facesim.runs.directory import find_runs
from tests.conftest import Command, facesim_here

GOLDEN = Path(__file__).parents[1] / "golden" / "ps-async-killed"
FILES = sorted(str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*") if path.is_file())

cheap = settings(
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def some_and_many(
    holds: Callable[..., None], *strategies: st.SearchStrategy, some: int = 25, many: int = 300
) -> tuple[Callable, Callable]:
    """Two tests of one property: of some cases, and, among the exhaustive tests, of many."""
    few, more = (settings(cheap, max_examples=count)(given(*strategies)(holds)) for count in (some, many))
    return few, pytest.mark.slow(pytest.mark.exhaustive(more))


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-10, 10), st.integers(), st.floats(), st.text(max_size=8), st.just(10**30)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials and no region: what gets as far as AWS ends there at once."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


def orderly_end(command: Command) -> Command:
    """A command that ended as one should: done, or refused in words of our own."""
    output = command.errors + command.output
    assert command.code in (0, 1, 2), output
    assert "Traceback" not in output, output
    assert "details are in" not in output, output  # the last handler's: nothing here may need it
    assert command.code == 0 or command.errors.strip(), "it failed without a word"
    return command


def places(content: object, path: tuple = ()) -> Iterator[tuple]:
    """Where something is in JSON, as the keys that lead there."""
    if path:
        yield path
    if isinstance(content, dict):
        for key, value in content.items():
            yield from places(value, (*path, key))
    elif isinstance(content, list):
        for index, value in enumerate(content[:2]):
            yield from places(value, (*path, index))


def replaced(content: object, path: tuple, value: object) -> object:
    if not path:
        return value
    first, *rest = path
    if isinstance(content, dict):
        return {**content, first: replaced(content[first], tuple(rest), value)}
    return [replaced(part, tuple(rest), value) if at == first else part for at, part in enumerate(content)]


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, str, object]:
    """(file, kind of damage, with what)."""
    file = draw(st.sampled_from(FILES))
    kind = draw(
        st.sampled_from(["missing", "cut", "bytes", "folder", "nowhere", "pipe", "deep", "other", "field", "field"])
    )
    if kind == "field" and file.endswith(".json"):
        path = draw(st.sampled_from(sorted(places(json.loads((GOLDEN / file).read_text())), key=str)))
        return file, kind, (path, draw(VALUES))
    if kind == "field" and file.endswith(".jsonl"):
        lines = (GOLDEN / file).read_text().splitlines()
        number = draw(st.integers(0, len(lines) - 1))
        return file, kind, (number, draw(st.sampled_from(sorted(json.loads(lines[number])))), draw(VALUES))
    if kind == "cut":
        return file, kind, draw(st.floats(0, 1))
    if kind == "other":
        return file, kind, draw(VALUES)
    if kind in ("field", "bytes"):  # a log has no fields
        return file, "bytes", draw(st.binary(max_size=40))
    return file, kind, None


def damage(run: Path, file: str, kind: str, what: object) -> None:
    path = run / file
    content = path.read_bytes()
    path.unlink()
    if kind == "cut":
        path.write_bytes(content[: int(what * len(content))])
    elif kind == "bytes":
        path.write_bytes(what)
    elif kind == "folder":
        path.mkdir()
    elif kind == "nowhere":
        path.symlink_to(run / "nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "deep":
        path.write_text("[" * 100_000)
    elif kind == "other":
        path.write_text(json.dumps(what))
    elif kind == "field" and file.endswith(".json"):
        path.write_text(json.dumps(replaced(json.loads(content), *what)))
    elif kind == "field":
        number, key, value = what
        lines = content.splitlines()
        lines[number] = json.dumps({**json.loads(lines[number]), key: value}).encode()
        path.write_bytes(b"\n".join(lines) + b"\n")


@pytest.fixture
def fresh(tmp_path: Path):
    """A function that makes a folder with a whole run and one that can be damaged; returns the latter."""

    def make() -> Path:
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        shutil.copytree(GOLDEN, tmp_path / "runs" / "whole")
        return Path(shutil.copytree(GOLDEN, tmp_path / "runs" / "damaged"))

    return make


def a_damaged_run_does_not_keep_others_from_being_compared(fresh, tmp_path, how):
    run = fresh()
    damage(run, *how)

    comparison = compare(find_runs([tmp_path / "runs"]))

    assert {"whole", "damaged"} >= {record.run.id for record in comparison.records} >= {"whole"}
    if os.path.lexists(run / "job.json") and len(comparison.records) == 1:
        assert any("left out: damaged: " in warning for warning in comparison.warnings)
    json.dumps(to_json(comparison))
    print_report(comparison, Console(file=io.StringIO()))


test_others_are_compared, test_others_are_compared_often = some_and_many(
    a_damaged_run_does_not_keep_others_from_being_compared, damages()
)


@pytest.mark.slow
def a_report_with_its_plots_is_made_of_damaged_runs(fresh, tmp_path, how):
    run = fresh()
    damage(run, *how)

    assert (
        orderly_end(facesim_here("report", tmp_path / "runs", "--output", tmp_path / "report.html", "--json")).code == 0
    )


test_a_report_with_its_plots_is_made, test_a_report_with_its_plots_is_made_often = some_and_many(
    a_report_with_its_plots_is_made_of_damaged_runs, damages(), some=3, many=30
)


def test_a_run_that_cannot_be_read_is_named_and_left_out(fresh, tmp_path):
    run = fresh()
    (run / "result.json").write_text("{")

    command = orderly_end(facesim_here("report", tmp_path / "runs", "--output", tmp_path / "report.html"))

    assert command.code == 0
    assert "left out: damaged: cannot read" in " ".join(command.output.split())
    (tmp_path / "runs" / "whole" / "result.json").write_text("[]")
    refused = orderly_end(facesim_here("report", tmp_path / "runs", "--output", tmp_path / "report.html"))
    assert refused.code == 2
    assert "none of the runs can be read" in refused.errors


def a_command_on_a_damaged_run_ends_in_words(fresh, tmp_path, how, name):
    run = fresh()
    damage(run, *how)
    if name == "resume":
        arguments = ["run", "--resume", run]
    elif name == "verify":
        arguments = ["verify", run, tmp_path / "a.jpg", tmp_path / "b.jpg"]
    elif name == "export":
        arguments = ["export", run, "--output", tmp_path / "nowhere" / "model.keras"]
    elif name == "evaluate":
        arguments = ["evaluate", run / "job.json", "--pairs", run]
    else:
        arguments = [name, run]

    code = orderly_end(facesim_here(*arguments)).code
    if name not in ("logs", "status", "cancel"):  # these can be answered where the damage is elsewhere
        assert code != 0


test_a_command_ends_in_words, test_a_command_ends_in_words_often = some_and_many(
    a_command_on_a_damaged_run_ends_in_words,
    damages(),
    st.sampled_from(["logs", "status", "cancel", "resume", "verify", "export", "evaluate"]),
)


@pytest.mark.slow
def attaching_to_a_damaged_run_ends_in_words(fresh, how):
    run = fresh()
    damage(run, *how)

    orderly_end(facesim_here("attach", run))  # it has ended: its report is made, if it can be


test_attaching_ends_in_words, test_attaching_ends_in_words_often = some_and_many(
    attaching_to_a_damaged_run_ends_in_words, damages(), some=3, many=30
)


OPTIONS = sorted(option.name for option in group.commands["compare"].params if option.name not in ("config",))


def toml(value: object) -> str:
    if value is None:
        return "1979-05-27"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(value), repr(value))
    return json.dumps(value)


def a_toml_file_of_any_values_is_taken_or_refused_in_words(tmp_path, values):
    file = tmp_path / "study.toml"
    values = {name: value for name, value in values.items() if name not in ("output", "data", "pretrained")}
    text = "".join(f"{name} = {toml(value)}\n" for name, value in values.items())
    file.write_bytes(text.encode("utf-8", "surrogatepass"))

    # A folder without images: what is taken is refused then, before anything starts.
    (tmp_path / "empty").mkdir(exist_ok=True)
    orderly_end(facesim_here("compare", "--config", file, "--data", tmp_path / "empty", "--dry-run"))


test_toml_of_any_values, test_toml_of_any_values_often = some_and_many(
    a_toml_file_of_any_values_is_taken_or_refused_in_words,
    st.dictionaries(st.sampled_from(OPTIONS) | st.text(string.ascii_lowercase, min_size=1), VALUES, max_size=3),
)


def a_toml_file_of_any_bytes_is_taken_or_refused_in_words(tmp_path, content):
    file = tmp_path / "study.toml"
    file.write_bytes(content)

    orderly_end(facesim_here("compare", "--config", file, "--data", tmp_path / "none", "--dry-run"))


test_toml_of_any_bytes, test_toml_of_any_bytes_often = some_and_many(
    a_toml_file_of_any_bytes_is_taken_or_refused_in_words, st.binary(max_size=60)
)


WORDS = st.one_of(
    st.sampled_from(["compare", "run", "report", "evaluate", "prices", "data", "describe", "status", "--json", "--"]),
    st.sampled_from([f"--{name.replace('_', '-')}" for name in OPTIONS]),
    st.text(max_size=6),
    st.sampled_from(["0", "-1", "1e999", "nan", "9" * 5000, "single", "x" * 5000, "\0", "\udcff", "..", "/dev/null"]),
)


def any_words_end_in_words(tmp_path, words):
    # Nothing is to be trained or rendered: a study is asked for as a dry run of data that is not there.
    if not words or words[0] in ("compare", "run") or words[0].startswith("-"):
        words = [*words, "--dry-run", "--data", str(tmp_path / "none")]

    orderly_end(facesim_here(*words))


test_any_words, test_any_words_often = some_and_many(any_words_end_in_words, st.lists(WORDS, max_size=6))


@pytest.mark.parametrize("command", ["report", "evaluate", "embed", "verify", "identify", "export", "attach", "logs"])
@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "/dev/null", "/proc/self/mem", "\udcff", ""])
def test_a_path_that_is_no_run_is_refused_in_words(tmp_path, monkeypatch, command, path):
    monkeypatch.chdir(tmp_path)
    more = {"embed": ["a"], "verify": ["a", "b"], "identify": ["a", "b"]}.get(command, [])
    output = ["--output", str(tmp_path / "out.keras")] if command in ("embed", "export") else []

    assert orderly_end(facesim_here(command, path, *more, *output)).code in (1, 2)


@pytest.mark.parametrize(
    "file", ["job.json", "result.json", "events.jsonl", "metrics/chief-0.jsonl", "evaluation.json"]
)
def test_a_pipe_in_a_run_is_not_waited_for(fresh, tmp_path, file):
    run = fresh()
    (run / file).unlink(missing_ok=True)
    os.mkfifo(run / file)

    comparison = compare(find_runs([tmp_path / "runs"]))

    assert [record.run.id for record in comparison.records] == ["whole"]
    (sentence,) = [warning for warning in comparison.warnings if "left out" in warning]
    assert "a named pipe (FIFO), not a file" in sentence


@pytest.mark.parametrize("option", ["--config", "--faults", "--spot-trace"])
def test_a_pipe_or_a_device_as_settings_is_refused(tmp_path, option):
    os.mkfifo(tmp_path / "pipe")

    for place in (tmp_path / "pipe", "/dev/zero"):
        command = orderly_end(facesim_here("compare", option, place, "--dry-run", "--data", tmp_path / "none"))

        assert command.code == 2
        assert "not a file" in command.errors


@pytest.mark.parametrize("kind", ["pipe", "folder", "nameless", "device"])
def test_a_report_does_not_take_the_place_of_what_is_no_file(tmp_path, kind):
    place = tmp_path / "report.html"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    elif kind == "device":
        place = Path("/dev/null")
    before = os.stat(place) if kind != "nameless" else None

    command = orderly_end(facesim_here("report", GOLDEN, "--output", "" if kind == "nameless" else place))

    assert command.code == 2
    assert "cannot write the report" in command.errors
    assert before is None or os.stat(place).st_mode == before.st_mode


BASELINES = [
    "{",
    "[]",
    "5",
    '{"entries": 5}',
    '{"entries": [{}]}',
    '{"entries": [{"split": {}, "sha256": "x"}]}',
    "\xff",
]


@pytest.mark.parametrize("content", BASELINES)
def test_damaged_scores_of_classical_methods_keep_no_report_from_being_made(fresh, tmp_path, content):
    fresh()
    (tmp_path / "runs" / "baselines.json").write_bytes(content.encode("latin-1"))

    comparison = compare(find_runs([tmp_path / "runs"]))

    assert len(comparison.records) == 2
    assert any("left out: classical methods: " in warning for warning in comparison.warnings)


def test_damaged_scores_of_classical_methods_are_made_again(tmp_path, faces):
    (tmp_path / "baselines.json").write_text("{")

    assert orderly_end(facesim_here("baselines", faces, "--image-size", 32, "--output", tmp_path)).code == 0
    assert len(json.loads((tmp_path / "baselines.json").read_text())["entries"]) == 1


def test_scores_that_cannot_be_written_are_told(tmp_path, faces):
    (tmp_path / "file").write_text("")

    command = orderly_end(facesim_here("baselines", faces, "--image-size", 32, "--output", tmp_path / "file"))

    assert command.code == 1
    assert "cannot write" in command.errors and "--output" in command.errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "describe", "rendered", "--near", "nan"],
        ["verify", GOLDEN, "a", "b", "--threshold", "nan"],
        ["verify", GOLDEN, "a", "b", "--threshold", "inf"],
        ["evaluate", GOLDEN, "--far", "nan"],
    ],
)
def test_what_is_no_number_is_refused(arguments):
    command = orderly_end(facesim_here(*arguments))

    assert command.code == 2
    assert arguments[-2] in command.errors


def test_an_error_does_not_move_the_terminal_s_cursor(tmp_path):
    command = orderly_end(facesim_here("data", "describe", tmp_path / "\x1b[2J.csv"))

    assert "\x1b" not in command.errors


def test_a_folder_of_runs_that_cannot_be_listed_is_told(fresh, tmp_path, monkeypatch):
    run = fresh()
    listed = os.scandir

    def refusing(path):
        if os.fspath(path) == str(run):
            raise PermissionError(13, "Permission denied", str(run))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root, who often runs tests, may list everything

    assert [one.id for one in find_runs([tmp_path / "runs"])] == ["damaged", "whole"]


def test_embeddings_are_written_under_the_name_that_is_told(tmp_path):
    for output, message in (("embeddings", "must end in .npz"), ("none/embeddings.npz", "is no folder")):
        command = orderly_end(facesim_here("embed", GOLDEN, tmp_path / "a.jpg", "--output", tmp_path / output))

        assert command.code == 2
        assert message in command.errors
